"""What a check found: how it is put, sorted and printed."""

from __future__ import annotations

import itertools
from collections import defaultdict
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


def summary(findings: Iterable[Finding], *, examples: int = 3) -> list[str]:
    """Lines for a terminal: a heading by severity and code with its count, then examples."""
    groups: dict[tuple[Severity, str], list[Finding]] = defaultdict(list)
    for each in findings:
        groups[each.severity, each.code].append(each)
    lines: list[str] = []
    for severity, code in sorted(groups, key=lambda key: SEVERITIES.index(key[0])):
        group = groups[severity, code]
        lines.append(f"{severity}: {code} ({len(group)})")
        lines.extend(f"  {each}" for each in group[:examples])
        if len(group) > examples:
            lines.append(f"  … and {len(group) - examples} more")
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
