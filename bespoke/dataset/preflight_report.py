"""What is known before the first step, as a person and as a script read it."""

from __future__ import annotations

import json
import shlex
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from bespoke import findings
from bespoke.dataset import loading
from bespoke.errors import BespokeError, ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bespoke.dataset.loading import Collection
    from bespoke.experiment.config import Experiment
    from bespoke.experiment.schedule import Length
    from bespoke.findings import Finding

UNTESTABLE = ("experiment_no_op", "experiment_misses_subject", "experiment_confounded")
"""Findings that leave a hypothesis untested, or its outcome without a cause."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is known before the start. `lines` say what the model sees of the experiment's subject;
    `exposure` and `before` are the share of training samples whose tag of each class is read to its
    end, here and in the parent.
    """

    experiment: Experiment
    collections: Mapping[str, Collection]
    data_findings: tuple[Finding, ...]
    option_findings: tuple[Finding, ...]
    lines: tuple[str, ...]
    exposure: Mapping[str, float]
    before: Mapping[str, float]
    length: Length

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*self.option_findings, *self.data_findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each code."""
        return dict(Counter(finding.code for finding in self.findings))

    @property
    def verdict(self) -> tuple[str, ...]:
        """Whether the run may start, then whether it can test its hypothesis."""
        counts = Counter(finding.severity for finding in self.findings)
        state = "cannot start" if counts["error"] else "can start"
        numbers = ", ".join(
            f"{counts[kind]} {kind}{'' if counts[kind] == 1 else 's'}"
            for kind in findings.SEVERITIES
        )
        codes = {each.code for each in self.option_findings}
        against = [str(each) for each in self.option_findings if each.code in UNTESTABLE]
        answer = "NO." if codes.intersection(UNTESTABLE[:2]) else "In part." if against else "Yes."
        question = f"Can it test its hypothesis? {answer}"
        compared = [question] if self.experiment.parent else []
        return (f"{self.experiment.name} {state}: {numbers}", *compared, *against, *self.lines)

    def refusal(self, *, strict: bool = False) -> BespokeError | None:
        """The error to end with, if any; warnings count as errors where `strict`.

        Options come before data: a run that is wrong by its options is wrong with any pictures. Of
        pictures, which may be wrong by the hundred, a few are named: the report groups them all.
        """
        stops = ("error", "warning") if strict else ("error",)
        for each, kind, limit in (
            (self.option_findings, ConfigError, 40),
            (self.data_findings, DatasetError, 5),
        ):
            stopping = [finding for finding in each if finding.severity in stops]
            if stopping:
                return kind(findings.listing(stopping, limit=limit))
        return None

    def report(self, *, examples: int | None = 3, notes: bool = True) -> list[str]:
        """What a person reads: the verdict, the worst captions and their cure, then the findings.

        `examples` are shown of each kind, every one where it is None; without `notes` it is the
        short form that a run prints. Errors are left to `refusal`, unless all is to be shown.
        """
        everything = examples is None
        errors = {str(each) for each in self.findings if each.severity == "error"}
        opening = [line for line in self.verdict if everything or line not in errors]
        shown = [
            each
            for each in self.findings
            if (everything or each.severity != "error")
            and (notes or each.severity != "note")
            and str(each) not in opening
        ]
        cure = [*self._worst(), *self._cure()] if notes else []
        return [*opening, *cure, *findings.summary(shown, examples=examples)]

    def _worst(self) -> Iterator[str]:
        """The three captions with the most warnings."""
        by_file: dict[str, list[Finding]] = defaultdict(list)
        for each in self.data_findings:
            if each.severity == "warning" and each.file.endswith(".txt"):
                by_file[each.file].append(each)
        worst = sorted(by_file.items(), key=lambda item: -len(item[1]))[:3]
        if worst:
            yield "Worst captions:"
        for file, group in worst:
            more = f", and {len(group) - 1} more" if len(group) > 1 else ""
            yield f"  {file}: {group[0].message}{more}"

    def _cure(self) -> Iterator[str]:
        """The command that mends the captions, where one can be mended."""
        mended = findings.CAUSES[0][1] - {"colour_shared"} | {"caption_cut"}
        collection = self.collections.get(loading.COLLECTION)
        if collection is None or not any(each.code in mended for each in self.data_findings):
            return
        folder = collection.folder
        out = folder.with_name(f"{folder.name}_repaired")
        yield (
            f"Mend them: python -m bespoke captions repair --experiment {self.experiment.name} "
            f"--data {shlex.quote(str(folder))} --out {shlex.quote(str(out))}"
        )

    def as_json(self) -> str:
        """One object: verdict, counts by code, findings, exposure by class of tags."""
        shares = {
            kind: {"here": share, "parent": self.before.get(kind)}
            for kind, share in self.exposure.items()
        }
        return _document(self.experiment.name, "\n".join(self.verdict), self.findings, shares)


def unexamined(experiment: str, error: BespokeError) -> str:
    """The same object as `Preflight.as_json` for what could not be examined at all, and why."""
    reasons = [
        findings.error("pictures_none", "", line)
        if isinstance(error, DatasetError)
        else findings.error("experiment_refused", "", line)
        for line in str(error).splitlines()
    ]
    return _document(experiment, f"{experiment} cannot start: {error}", reasons, {})


def _document(
    experiment: str, verdict: str, found: Sequence[Finding], shares: Mapping[str, object]
) -> str:
    document = {
        "experiment": experiment,
        "verdict": verdict,
        "counts": Counter(each.code for each in found),
        "findings": [asdict(each) for each in found],
        "exposure": shares,
    }
    return json.dumps(document, indent=2, default=str)
