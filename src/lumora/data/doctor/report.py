"""What an examination found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lumora.data.doctor.examined import Examined

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
    examined: Examined | None = field(default=None, repr=False, compare=False)
    """What is known of each file: `repair` goes by it."""

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
        return {
            "data": self.data,
            "layout": self.layout,
            "task": self.task,
            "labels": list(self.labels),
            "pictures": self.pictures,
            "splits": dict(self.splits),
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "findings": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.of(severity))} {severity}s" for severity in SEVERITIES)
        lines = [f"{self.data}: {self.pictures:,} pictures, {counts}"]
        for each in self.findings:
            some = ", ".join(each.files[:3]) + (f" and {len(each.files) - 3:,} more" if len(each.files) > 3 else "")
            lines.append(f"{each.severity}: {each.kind}: {each.found}{f' ({some})' if some else ''} {each.advice}")
        return "\n".join(lines)
