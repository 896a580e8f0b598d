"""What is wrong with data, and a copy in which it is mended."""

from lumora.data.doctor.examining import examine
from lumora.data.doctor.repair import Change, Repair, repair
from lumora.data.doctor.report import Finding, Report, Severity

__all__ = ["Change", "Finding", "Repair", "Report", "Severity", "examine", "repair"]
