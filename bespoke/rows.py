"""Runs and epochs to rows and back, the same in the workspace's database and in any other."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import defaultdict
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from bespoke import owner, schema
from bespoke.evaluate import EpochResult, PictureResult
from bespoke.scoring import Scores
from bespoke.veil import veiled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bespoke.owner import Row

# What each database keeps for itself, and what is made of the rest.
OWN = ("digest", "owner_name", "written")
SCORES = tuple(each.name for each in fields(Scores))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """All of a run but its epochs: its row, its larger documents by kind, its decisions' rows."""

    row: Row
    documents: Mapping[str, Any] = field(default_factory=dict)
    decisions: tuple[Row, ...] = ()

    @property
    def uid(self) -> str:
        return str(self.row["uid"])

    def but(self, **changes: Any) -> Kept:
        """The same with other values in its row."""
        return replace(self, row={**self.row, **changes})


def plain(value: Any) -> Any:
    """A value as every database can keep it: no NaN, no NUL, no half a character, no secret."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {text(str(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return text(str(value))


def text(value: str) -> str:
    """Text as every database can keep it, with no secret in it."""
    whole = value.encode("utf-8", "replace").decode("utf-8")
    return veiled(whole.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def timings(row: Row) -> dict[str, float]:
    """Seconds by stage, of all the run's starts together."""
    total: dict[str, float] = defaultdict(float)
    for stages in row["starts"].values():
        for stage, seconds in stages.items():
            total[stage] += seconds or 0.0
    return dict(total)


def digest(*parts: Any) -> str:
    """What tells whether anything changed."""
    told = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def find(connection: sa.Connection, name: str) -> Row | None:
    """Our row of the run that has the name now."""
    return _first(connection, schema.runs.c.name == name)


def load(connection: sa.Connection, uid: str) -> Kept:
    """All of a run but its epochs.

    Raises:
        KeyError: where there is no such run.
    """
    row = _first(connection, schema.runs.c.uid == uid)
    if row is None:
        raise KeyError(uid)
    documents, decisions = (
        connection.execute(
            sa.select(table).where(table.c.uid == uid).order_by(*table.primary_key.columns)
        ).mappings()
        for table in (schema.documents, schema.decisions)
    )
    return Kept(
        row={name: value for name, value in row.items() if name not in OWN},
        documents={each["kind"]: each["content"] for each in documents},
        decisions=tuple(dict(each) for each in decisions),
    )


def keep(connection: sa.Connection, owners: sa.MetaData, kept: Kept) -> None:
    """Write a run, but for its epochs; the same again changes nothing.

    Another run that has its name here steps aside, but never for a baseline: see `_aside`.
    """
    row = plain(kept.row)
    documents, decisions = plain(dict(kept.documents)), plain(kept.decisions)
    seal = digest(row, documents, decisions)
    before = _first(connection, schema.runs.c.uid == row["uid"])
    if before is not None and before["digest"] == seal:
        return
    other = find(connection, row["name"])
    if other is not None and other["uid"] != row["uid"]:
        if row["baseline"]:
            row["name"] = _aside(connection, row)
        else:
            step_aside(connection, owners, load(connection, other["uid"]))
    row |= owner.write_run(connection, owners, {**row, "timings": timings(row)}, before)
    schema.upsert(connection, schema.runs, [{**row, "digest": seal}])
    uid = row["uid"]
    larger = [{"uid": uid, "kind": kind, "content": told} for kind, told in documents.items()]
    schema.upsert(connection, schema.documents, larger)
    connection.execute(sa.delete(schema.decisions).where(schema.decisions.c.uid == uid))
    if decisions:
        connection.execute(sa.insert(schema.decisions), decisions)


def seed(connection: sa.Connection, owners: sa.MetaData, kept: Kept) -> None:
    """Write a baseline where it is not there; where it is, its name may be a later run's by now."""
    if _first(connection, schema.runs.c.uid == kept.uid) is None:
        keep(connection, owners, kept)


def step_aside(connection: sa.Connection, owners: sa.MetaData, kept: Kept) -> None:
    """Give up the name to a later run, with all else kept."""
    changes = {"name": _aside(connection, kept.row)}
    if kept.row["status"] == "in_progress":
        changes |= {"status": "cancelled", "ending": "another run was started under its name"}
    keep(connection, owners, kept.but(**changes))


def _aside(connection: sa.Connection, row: Row) -> str:
    """ "NAME (its start)", with a number where that is taken."""
    label = "baseline" if row["baseline"] else row["started"]
    wanted = name = f"{row['name']} ({label})"
    for number in itertools.count(2):
        if find(connection, name) is None:
            break
        name = f"{wanted} {number}"
    return name


def load_epochs(
    connection: sa.Connection, uid: str | None = None, *, pictures: bool = True
) -> dict[str, list[EpochResult]]:
    """Epochs by the run's uid, of one run or of all, in order; without pictures much faster."""
    table = schema.epochs
    told = [column for column in table.c if column.name not in OWN]
    chosen = sa.select(*told, schema.runs.c.name.label("run")).join_from(table, schema.runs)
    drawn = sa.select(schema.pictures).order_by(*schema.pictures.primary_key.columns)
    if uid is not None:
        chosen, drawn = chosen.where(table.c.uid == uid), drawn.where(schema.pictures.c.uid == uid)
    shown: dict[tuple[str, int], list[PictureResult]] = defaultdict(list)
    for each in connection.execute(drawn).mappings() if pictures else ():
        named = ("prompt", "text", "seed", "file", "sha256", "measured")
        picture = PictureResult(**{name: each[name] for name in named})
        shown[each["uid"], each["epoch"]].append(picture)
    found: dict[str, list[EpochResult]] = defaultdict(list)
    made = ("pictures", "suggested", "scores", "earlier")
    cells = [each.name for each in fields(EpochResult) if each.name not in made]
    for row in connection.execute(chosen.order_by(table.c.uid, table.c.epoch)).mappings():
        result = EpochResult(
            **{name: row[name] for name in cells},
            pictures=tuple(shown[row["uid"], row["epoch"]]),
            suggested=Scores(**{name: row[f"suggested_{name}"] for name in SCORES}),
            scores=Scores(**{name: row[name] for name in SCORES}),
            earlier=tuple(row["earlier"]),
        )
        found[row["uid"]].append(result)
    return found


def keep_epoch(
    connection: sa.Connection, owners: sa.MetaData, uid: str, result: EpochResult
) -> None:
    """Write an epoch of a run that is there; the same again changes nothing."""
    row = plain(asdict(result))
    pictures, _ = row.pop("pictures"), row.pop("run")
    row |= row.pop("scores")
    row |= {f"suggested_{name}": score for name, score in row.pop("suggested").items()}
    seal = digest(row, pictures)
    key = {"uid": uid, "epoch": result.epoch}
    table, drawn = schema.epochs, schema.pictures
    at = (table.c.uid == uid) & (table.c.epoch == result.epoch)
    before = connection.execute(sa.select(table).where(at)).mappings().first()
    if before is not None and before["digest"] == seal:
        return
    run = _first(connection, schema.runs.c.uid == uid)
    if run is None:
        raise KeyError(uid)
    written = owner.write_epoch(connection, owners, run, result, dict(before) if before else None)
    schema.upsert(connection, table, [{**row, **key, "digest": seal, "written": written}])
    connection.execute(sa.delete(drawn).where(drawn.c.uid == uid, drawn.c.epoch == result.epoch))
    if pictures:
        numbered = [{**key, "number": i, **picture} for i, picture in enumerate(pictures, start=1)]
        connection.execute(sa.insert(drawn), numbered)


def load_all(connection: sa.Connection) -> list[Kept]:
    """Every run, in the order of their starts: its row alone."""
    chosen = sa.select(schema.runs).order_by(schema.runs.c.started, schema.runs.c.name)
    return [Kept(row=dict(row)) for row in connection.execute(chosen).mappings()]


def _first(connection: sa.Connection, where: sa.ColumnElement[bool]) -> Row | None:
    found = connection.execute(sa.select(schema.runs).where(where)).mappings().first()
    return dict(found) if found is not None else None
