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
from bespoke.experiment import config, option_warnings, prompts
from bespoke.experiment.experiment import DatasetSpec
from bespoke.experiment.validation import did_you_mean
from bespoke.files import REPOSITORY, workspace_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.dataset.folder import Collection
    from bespoke.experiment.experiment import Experiment
    from bespoke.findings import Finding, Severity

UNTESTABLE = ("experiment_no_op", "experiment_misses_subject", "experiment_confounded")
"""Findings that leave a hypothesis untested, or its outcome without a cause."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What is known before the start, as a person and as a script read it.

    `data` is the folder of each subset, `parent` the parent's run name. `lines` say what the model
    sees of the experiment's subject.
    """

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
        counts = Counter(finding.severity for finding in self.findings)
        state = "cannot start" if counts["error"] else "can start"
        numbers = ", ".join(
            f"{counts[kind]} {kind}{'s' * (counts[kind] != 1)}" for kind in findings.SEVERITIES
        )
        against = [each for each in self.option_findings if each.code in UNTESTABLE]
        untested = any(each.code in UNTESTABLE[:2] for each in against)
        answer = "NO." if untested else "In part." if against else "Yes."
        compared = [f"Can it test its hypothesis? {answer}"] if self.experiment.parent else []
        head = f"{self.experiment.name} {state}: {numbers}"
        return (head, *compared, *map(str, against), *self.lines)

    def refusal(self, *, strict: bool = False) -> BespokeError | None:
        """The error to end with, if any; warnings count as errors where `strict`.

        Options come before data: a run that is wrong by its options is wrong with any pictures.
        """
        stops = ("error", "warning") if strict else ("error",)
        options = [each for each in self.option_findings if each.severity in stops]
        data = [each for each in self.data_findings if each.severity in stops]
        if options:
            return ConfigError(findings.listing(options))
        return DatasetError(findings.listing(data)) if data else None

    def report(self, *, examples: int | None = 3, notes: bool = True) -> list[str]:
        """What a person reads: the verdict, the worst captions and their cure, then the findings.

        `examples` are shown of each kind, every one where it is None; without `notes` it is the
        short form that a run prints. Errors are left to `refusal`, unless all is to be shown.
        """
        hidden = set() if examples is None else {"error"}
        hidden |= set() if notes else {"note"}
        left = {str(each) for each in self.findings if each.severity in hidden}
        opening = [line for line in self.verdict if line not in left]
        shown = [each for each in self.findings if str(each) not in {*left, *opening}]
        cure = self._cure() if notes else ()
        return [*opening, *cure, *findings.summary(shown, examples=examples)]

    def _cure(self) -> Iterator[str]:
        """The three captions with the most warnings, and the command that mends what it can."""
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
        mended = findings.HEX_CODES - {"colour_shared"} | {"caption_cut"}
        collection = self.collections.get(loading.COLLECTION)
        if collection and any(each.code in mended for each in self.data_findings):
            folder = collection.folder
            out = folder.with_name(f"{folder.name}_repaired")
            yield (
                f"Mend them: python -m bespoke captions repair --experiment {self.experiment.name} "
                f"--data {shlex.quote(str(folder))} --out {shlex.quote(str(out))}"
            )

    def as_json(self) -> str:
        """One object: verdict, counts by code, findings."""
        return _document(
            self.experiment.name,
            "\n".join(self.verdict),
            counts=self.counts,
            findings=[asdict(each) for each in self.findings],
        )


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
        if name not in known or name in named:
            why = f"{name} is given twice" if name in named else did_you_mean(name, known)
            raise ConfigError(f"{option} {text}: {why}")
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

    Raises:
        ConfigError: a folder or subset that is not there.
        DatasetError: no pictures for a subset.
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
    parent_data: Sequence[str],
    allow_no_op: bool,
    roots: Sequence[Path],
    seed: int | None = None,
    draw: Callable[[str], Path] | None = None,
) -> Preflight:
    """Find the pictures of an experiment and examine them.

    `data` and `parent_data` are as the command line has them, `roots` where pictures may be; `draw`
    makes a subset's where none are named or found.

    Raises:
        ConfigError, DatasetError: where experiment or pictures cannot be found or read.
    """
    # At another seed, so is what it is compared with: a seed is no change between the two.
    known = {each.name: each.with_seed(seed) for each in config.known(REPOSITORY)}
    parent = known.get(experiment.parent or "")
    return examine(
        experiment,
        locate(experiment, data, roots, draw),
        parent=parent,
        no_op="warning" if allow_no_op else "error",
        parent_data=_named(parent_data, parent, "--parent-data"),
    )


def examine(
    experiment: Experiment,
    data: Mapping[str, Path],
    *,
    parent: Experiment | None,
    no_op: Severity = "error",
    parent_data: Mapping[str, Path] | None = None,
) -> Preflight:
    """Check the data, see it as the trainer will, and compare the experiment with its parent.

    `data` is the folder of each subset, `parent_data` that of those that were others in the parent.
    `no_op` is how bad it is that nothing differs from it.
    """
    collections = {name: _collection(experiment, name, folder) for name, folder in data.items()}
    here = _side(experiment, collections, experiment.subject)
    options = list(option_warnings.check(experiment))
    lines: list[str] = []
    if parent is not None:
        # On its own captions where they are named, else on those at hand.
        own = parent_data or {}
        earlier = {name: _collection(parent, name, folder) for name, folder in own.items()}
        there = _side(parent, {**collections, **earlier}, experiment.subject)
        compared, lines = ablation.compare(here, there, no_op=no_op)
        options = [*compared, *_unseen(experiment, parent, own), *options]
    data_findings = [finding for each in collections.values() for finding in each.findings]
    return Preflight(
        experiment=experiment,
        parent=parent.run_name if parent else None,
        data=dict(data),
        collections=collections,
        data_findings=(*data_findings, *_cut(here.exposure)),
        option_findings=tuple(options),
        lines=tuple(lines),
    )


def _collection(experiment: Experiment, name: str, folder: Path) -> Collection:
    spec = experiment.specs.get(name, DatasetSpec())
    shuffled = bool(experiment.by_folder()[name]["shuffle_caption"])
    return loading.check(folder, spec, shuffled=shuffled)


def _side(
    experiment: Experiment, collections: Mapping[str, Collection], subject: str
) -> ablation.Side:
    captions = {name: each.captions for name, each in collections.items()}
    return ablation.Side(
        experiment=experiment,
        exposure=caption_exposure.look(experiment, captions, subject),
        data={name: each.folder for name, each in collections.items()},
    )


def _unseen(
    experiment: Experiment, parent: Experiment, parent_data: Mapping[str, Path]
) -> Iterator[Finding]:
    """Another caption version in the parent, whose captions are not at hand."""
    for name in sorted(experiment.specs.keys() & parent.specs.keys() - parent_data.keys()):
        old = parent.specs[name].caption_version
        if old != experiment.specs[name].caption_version:
            message = (
                f"{name}: the captions of {parent.name} ({old or 'no version'}) are not here, so "
                f"its shares are those of these. Name its own with --parent-data {name}=DIR"
            )
            yield findings.finding("warning", "parent_captions_unseen", "", message)


def _cut(exposure: caption_exposure.Exposure) -> Iterator[Finding]:
    for (_, stem), tokens in exposure.tokens.items():
        if tokens > exposure.limit:
            message = (
                f"is {tokens} CLIP tokens long, and the encoder takes {exposure.limit}: what comes "
                "last is cut off, another tag in each epoch where tags are shuffled"
            )
            yield findings.finding("warning", "caption_cut", f"{stem}.txt", message, tokens=tokens)


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
    """Print the findings; with `--json` one object, also where there is nothing to look into."""
    try:
        report = examined(chosen)
    except BespokeError as error:
        if chosen.json:
            verdict = f"{chosen.experiment} cannot start: {error}"
            print(_document(chosen.experiment, verdict, counts={}, findings=[]))
        raise
    if chosen.json:
        print(report.as_json())
    else:
        print("\n".join(report.report(examples=None if chosen.all else 3)))
    refusal = report.refusal(strict=chosen.strict)
    if refusal is not None:
        raise refusal


def _document(experiment: str, verdict: str, **rest: object) -> str:
    return json.dumps({"experiment": experiment, "verdict": verdict, **rest}, indent=2, default=str)
