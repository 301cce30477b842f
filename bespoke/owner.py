"""The owner's two tables: what we write in them, and what we leave alone.

A column is ours to change while it holds what we last wrote there, or nothing where we never wrote.
Whatever a person typed or emptied since stays: notes, findings, scores.
"""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bespoke.scoring import VERDICTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bespoke.evaluate import EpochResult

Row = dict[str, Any]

# Their column: the trainer's option that it holds.
OPTIONS = {
    "training_data_path": "dataset.1.subset_1.image_dir",
    "resolution": "dataset.general.resolution",
    "lr_scheduler_cycles": "training.lr_scheduler_num_cycles",
    **{
        name: f"training.{name}"
        for name in (
            "network_dim", "network_alpha", "learning_rate", "unet_lr", "text_encoder_lr",
            "train_batch_size", "gradient_accumulation_steps", "max_train_epochs",
            "mixed_precision", "optimizer_type", "lr_scheduler", "noise_offset", "min_snr_gamma",
            "output_dir", "output_name",
        )
    },
}  # fmt: skip
# Their column: the fact of the same name that a run may come with.
FACTS = (
    "base_model", "num_images", "caption_format", "caption_version", "total_steps",
    "checkpoint_file_size_mb", "platform", "gpu_type", "key_findings", "issues_found", "strengths",
    "production_ready",
)  # fmt: skip
STATUSES = ("in_progress", "completed", "failed", "cancelled")


def write_run(connection: sa.Connection, owners: sa.MetaData, row: Row, before: Row | None) -> Row:
    """Write a run's row; returns `owner_name` and `written` for our own row beside it.

    `before` is our own row as it was. A finished run of this name that someone else wrote keeps its
    row and its name, and ours goes by its start; a baseline that they have is theirs.
    """
    table, written = owners.tables["training_runs"], dict(before["written"]) if before else {}
    name = before["owner_name"] if before else None
    if before and name is None:
        return {"owner_name": None, "written": {}}
    if name is None:
        name = row["name"]
        theirs = _one(connection, table, table.c.run_name == name)
        if theirs is not None and row["baseline"]:
            return {"owner_name": None, "written": {}}
        if theirs is not None and _is_this(theirs, row):
            written = {"status": theirs.get("status")}
        elif theirs is not None:
            name = f"{name} ({row['started']})"
    renamed = row["name"] if before and name == before["name"] else name
    values = {"run_name": renamed, **_run_values(row)}
    written = _guarded(connection, table, {"run_name": name}, values, written)
    return {"owner_name": renamed, "written": written}


def write_epoch(
    connection: sa.Connection,
    owners: sa.MetaData,
    run: Row,
    result: EpochResult,
    before: Row | None,
) -> Row:
    """Write an epoch's row; returns what we have written there by now."""
    table, results = (owners.tables[name] for name in ("training_runs", "epoch_results"))
    theirs = run["owner_name"] and _one(connection, table, table.c.run_name == run["owner_name"])
    if not theirs:
        return {}
    key = {"training_run_id": theirs["id"], "epoch_number": result.epoch}
    written = dict(before["written"]) if before else {}
    return _guarded(connection, results, key, _epoch_values(result), written)


def hours(timings: Mapping[str, float]) -> float | None:
    """The hours that a run took: its "total", else its stages together; None without timings."""
    return timings.get("total", sum(timings.values())) / 3600 if timings else None


def verdict(row: Row) -> str:
    """success, partial or failure by the owner's own bounds for the best score; else pending."""
    if row["status"] == "in_progress" or row["best_score"] is None:
        return "failure" if row["status"] == "failed" else "pending"
    success, _, partial = (bound for bound, _ in VERDICTS)
    if row["best_score"] >= success:
        return "success"
    return "partial" if row["best_score"] >= partial else "failure"


def _is_this(theirs: Row, row: Row) -> bool:
    """Whether a row that we know nothing of stands for this run: planned there, or of its start."""
    started = _fitting(sa.Column("run_date", sa.DateTime), row["started"] or None)
    at = theirs.get("run_date")
    if isinstance(at, datetime) and isinstance(started, datetime):
        zone = timezone.utc
        if at.replace(tzinfo=at.tzinfo or zone) == started.replace(tzinfo=started.tzinfo or zone):
            return True
    return theirs.get("status") == "in_progress"


def _run_values(row: Row) -> Row:
    settings, facts = row["settings"], row["facts"]
    values = {name: facts[name] for name in FACTS if name in facts}
    for name, option in OPTIONS.items():
        if option in settings:
            values[name] = settings[option].get("value")
    return {
        **values,
        "run_date": row["started"] or None,
        "status": row["status"],
        "model_type": "SD15",
        "training_duration_hours": hours(row["timings"]),
        "best_epoch": row["best_epoch"],
        "quality_score": row["best_score"],
        "overall_verdict": verdict(row),
    }


def _epoch_values(result: EpochResult) -> Row:
    counts, scores = result.backgrounds(), result.scores
    measured = counts["match"] + counts["mismatch"] > 0
    return {
        "checkpoint_path": result.checkpoint,
        "checkpoint_file_size_mb": round(result.checkpoint_size / 1e6, 2) or None,
        "test_output_dir": result.folder,
        "num_test_images": len(result.pictures),
        "visual_quality_score": scores.visual_quality,
        "style_match_score": scores.style_match,
        "prompt_adherence_score": scores.prompt_adherence,
        "has_wrong_backgrounds": counts["mismatch"] > 0 if measured else None,
        "verdict": result.verdict,
        "test_image_paths": [f"{result.folder}/{picture.file}" for picture in result.pictures],
    }


def _guarded(
    connection: sa.Connection, table: sa.Table, key: Row, values: Row, written: Row
) -> Row:
    """Insert or change the row of `key`, save what is a person's; returns what is ours by now."""
    where = sa.and_(*(table.c[name] == value for name, value in key.items()))
    fitting = {
        name: _fitting(table.c[name], value) for name, value in values.items() if name in table.c
    }
    current = _one(connection, table, where)
    if current is None:
        made = {**key, **{name: value for name, value in fitting.items() if value is not None}}
        connection.execute(sa.insert(table).values(made))
        names = list(fitting)
    else:
        names = [name for name in fitting if _shown(current[name]) == written.get(name)]
        names += [name for name in key if name in fitting and name not in names]
        changes = {name: fitting[name] for name in names if fitting[name] != current[name]}
        if changes:
            if "updated_at" in table.c:
                changes["updated_at"] = datetime.now(timezone.utc)
            connection.execute(sa.update(table).where(where).values(changes))
    key = {name: fitting.get(name, value) for name, value in key.items()}
    where = sa.and_(*(table.c[name] == value for name, value in key.items()))
    # As the database holds it: a number that it rounds is still what we wrote.
    now = _one(connection, table, where) or {}
    return {name: _shown(now.get(name)) for name in names}


def _one(connection: sa.Connection, table: sa.Table, where: sa.ColumnElement[bool]) -> Row | None:
    found = connection.execute(sa.select(table).where(where).with_for_update()).mappings().first()
    return dict(found) if found is not None else None


def _shown(value: object) -> object:
    """A value as JSON can keep it."""
    return value if value is None or isinstance(value, (bool, int, str, list)) else str(value)


def _fitting(column: sa.Column[Any], value: Any) -> Any:
    """The value as the column's type takes it; None where it does not."""
    if value is None or isinstance(column.type, (sa.JSON, sa.ARRAY)):
        return value
    try:
        kind = column.type.python_type
        if kind in (datetime, date):
            when = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
            return when if kind is datetime else when.date()
        if kind is int:
            return int(value) if float(value) == int(value) else None
        return kind(str(value)) if kind is not bool else bool(value)
    except (NotImplementedError, TypeError, ValueError, ArithmeticError):
        return None
