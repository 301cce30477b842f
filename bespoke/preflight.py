"""Before the first step: is this the run that was meant, and does it test its hypothesis?"""

from __future__ import annotations

import functools
import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bespoke import contrast, dataset, findings, option_audit, schedule, sight
from bespoke.bucketing import Bucketing
from bespoke.errors import BespokeError, ConfigError, DatasetError
from bespoke.settings import by_folder
from bespoke.validation import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.config import Experiment
    from bespoke.dataset import Collection
    from bespoke.findings import Finding, Severity
    from bespoke.prompts import Prompt


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is known before the start. `sight` and `before` are the share of training samples in
    which each class of tags reaches the text encoder whole, here and in the parent.
    """

    experiment: Experiment
    collections: Mapping[str, Collection]
    data_findings: tuple[Finding, ...]
    option_findings: tuple[Finding, ...]
    lines: tuple[str, ...]
    sight: Mapping[str, float]
    before: Mapping[str, float]
    length: schedule.Length

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*self.option_findings, *self.data_findings)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each code."""
        return dict(Counter(finding.code for finding in self.findings))

    @property
    def verdict(self) -> tuple[str, ...]:
        """Whether the run may start, then what it can and cannot show."""
        counts = Counter(finding.severity for finding in self.findings)
        state = "cannot start" if counts["error"] else "can start"
        told = ", ".join(
            f"{counts[kind]} {kind}{'' if counts[kind] == 1 else 's'}"
            for kind in ("error", "warning", "note")
        )
        return (f"{self.experiment.name} {state}: {told}", *self.lines)

    def refusal(self, *, strict: bool = False) -> BespokeError | None:
        """The error to end with, if any; warnings count as errors where `strict`.

        Options come before data: a run that is wrong by its options is wrong with any pictures. Of
        pictures, which may be wrong by the hundred, a few are named: the report groups them all.
        """
        stops = ("error", "warning") if strict else ("error",)
        for found, kind, limit in (
            (self.option_findings, ConfigError, 40),
            (self.data_findings, DatasetError, 5),
        ):
            stopping = [finding for finding in found if finding.severity in stops]
            if stopping:
                return kind(findings.listing(stopping, limit=limit))
        return None

    def report(self, *, examples: int | None = 3, notes: bool = True) -> list[str]:
        """The verdict, then the findings by severity and code; None shows every example."""
        shown = [
            each
            for each in self.findings
            if (notes or each.severity != "note") and str(each) not in self.lines
        ]
        return [*self.verdict, *findings.summary(shown, examples=examples or len(shown))]

    def as_json(self) -> str:
        """One object: verdict, counts by code, findings, sight by tag class."""
        shares = {
            kind: {"here": share, "parent": self.before.get(kind)}
            for kind, share in self.sight.items()
        }
        return _document(self.experiment.name, "\n".join(self.verdict), self.findings, shares)


def unexamined(experiment: str, error: BespokeError) -> str:
    """The same object as `Preflight.as_json` for what could not be examined at all, and why."""
    found = [
        findings.error("pictures_none", "", line)
        if isinstance(error, DatasetError)
        else findings.error("experiment_refused", "", line)
        for line in str(error).splitlines()
    ]
    return _document(experiment, f"{experiment} cannot start: {error}", found, {})


def _document(
    experiment: str, verdict: str, found: Sequence[Finding], shares: Mapping[str, object]
) -> str:
    document = {
        "experiment": experiment,
        "verdict": verdict,
        "counts": Counter(each.code for each in found),
        "findings": [asdict(each) for each in found],
        "sight": shares,
    }
    return json.dumps(document, indent=2, default=str)


def folders(
    experiment: Experiment,
    texts: Sequence[str],
    *,
    repository: Path,
    workspace: Path,
    drawn: Callable[[str], Path] | None = None,
) -> dict[str, Path]:
    """The folder of each subset: from `--data DIR` and `--data NAME=DIR`, else where it is found.

    `drawn` makes pictures in a subset's place where none are named or found.

    Raises:
        ConfigError: a name that no subset has, or one given twice.
        DatasetError: no pictures for a subset.
    """
    named = _named(texts, experiment, "--data")
    found: dict[str, Path] = {}
    for name in by_folder(experiment):
        locate = functools.partial(
            dataset.locate, named.get(name), name=name, repository=repository, workspace=workspace
        )
        found[name] = locate() if drawn is None or name in named else _or_drawn(locate, name, drawn)
    return found


def _or_drawn(locate: Callable[[], Path], name: str, drawn: Callable[[str], Path]) -> Path:
    try:
        return locate()
    except DatasetError:
        return drawn(name)


def parents_folders(parent: Experiment | None, texts: Sequence[str]) -> dict[str, Path]:
    """The folders that `--parent-data DIR` and `--parent-data NAME=DIR` name.

    Raises:
        ConfigError: a name that no subset of the parent has, one given twice, no such folder, or
            no parent at all.
    """
    named = _named(texts, parent, "--parent-data")
    for folder in named.values():
        if not folder.is_dir():
            raise ConfigError(f"--parent-data {folder}: is no folder that is there")
    return named


def subset_and_folder(text: str) -> tuple[str, str]:
    """What one `--data` names: NAME=DIR, else the collection's folder."""
    name, equals, folder = text.partition("=")
    return (name, folder) if equals and not Path(text).is_dir() else (dataset.COLLECTION, text)


def _named(texts: Sequence[str], experiment: Experiment | None, option: str) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for text in texts:
        name, folder = subset_and_folder(text)
        if name in named:
            raise ConfigError(f"{option} {text}: {name} is given twice")
        # The trainer runs from another folder than the person stands in.
        named[name] = Path(folder).expanduser().absolute()
    if named and experiment is None:
        raise ConfigError(f"{option}: this experiment has no parent to hold it beside")
    known = by_folder(experiment) if experiment else {}
    for name in named:
        if name not in known:
            raise ConfigError(f"{option} {name}=…: {did_you_mean(name, known)}")
    return named


def examine(
    experiment: Experiment,
    data: Mapping[str, Path],
    *,
    parent: Experiment | None,
    known: Sequence[Experiment] = (),
    inert: Severity = "error",
    parent_data: Mapping[str, Path] | None = None,
    prompts: Sequence[Prompt] = (),
) -> Preflight:
    """Check the data, see it as the trainer will, and hold the experiment beside its parent.

    `data` is the folder of each subset, `parent_data` that of those whose captions or pictures were
    others in the parent. `known` are experiments that a confounded one can be sent to; `inert` is
    how bad it is that nothing differs from the parent. `prompts` are those that each epoch is
    tested with; they are looked at as they are rendered.

    Raises:
        DatasetError: where a folder cannot be listed.
    """
    subsets = by_folder(experiment)
    collections: dict[str, Collection] = {}
    for name, folder in data.items():
        promise = experiment.specs.get(name, dataset.Promise())
        collections[name] = dataset.check(
            folder,
            promise,
            # Scaling breaks cells where they are promised; other pictures may be scaled.
            bucketing=None if promise.cells is None else _bucketing(subsets[name]),
            shuffled=bool(subsets[name]["shuffle_caption"]),
        )
    run = schedule.length(experiment, {name: len(each.pairs) for name, each in collections.items()})
    option_findings = list(option_audit.audit(experiment))
    option_findings += option_audit.prompt_findings(prompts)
    option_findings += schedule.phases(experiment, run)
    if experiment.gate is not None:
        option_findings += schedule.gate_findings(experiment, run, experiment.gate.epoch)
    here = _side(experiment, collections, data)
    before: Mapping[str, float] = {}
    lines: tuple[str, ...] = ()
    if parent is not None:
        # On its own captions where they are named, else on those at hand.
        parent_data = parent_data or {}
        own = {
            name: dataset.check(folder, parent.specs.get(name, dataset.Promise()))
            for name, folder in parent_data.items()
        }
        there = _side(parent, {**collections, **own}, {**data, **parent_data})
        before = _shares(there.sight)
        compared = contrast.compare(here, there, known=known, inert=inert)
        option_findings += compared.findings
        option_findings += _unseen(experiment, parent, parent_data)
        lines = compared.verdict
    return Preflight(
        experiment=experiment,
        collections=collections,
        data_findings=(
            *(found for each in collections.values() for found in each.findings),
            *_cut(here.sight),
        ),
        option_findings=tuple(option_findings),
        lines=lines,
        sight=_shares(here.sight),
        before=before,
        length=run,
    )


def _side(
    experiment: Experiment, collections: Mapping[str, Collection], data: Mapping[str, Path]
) -> contrast.Side:
    captions = {name: each.captions for name, each in collections.items()}
    pictures = {name: len(each.pairs) for name, each in collections.items()}
    run = schedule.length(experiment, pictures)
    seen = sight.look(experiment, captions, epochs=run.epochs, steps=run.steps)
    return contrast.Side(experiment=experiment, sight=seen, data=data)


def _unseen(
    experiment: Experiment, parent: Experiment, parent_data: Mapping[str, Path]
) -> Iterator[Finding]:
    """Another caption version in the parent, whose captions are not at hand."""
    for name in sorted(experiment.specs.keys() & parent.specs.keys() - parent_data.keys()):
        new, old = (each.specs[name].caption_version for each in (experiment, parent))
        if new != old:
            message = (
                f"{name}: {parent.name} had the captions {old or 'of no version'}, which are not "
                f"at hand: its shares are reckoned on these ({new or 'no version'}); "
                f"--parent-data {name}=DIR names its own"
            )
            yield findings.finding("warning", "parent_captions_unseen", "", message)


def _cut(seen: sight.Sight) -> Iterator[Finding]:
    for each in seen.captions:
        if each.overflow > 0:
            message = (
                f"is {each.tokens} CLIP tokens long, and the encoder takes {seen.limit}: what "
                "comes last is cut off, another tag in each epoch where tags are shuffled"
            )
            yield findings.finding(
                "warning", "caption_cut", f"{each.stem}.txt", message,
                tokens=each.tokens, limit=seen.limit,
            )  # fmt: skip


def _shares(seen: sight.Sight) -> dict[str, float]:
    return {kind: each.share_whole for kind, each in seen.classes.items()}


def _bucketing(options: Mapping[str, Any]) -> Bucketing | None:
    own = {each.name: options[each.name] for each in fields(Bucketing)}
    sides = own.pop("resolution")
    if sides is None:
        return None
    width, height = (sides, sides) if isinstance(sides, int) else sides
    return Bucketing(resolution=(width, height), **own)
