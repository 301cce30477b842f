"""What a check found: how it is put, sorted and printed."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found. `file` is relative to the data folder, "" for the whole."""

    code: str
    severity: Severity
    file: str = ""
    tag: str = ""
    message: str
    measured: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.file}: {self.message}" if self.file else self.message


def error(code: str, file: str, message: str, *, tag: str = "", **measured: object) -> Finding:
    return finding("error", code, file, message, tag=tag, **measured)


def finding(
    severity: Severity, code: str, file: str, message: str, *, tag: str = "", **measured: object
) -> Finding:
    return Finding(
        code=code, severity=severity, file=_printable(file), tag=tag,
        message=_printable(message), measured=measured,
    )  # fmt: skip


def _printable(text: str) -> str:
    """`text` with what is no UTF-8 escaped: such file names can be neither printed nor stored."""
    return text.encode("utf-8", "backslashreplace").decode()


CAUSES: tuple[tuple[str, frozenset[str]], ...] = (
    (
        "Hex codes that the model cannot tie to one feature",
        frozenset((
            "colour_shared_background", "colour_shared", "colour_only_background", "colour_word",
            "colour_background", "colour_absent", "palette_torn", "feature_torn", "colour_loose",
        )),
    ),
    (
        "Slips in the wording",
        frozenset(("caption_word_glued", "caption_repeated", "background_unnamed")),
    ),
)  # fmt: skip
"""What a person mends in one go; every other code is a cause of its own."""


def summary(findings: Iterable[Finding], *, examples: int | None = 3) -> list[str]:
    """Lines for a terminal, the errors first, with so many examples of each kind of error, and one
    of each other kind; None shows every finding. Warnings of one cause are one kind.
    """
    groups: dict[tuple[Severity, str], list[Finding]] = defaultdict(list)
    for each in findings:
        cause = next((name for name, codes in CAUSES if each.code in codes), each.code)
        together = examples is not None and each.severity == "warning"
        groups[each.severity, cause if together else each.code].append(each)
    lines: list[str] = []
    for severity, cause in sorted(groups, key=lambda key: SEVERITIES.index(key[0])):
        group = groups[severity, cause]
        counts = Counter(each.code for each in group)
        if len(counts) > 1:
            files = len({each.file for each in group})
            lines.append(f"{severity}: {cause} ({len(group)} in {files} files)")
            lines.append("  " + ", ".join(f"{code} {n}" for code, n in counts.most_common()))
        else:
            lines.append(f"{severity}: {group[0].code} ({len(group)})")
        limit = examples if severity == "error" or examples is None else min(examples, 1)
        lines.extend(f"  {each}" for each in group[:limit])
        if limit is not None and len(group) > limit:
            lines[-1] += f" … and {len(group) - limit} more (--all lists them)"
    return lines


def listing(findings: Sequence[Finding], *, limit: int = 40) -> str:
    """One line a finding, for an error's text.

    Where there are more than `limit`, every kind is shown before a second of any is.
    """
    seen: dict[str, Iterator[int]] = defaultdict(itertools.count)
    ranks = [(next(seen[each.code]), index) for index, each in enumerate(findings)]
    shown = [str(findings[index]) for index in sorted(index for _, index in sorted(ranks)[:limit])]
    if len(findings) > limit:
        shown.append(f"… and {len(findings) - limit} more (bespoke check --all shows them)")
    return "\n".join(shown)
