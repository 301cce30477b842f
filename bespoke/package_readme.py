"""The README of a packed experiment: everything in it comes from the experiment's own data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import toml

from bespoke import checkpoints, config, plan, report, resume, schedule, store, watch
from bespoke.display import duration
from bespoke.listing import changes

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bespoke.preflight import Preflight

TEMPLATE = Path(__file__).with_name("package_readme.md.j2")
# Optimizer steps a second, least and most, of the options of record as they are written.
# docs/performance.md; what a plan makes of them is in plan.PACES.
PACES_AS_WRITTEN = {"H100": (0.417, 0.442), "H200": (0.51, 0.60)}


def text(
    flight: Preflight,
    *,
    commits: Mapping[str, str],
    zip_name: str,
    names: Collection[str],
    repository: Path,
) -> str:
    """The README; `names` are the package's files, so that it speaks of none that is not there."""
    import jinja2

    experiment = flight.experiment
    pictures = {name: len(each.pairs) for name, each in flight.collections.items()}
    run = schedule.length(experiment, pictures)
    options = {key: setting.value for key, setting in experiment.training.items()}
    saved = checkpoints.saved_epochs(run.epochs, experiment.option("save_every_n_epochs"))
    known = {each.name: each for each in config.known(repository)}
    environment = jinja2.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown; what a person wrote goes through `plain`
    )
    environment.filters |= {"plain": _plain, "toml": _toml}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        experiment=experiment,
        parent=known.get(experiment.parent or ""),
        changes=changes(experiment),
        verdict=flight.lines,
        commits=commits,
        zip_name=zip_name,
        names=names,
        pictures=pictures,
        run=run,
        saved=saved,
        checkpoint=lambda each, epoch: checkpoints.checkpoint_path(
            Path(str(each.option("output_dir"))), each.output_name, epoch
        ).as_posix(),
        sizes=watch.sizes(options, len(saved), resume.KEPT_STATES),
        times={
            gpu: [_time(run.steps, paces[gpu]) for paces in (plan.PACES, PACES_AS_WRITTEN)]
            for gpu in plan.PACES
        },
        baselines=store.BASELINES,
        page=report.page_name(experiment.run_name),
        children=[each for each in known.values() if each.parent == experiment.name],
        changes_of=changes,
    )


def _time(steps: int, pace: tuple[float, float]) -> str:
    slow, fast = pace
    return f"{duration(steps / fast)} to {duration(steps / slow)}"


def _plain(words: object) -> str:
    """A person's words within one line of Markdown, which they can neither leave nor mark up."""
    line = " ".join(str(words).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in line)


def _toml(value: Any) -> str:
    if value is None:
        return "(unset)"
    return toml.dumps({"v": value}).removeprefix("v = ").strip().replace("|", "\\|")
