"""`bespoke check` and `bespoke captions repair`: the preflight on its own, and its cure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bespoke import config, dataset, preflight, prompts
from bespoke.caption_rules import by_folder
from bespoke.errors import BespokeError
from bespoke.files import workspace_path
from bespoke.listing import REPOSITORY
from bespoke.seeds import with_seed

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bespoke.config import Experiment
    from bespoke.prompts import Prompt
    from bespoke.request import Request


def examined(chosen: argparse.Namespace) -> preflight.Preflight:
    """The preflight of what the command line names.

    Raises:
        ConfigError, DatasetError: where experiment or pictures cannot be found or read.
    """
    experiment = config.load(
        chosen.experiment, repository=REPOSITORY, overrides=tuple(chosen.overrides)
    )
    known = config.known(REPOSITORY)
    parent = next((each for each in known if each.name == experiment.parent), None)
    workspace, _ = workspace_path(chosen.workspace)
    return preflight.examine(
        experiment,
        preflight.folders(experiment, chosen.data, repository=REPOSITORY, workspace=workspace),
        parent=parent,
        known=known,
        inert="warning" if chosen.allow_inert else "error",
        parent_data=preflight.parents_folders(parent, chosen.parent_data),
        prompts=prompts.load(REPOSITORY / prompts.PROMPTS_FILE),
    )


def show(chosen: argparse.Namespace) -> None:
    """Print the findings; with `--json` one object, also where there is nothing to look into.

    Raises:
        ConfigError, DatasetError: where the run would be refused.
    """
    try:
        flight = examined(chosen)
    except BespokeError as error:
        if chosen.json:
            print(preflight.unexamined(chosen.experiment, error))
        raise
    if chosen.json:
        print(flight.as_json())
    else:
        print("\n".join(flight.report(examples=None if chosen.all else 3)))
    refusal = flight.refusal(strict=chosen.strict)
    if refusal is not None:
        raise refusal


def repair(chosen: argparse.Namespace) -> None:
    """Write a repaired caption version beside the old one, and say what a second check finds.

    Raises:
        ConfigError, DatasetError: where folders or captions do not allow it.
    """
    from bespoke import repair as repairing

    flight = examined(chosen)
    before = flight.collections[dataset.COLLECTION]
    options = by_folder(flight.experiment)[dataset.COLLECTION]
    done = repairing.repair(
        before,
        out=chosen.out,
        promise=flight.experiment.promises.get(dataset.COLLECTION, dataset.Promise()),
        keep=chosen.keep,
        keep_tokens=int(options["keep_tokens"]),
        limit=int(flight.experiment.option("max_token_length") or 75),
    )
    after = dataset.check(done.out, done.promise, shuffled=bool(options["shuffle_caption"]))
    print("\n\n".join(repairing.report(done).split("\n\n")[:3]))
    print(f"\nevery change, caption by caption: {done.out}.report.txt\n\na second check:")
    cut = flight.counts.get("caption_cut", 0)
    print(f"caption_cut: {cut} -> {len(done.over_limit)}")
    print("\n".join(repairing.cured(before.findings, after.findings)))
    if lost := done.totals["moved"]:
        print(
            f"\nin {lost} captions the {chosen.keep} took the last kept place from another tag: "
            f"keep_tokens = {options['keep_tokens'] + 1} would keep both"
        )


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a run was found to be before its start: `data` is the folder of each subset."""

    data: dict[str, Path]
    report: preflight.Preflight
    parent: str | None


def for_run(
    experiment: Experiment,
    request: Request,
    *,
    repository: Path,
    workspace: Path,
    prompts: Sequence[Prompt],
    draw: Callable[[str], Path] | None,
) -> Checked:
    """The preflight of a run; `repository` is where its pictures may be besides the workspace.

    Raises:
        ConfigError, DatasetError: where experiment or pictures cannot be found or read.
    """
    data = preflight.folders(
        experiment, request.data, repository=repository, workspace=workspace, drawn=draw
    )
    # At another seed, so is what it is compared with: a seed is no change between the two.
    known = [with_seed(each, request.seed) for each in config.known(REPOSITORY)]
    parent = next((each for each in known if each.name == experiment.parent), None)
    report = preflight.examine(
        experiment,
        data,
        parent=parent,
        known=known,
        inert="warning" if request.allow_inert else "error",
        parent_data=preflight.parents_folders(parent, request.parent_data),
        prompts=prompts,
    )
    return Checked(data=data, report=report, parent=parent.run_name if parent else None)
