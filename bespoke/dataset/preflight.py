"""Before the first step: is this the run that was meant, and can it test its hypothesis?"""

from __future__ import annotations

import json
import os
import shlex
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import findings
from bespoke.dataset import ablation, caption_exposure, loading
from bespoke.errors import BespokeError, ConfigError, DatasetError
from bespoke.experiment import config, option_checks, prompts
from bespoke.experiment.experiment import DatasetSpec
from bespoke.experiment.validation import did_you_mean
from bespoke.files import REPOSITORY, workspace_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.dataset.loading import Collection
    from bespoke.experiment.experiment import Experiment
    from bespoke.findings import Finding

# How the caption versions that `captions repair` wrote end.
REPAIRED = "_repaired"


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is known before the start. `data` is the folder of each subset, `parent` the parent's
    run name; `lines` say what the model sees of the experiment's subject."""

    experiment: Experiment
    parent: str | None
    data: dict[str, Path]
    collections: Mapping[str, Collection]
    data_findings: tuple[Finding, ...]
    option_findings: tuple[Finding, ...]
    lines: tuple[str, ...]

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
        number = Counter(finding.severity for finding in self.findings)
        state = "cannot start" if number["error"] else "can start"
        numbers = [f"{number[s]} {s}{'s' * (number[s] != 1)}" for s in findings.SEVERITIES]
        against = [each for each in self.option_findings if each.code.startswith("experiment_")]
        codes = {each.code for each in against} - {"experiment_confounded"}
        answer = "NO." if codes else "In part." if against else "Yes."
        compared = [f"Can it test its hypothesis? {answer}"] if self.experiment.parent else []
        head = f"{self.experiment.name} {state}: {', '.join(numbers)}"
        return (head, *compared, *map(str, against), *self.lines)

    def refusal(self, *, strict: bool = False) -> BespokeError | None:
        """The error to end with, if any; warnings count as errors where `strict`."""
        severities = ("error", "warning") if strict else ("error",)
        # A run that is wrong by its options is wrong with any pictures.
        options, data = (
            findings.listing(each for each in group if each.severity in severities)
            for group in (self.option_findings, self.data_findings)
        )
        return ConfigError(options) if options else DatasetError(data) if data else None

    def report(self, *, whole: bool = False, notes: bool = True) -> list[str]:
        """What a person reads: the verdict, the cure of captions, then the findings.

        The `whole`, or one of each code and no error, which `refusal` names; a run skips `notes`.
        """
        hidden = {*(() if whole else ("error",)), *(() if notes else ("note",))}
        left = {str(each) for each in self.findings if each.severity in hidden}
        opening = [line for line in self.verdict if line not in left]
        shown = [each for each in self.findings if str(each) not in {*left, *opening}]
        cure = self._cure() if notes else []
        return [*opening, *cure, *findings.summary(shown, whole=whole)]

    def _cure(self) -> list[str]:
        """The three captions of which most is to be said, and the command that mends them."""
        said = Counter(each.file for each in self.data_findings if each.severity == "warning")
        worst = [file for file, _ in said.most_common() if file.endswith(".txt")][:3]
        lines = [f"Worst captions: {', '.join(f'{each} ({said[each]})' for each in worst)}"]
        lines = lines if worst else []
        collection = self.collections.get(loading.COLLECTION)
        unclear = {"hex_codes_unclear", "caption_cut"} & self.counts.keys()
        if not collection or not unclear or collection.spec.caption_version.endswith(REPAIRED):
            return lines
        words = ["--experiment", self.experiment.name, "--data", str(collection.folder)]
        words += ["--out", f"{collection.folder}{REPAIRED}"]
        return [*lines, f"Mend them: python -m bespoke captions repair {shlex.join(words)}"]

    def as_json(self) -> str:
        """One object: verdict, counts by code, findings."""
        table = {
            "experiment": self.experiment.name,
            "verdict": "\n".join(self.verdict),
            "counts": self.counts,
            "findings": [asdict(each) for each in self.findings],
        }
        return json.dumps(table, indent=2)


def subset_and_folder(text: str) -> tuple[str, str]:
    """What one `--data` names: NAME=DIR, else the collection's folder."""
    name, equals, folder = text.partition("=")
    return (name, folder) if equals and not loading.is_folder(text) else (loading.COLLECTION, text)


def _named(texts: Sequence[str], experiment: Experiment | None, option: str) -> dict[str, Path]:
    """The folder of each subset that an option names."""
    named: dict[str, Path] = {}
    if texts and experiment is None:
        raise ConfigError(f"{option}: this experiment has no parent to compare with")
    known = experiment.by_folder() if experiment else {}
    for text in texts:
        name, folder = subset_and_folder(text)
        if name not in known:
            raise ConfigError(f"{option} {text}: {did_you_mean(name, known)}")
        # The trainer runs from another folder than the person stands in. Unlike Path's, this
        # expansion leaves a person who is not there as it is.
        named[name] = Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111
        if not loading.is_folder(named[name]):
            raise ConfigError(f"no such directory: {named[name]}. Correct {option}")
    return named


def locate(
    experiment: Experiment,
    texts: Sequence[str],
    roots: Sequence[Path],
    draw: Callable[[str], Path] | None = None,
) -> dict[str, Path]:
    """The folder of each subset: as `--data` names it, else by its name in `roots`, else drawn.

    A ConfigError names a folder or subset that is not there, a DatasetError one without pictures.
    """
    named = _named(texts, experiment, "--data")
    located: dict[str, Path] = {}
    for name in experiment.by_folder():
        places = [named[name]] if name in named else [root / name for root in roots]
        folder = next(filter(loading.holds_pictures, places), None)
        if folder is None and draw is not None and name not in named:
            folder = draw(name)
        if folder is None:
            option = "--data DIR" if name == loading.COLLECTION else f"--data {name}=DIR"
            raise DatasetError(
                f"no pictures found in {' or in '.join(map(str, places))}. Put the pictures and "
                f"captions there, or name their folder with {option}"
            )
        located[name] = folder
    return located


def check(
    experiment: Experiment,
    *,
    data: Sequence[str],
    roots: Sequence[Path],
    parent_data: Sequence[str] = (),
    allow_no_op: bool = False,
    seed: int | None = None,
    draw: Callable[[str], Path] | None = None,
) -> Preflight:
    """Find the pictures (see `locate`), check them, and compare what the trainer will see of them
    with the parent; `data` and `parent_data` are as the command line has them."""
    # At another seed, so is what it is compared with: a seed is no change between the two.
    known = {each.name: each.with_seed(seed) for each in config.known(REPOSITORY)}
    parent = known.get(experiment.parent or "")
    own = _named(parent_data, parent, "--parent-data")
    located = locate(experiment, data, roots, draw)
    subject, collections = experiment.subject, _collections(experiment, located)
    here = ablation.Side(experiment=experiment, collections=collections, subject=subject)
    options = list(option_checks.warnings(experiment))
    lines: list[str] = []
    if parent is not None:
        # On its own captions where they are named, else on those at hand.
        earlier = {**collections, **_collections(parent, own)}
        there = ablation.Side(experiment=parent, collections=earlier, subject=subject)
        compared, lines = ablation.compare(here, there, allow_no_op=allow_no_op)
        options = [*compared, *options]
    data_findings = [finding for each in collections.values() for finding in each.findings]
    return Preflight(
        experiment=experiment,
        parent=parent.run_name if parent else None,
        data=located,
        collections=collections,
        data_findings=(*data_findings, *_cut(here.exposure)),
        option_findings=tuple(options),
        lines=tuple(lines),
    )


def _collections(experiment: Experiment, folders: Mapping[str, Path]) -> dict[str, Collection]:
    specs = defaultdict(DatasetSpec, experiment.specs)
    return {name: check_folder(folder, specs[name]) for name, folder in folders.items()}


def check_folder(folder: Path, spec: DatasetSpec) -> Collection:
    """Read every file of `folder` once, hold it to `spec`, and captions to their pictures.

    What is in the pictures is looked at only where `spec.cells` says how many cells they have.
    Findings come by file name, the whole folder's first.
    """
    from bespoke.dataset import checks  # numpy

    collection = loading.read(folder, spec)
    for each in checks.CHECKS:
        collection.findings.extend(each(collection))
    collection.findings.sort(key=lambda each: each.file)
    return collection


def _cut(exposure: caption_exposure.Exposure) -> Iterator[Finding]:
    for stem, tokens in exposure.tokens:
        if tokens > exposure.limit:
            message = f"has {tokens} CLIP tokens, and the encoder takes {exposure.limit} of them"
            yield findings.finding("warning", "caption_cut", f"{stem}.txt", message)


def examined(chosen: argparse.Namespace) -> Preflight:
    """The preflight of what the command line names."""
    prompts.load(REPOSITORY / prompts.PROMPTS_FILE)  # refused where they are wrong
    return check(
        config.load(chosen.experiment, repository=REPOSITORY, overrides=tuple(chosen.overrides)),
        data=chosen.data,
        parent_data=chosen.parent_data,
        allow_no_op=chosen.allow_no_op,
        roots=(REPOSITORY, workspace_path(chosen.workspace)),
    )


def show(chosen: argparse.Namespace) -> None:
    """Print the findings, with `--json` as one object, and end with the error if there is one."""
    report = examined(chosen)
    print(report.as_json() if chosen.json else "\n".join(report.report(whole=chosen.all)))
    if refusal := report.refusal(strict=chosen.strict):
        raise refusal
