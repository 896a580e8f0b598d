"""What an examination found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One defect, with the files that have it."""

    kind: str
    severity: Severity
    """An error stops or spoils a training, a warning makes it worse or is often a mistake, a note is to be known."""
    found: str
    advice: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What is wrong with data, and what to do about it."""

    data: str
    layout: str
    task: str | None
    """None if the data could not be made out."""
    labels: tuple[str, ...]
    pictures: int
    splits: Mapping[str, int]
    """The number of samples in each; empty if the data are not divided."""
    findings: tuple[Finding, ...] = ()
    """The worst first."""
    notes: tuple[str, ...] = field(default=(), repr=False)
    """How the data were read, as `Source.notes` has it."""

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of a severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of all findings."""
        return frozenset(finding.kind for finding in self.findings)

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return bool(self.of("error"))

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "counts": {severity: len(self.of(severity)) for severity in SEVERITIES}}

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.of(severity))} {severity}s" for severity in SEVERITIES)
        lines = [f"{self.data}: {self.pictures:,} pictures, {counts}"]
        for each in self.findings:
            some = ", ".join(each.files[:3]) + (f" and {len(each.files) - 3:,} more" if len(each.files) > 3 else "")
            lines.append(f"{each.severity}: {each.kind}: {each.found}{f' ({some})' if some else ''} {each.advice}")
        return "\n".join(lines)
