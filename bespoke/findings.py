"""What a check found: how it is put, sorted and printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found. `file` is relative to the data folder, "" for the whole."""

    code: str
    severity: Severity
    file: str = ""
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}" if self.file else self.message


def finding(severity: Severity, code: str, file: str, message: str) -> Finding:
    """A finding. What is no UTF-8, as a file name may be, could be neither printed nor stored."""
    file, message = (text.encode("utf-8", "backslashreplace").decode() for text in (file, message))
    return Finding(code=code, severity=severity, file=file, message=message)


def summary(findings: Iterable[Finding], *, whole: bool = False) -> list[str]:
    """Lines for a terminal, the errors first: one example of each code, or every finding."""
    lines: list[str] = []
    for group in _by_code(sorted(findings, key=lambda each: SEVERITIES.index(each.severity))):
        shown = map(str, group) if whole else _examples(group, 1)
        head = f"{group[0].severity}: {group[0].code} ({len(group)})"
        lines += [head, *(f"  {line}" for line in shown)]
    return lines


def listing(findings: Iterable[Finding]) -> str:
    """The text of an error: three findings of each code, a line each."""
    return "\n".join(line for group in _by_code(findings) for line in _examples(group, 3))


def _by_code(findings: Iterable[Finding]) -> Iterable[list[Finding]]:
    groups: dict[str, list[Finding]] = {}
    for each in findings:
        groups.setdefault(each.code, []).append(each)
    return groups.values()


def _examples(group: list[Finding], limit: int) -> list[str]:
    lines = [shortened(str(each)) for each in group[:limit]]
    if len(lines) < len(group):
        more = f"… and {len(group) - len(lines)} more (bespoke check --all lists them)"
        lines[-1] = f"{lines[-1].removesuffix(' …')} {more}"
    return lines


def shortened(line: str) -> str:
    return line if len(line) <= 240 else f"{line[:240]} …"
