"""Before the first step: is this the run that was meant, and can it test its hypothesis?"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import findings
from bespoke.dataset import ablation, caption_exposure, loading
from bespoke.dataset.preflight_report import Preflight, unexamined
from bespoke.errors import BespokeError, ConfigError, DatasetError
from bespoke.experiment import config, lint, prompts, schedule
from bespoke.experiment.dataset_spec import DatasetSpec
from bespoke.experiment.effective_options import by_folder
from bespoke.experiment.run_names import with_seed
from bespoke.experiment.validation import did_you_mean
from bespoke.files import REPOSITORY, workspace_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bespoke.dataset.loading import Collection
    from bespoke.experiment.config import Experiment
    from bespoke.experiment.prompts import Prompt
    from bespoke.findings import Finding, Severity

__all__ = [
    "Checked", "Preflight", "check", "examine", "examined", "folders", "parents_folders", "show",
    "subset_and_folder",
]  # fmt: skip

# --- Where the pictures are -----------------------------------------------------------------------


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
    places: dict[str, Path] = {}
    for name in by_folder(experiment):
        locate = functools.partial(
            loading.locate, named.get(name), name=name, repository=repository, workspace=workspace
        )
        places[name] = (
            locate() if drawn is None or name in named else _or_drawn(locate, name, drawn)
        )
    return places


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
        if not loading.is_folder(folder):
            raise ConfigError(f"no such directory: {folder}. Correct --parent-data")
    return named


def subset_and_folder(text: str) -> tuple[str, str]:
    """What one `--data` names: NAME=DIR, else the collection's folder."""
    name, equals, folder = text.partition("=")
    return (name, folder) if equals and not loading.is_folder(text) else (loading.COLLECTION, text)


def _named(texts: Sequence[str], experiment: Experiment | None, option: str) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for text in texts:
        name, folder = subset_and_folder(text)
        if name in named:
            raise ConfigError(f"{option} {text}: {name} is given twice")
        # The trainer runs from another folder than the person stands in. Unlike Path's, this
        # expansion leaves a person who is not there as it is.
        named[name] = Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111
    if named and experiment is None:
        raise ConfigError(f"{option}: this experiment has no parent to compare with")
    known = by_folder(experiment) if experiment else {}
    for name in named:
        if name not in known:
            raise ConfigError(f"{option} {name}=…: {did_you_mean(name, known)}")
    return named


# --- The examination ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a run was found to be before its start: `data` is the folder of each subset, `parent`
    the parent's run name."""

    data: dict[str, Path]
    report: Preflight
    parent: str | None


def check(
    experiment: Experiment,
    *,
    data: Sequence[str],
    parent_data: Sequence[str],
    allow_no_op: bool,
    repository: Path,
    workspace: Path,
    prompts: Sequence[Prompt],
    seed: int | None = None,
    draw: Callable[[str], Path] | None = None,
) -> Checked:
    """Find the pictures of an experiment and examine them; `data` and `parent_data` are as the
    command line has them, `repository` is where pictures may be besides the workspace.

    Raises:
        ConfigError, DatasetError: where experiment or pictures cannot be found or read.
    """
    places = folders(experiment, data, repository=repository, workspace=workspace, drawn=draw)
    # At another seed, so is what it is compared with: a seed is no change between the two.
    known = [with_seed(each, seed) for each in config.known(REPOSITORY)]
    parent = next((each for each in known if each.name == experiment.parent), None)
    report = examine(
        experiment,
        places,
        parent=parent,
        known=known,
        no_op="warning" if allow_no_op else "error",
        parent_data=parents_folders(parent, parent_data),
        prompts=prompts,
    )
    return Checked(data=places, report=report, parent=parent.run_name if parent else None)


def examine(
    experiment: Experiment,
    data: Mapping[str, Path],
    *,
    parent: Experiment | None,
    known: Sequence[Experiment] = (),
    no_op: Severity = "error",
    parent_data: Mapping[str, Path] | None = None,
    prompts: Sequence[Prompt] = (),
) -> Preflight:
    """Check the data, see it as the trainer will, and compare the experiment with its parent.

    `data` is the folder of each subset, `parent_data` that of those whose captions or pictures were
    others in the parent. `known` are experiments that a confounded one can be sent to; `no_op` is
    how bad it is that nothing differs from the parent. `prompts` are those that each epoch is
    tested with.

    Raises:
        DatasetError: where a folder cannot be listed.
    """
    collections = {name: _checked(experiment, name, folder) for name, folder in data.items()}
    run = schedule.length(experiment, {name: len(each.pairs) for name, each in collections.items()})
    here = _side(experiment, collections, data)
    gate = experiment.gate
    compared = ablation.Ablation(changes=(), findings=(), lines=())
    before: Mapping[str, float] = {}
    unseen: Sequence[Finding] = ()
    if parent is not None:
        # On its own captions where they are named, else on those at hand.
        own = parent_data or {}
        earlier = {name: _checked(parent, name, folder) for name, folder in own.items()}
        there = _side(parent, {**collections, **earlier}, {**data, **own})
        before = _shares(there.exposure)
        compared = ablation.compare(here, there, known=known, no_op=no_op)
        unseen = list(_unseen(experiment, parent, own))
    return Preflight(
        experiment=experiment,
        collections=collections,
        data_findings=(
            *(finding for each in collections.values() for finding in each.findings),
            *_cut(here.exposure),
        ),
        option_findings=(
            *compared.findings,
            *unseen,
            *lint.audit(experiment),
            *lint.prompt_findings(prompts),
            *(schedule.gate_findings(experiment, run, gate.epoch) if gate else ()),
        ),
        lines=compared.lines,
        exposure=_shares(here.exposure),
        before=before,
        length=run,
    )


def _checked(experiment: Experiment, name: str, folder: Path) -> Collection:
    spec = experiment.specs.get(name, DatasetSpec())
    return loading.check(folder, spec, by_folder(experiment).get(name))


def _side(
    experiment: Experiment, collections: Mapping[str, Collection], data: Mapping[str, Path]
) -> ablation.Side:
    captions = {name: each.captions for name, each in collections.items()}
    exposure = caption_exposure.look(experiment, captions)
    return ablation.Side(experiment=experiment, exposure=exposure, data=data)


def _shares(exposure: caption_exposure.Exposure) -> dict[str, float]:
    return {kind: each.share for kind, each in exposure.classes.items()}


def _unseen(
    experiment: Experiment, parent: Experiment, parent_data: Mapping[str, Path]
) -> Iterator[Finding]:
    """Another caption version in the parent, whose captions are not at hand."""
    for name in sorted(experiment.specs.keys() & parent.specs.keys() - parent_data.keys()):
        new, old = (each.specs[name].caption_version for each in (experiment, parent))
        if new != old:
            message = (
                f"{name}: {parent.name} had the captions {old or 'of no version'}, which are not "
                f"here: its shares are computed on these ({new or 'no version'}). Name its own "
                f"with --parent-data {name}=DIR"
            )
            yield findings.finding("warning", "parent_captions_unseen", "", message)


def _cut(exposure: caption_exposure.Exposure) -> Iterator[Finding]:
    for each in exposure.captions:
        if each.overflow > 0:
            message = (
                f"is {each.tokens} CLIP tokens long, and the encoder takes {exposure.limit}: what "
                "comes last is cut off, another tag in each epoch where tags are shuffled"
            )
            yield findings.finding(
                "warning", "caption_cut", f"{each.stem}.txt", message,
                tokens=each.tokens, limit=exposure.limit,
            )  # fmt: skip


# --- The verb -------------------------------------------------------------------------------------


def examined(chosen: argparse.Namespace) -> Preflight:
    """The preflight of what the command line names.

    Raises:
        ConfigError, DatasetError: where experiment or pictures cannot be found or read.
    """
    return check(
        config.load(chosen.experiment, repository=REPOSITORY, overrides=tuple(chosen.overrides)),
        data=chosen.data,
        parent_data=chosen.parent_data,
        allow_no_op=chosen.allow_no_op,
        repository=REPOSITORY,
        workspace=workspace_path(chosen.workspace),
        prompts=prompts.load(REPOSITORY / prompts.PROMPTS_FILE),
    ).report


def show(chosen: argparse.Namespace) -> None:
    """Print the findings; with `--json` one object, also where there is nothing to look into.

    Raises:
        ConfigError, DatasetError: where the run would be refused.
    """
    try:
        report = examined(chosen)
    except BespokeError as error:
        if chosen.json:
            print(unexamined(chosen.experiment, error))
        raise
    if chosen.json:
        print(report.as_json())
    else:
        print("\n".join(report.report(examples=None if chosen.all else 3)))
    refusal = report.refusal(strict=chosen.strict)
    if refusal is not None:
        raise refusal
