"""Before the first step: is this the run that was meant, and can it test its hypothesis?"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bespoke import findings
from bespoke.dataset import ablation, caption_exposure, loading
from bespoke.dataset.preflight_report import Preflight, refused
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

    from bespoke.dataset.folder import Collection
    from bespoke.experiment.config import Experiment
    from bespoke.experiment.prompts import Prompt
    from bespoke.findings import Finding, Severity

__all__ = ["Checked", "Preflight", "check", "examine", "examined", "show", "subset_and_folder"]


# --- Where the pictures are -----------------------------------------------------------------------


def subset_and_folder(text: str) -> tuple[str, str]:
    """What one `--data` names: NAME=DIR, else the collection's folder."""
    name, equals, folder = text.partition("=")
    return (name, folder) if equals and not loading.is_folder(text) else (loading.COLLECTION, text)


def _named(texts: Sequence[str], experiment: Experiment | None, option: str) -> dict[str, Path]:
    """The folder of each subset that an option names.

    Raises:
        ConfigError: a name that no subset has, one given twice, or no such folder.
    """
    named: dict[str, Path] = {}
    known = by_folder(experiment) if experiment else {}
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


# --- The examination ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Checked:
    """`data` is the folder of each subset, `parent` the parent's run name."""

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
    """Find the pictures of an experiment and examine them.

    `data` and `parent_data` are as the command line has them. `repository` is where pictures may be
    besides the workspace; `draw` makes a subset's where none are named or found.

    Raises:
        ConfigError, DatasetError: where experiment or pictures cannot be found or read.
    """
    named = _named(data, experiment, "--data")
    places: dict[str, Path] = {}
    for name in by_folder(experiment):
        drawn = draw if name not in named else None
        locate = functools.partial(
            loading.locate, named.get(name), name=name, repository=repository, workspace=workspace
        )
        places[name] = locate() if drawn is None else _or_drawn(locate, name, drawn)
    # At another seed, so is what it is compared with: a seed is no change between the two.
    known = {each.name: with_seed(each, seed) for each in config.known(REPOSITORY)}
    parent = known.get(experiment.parent or "")
    report = examine(
        experiment,
        places,
        parent=parent,
        no_op="warning" if allow_no_op else "error",
        parent_data=_named(parent_data, parent, "--parent-data"),
        prompts=prompts,
    )
    return Checked(data=places, report=report, parent=parent.run_name if parent else None)


def _or_drawn(locate: Callable[[], Path], name: str, draw: Callable[[str], Path]) -> Path:
    try:
        return locate()
    except DatasetError:
        return draw(name)


def examine(
    experiment: Experiment,
    data: Mapping[str, Path],
    *,
    parent: Experiment | None,
    no_op: Severity = "error",
    parent_data: Mapping[str, Path] | None = None,
    prompts: Sequence[Prompt] = (),
) -> Preflight:
    """Check the data, see it as the trainer will, and compare the experiment with its parent.

    `data` is the folder of each subset, `parent_data` that of those whose captions or pictures were
    others in the parent. `no_op` is how bad it is that nothing differs from it. `prompts` are those
    that each epoch is tested with.

    Raises:
        DatasetError: where a folder cannot be listed.
    """
    collections = {name: _collection(experiment, name, folder) for name, folder in data.items()}
    run = schedule.length(experiment, {name: len(each.pairs) for name, each in collections.items()})
    here = _side(experiment, collections)
    gate = experiment.gate
    compared, before = ablation.Ablation(), dict[str, float]()
    unseen: tuple[Finding, ...] = ()
    if parent is not None:
        # On its own captions where they are named, else on those at hand.
        own = parent_data or {}
        earlier = {name: _collection(parent, name, folder) for name, folder in own.items()}
        there = _side(parent, {**collections, **earlier})
        compared = ablation.compare(here, there, no_op=no_op)
        before, unseen = there.exposure.shares, tuple(_unseen(experiment, parent, own))
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
        exposure=here.exposure.shares,
        before=before,
        length=run,
    )


def _collection(experiment: Experiment, name: str, folder: Path) -> Collection:
    spec = experiment.specs.get(name, DatasetSpec())
    return loading.check(folder, spec, by_folder(experiment).get(name))


def _side(experiment: Experiment, collections: Mapping[str, Collection]) -> ablation.Side:
    captions = {name: each.captions for name, each in collections.items()}
    return ablation.Side(
        experiment=experiment,
        exposure=caption_exposure.look(experiment, captions),
        data={name: each.folder for name, each in collections.items()},
    )


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
    for (_, stem), tokens in exposure.tokens.items():
        if tokens > exposure.limit:
            message = (
                f"is {tokens} CLIP tokens long, and the encoder takes {exposure.limit}: what comes "
                "last is cut off, another tag in each epoch where tags are shuffled"
            )
            yield findings.finding("warning", "caption_cut", f"{stem}.txt", message, tokens=tokens)


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
        workspace=workspace_path(chosen.workspace)[0],
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
            print(refused(chosen.experiment, error))
        raise
    if chosen.json:
        print(report.as_json())
    else:
        print("\n".join(report.report(examples=None if chosen.all else 3)))
    refusal = report.refusal(strict=chosen.strict)
    if refusal is not None:
        raise refusal
