"""What a check found: how it is put, sorted and printed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    """A finding. What is no UTF-8, as a file name may be, could be neither printed nor stored."""
    file, message = (text.encode("utf-8", "backslashreplace").decode() for text in (file, message))
    return Finding(
        code=code, severity=severity, file=file, tag=tag, message=message, measured=measured
    )


HEX_CODES = frozenset((
    "colour_shared_background", "colour_shared", "colour_only_background", "colour_word",
    "colour_background", "colour_absent", "palette_torn", "feature_torn", "colour_loose",
))  # fmt: skip
_WORDING = frozenset(("caption_word_glued", "caption_repeated", "background_unnamed"))
CAUSES = {
    **dict.fromkeys(HEX_CODES, "Hex codes that the model cannot tie to one feature"),
    **dict.fromkeys(_WORDING, "Slips in the wording"),
}
"""Warnings that a person mends in one go; every other code is a cause of its own."""


def summary(findings: Iterable[Finding], *, examples: int | None = 3) -> list[str]:
    """Lines for a terminal, the errors first, with so many examples of each kind of error, and one
    of each other kind; None shows every finding. Warnings of one cause are one kind.
    """
    groups: dict[tuple[Severity, str], list[Finding]] = defaultdict(list)
    for each in findings:
        together = examples is not None and each.severity == "warning"
        cause = CAUSES.get(each.code, each.code) if together else each.code
        groups[each.severity, cause].append(each)
    lines: list[str] = []
    for severity, cause in sorted(groups, key=lambda key: SEVERITIES.index(key[0])):
        group = groups[severity, cause]
        lines.append(f"{severity}: {cause} ({len(group)})")
        codes = Counter(each.code for each in group)
        if len(codes) > 1:
            lines.append("  " + ", ".join(f"{code} {n}" for code, n in codes.most_common()))
        fewer = severity != "error" and examples is not None
        lines += [f"  {line}" for line in _examples(group, 1 if fewer else examples)]
    return lines


def listing(findings: Sequence[Finding]) -> str:
    """The text of an error: three findings of each code, a line each."""
    groups: dict[str, list[Finding]] = defaultdict(list)
    for each in findings:
        groups[each.code].append(each)
    return "\n".join(line for group in groups.values() for line in _examples(group, 3))


def _examples(group: Sequence[Finding], limit: int | None) -> list[str]:
    lines = [str(each) for each in group[:limit]]
    if limit is not None and len(group) > limit:
        lines[-1] += f" … and {len(group) - limit} more (bespoke check --all lists them)"
    return lines
