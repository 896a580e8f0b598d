"""The report of a run: one page that opens in any browser, without a network."""

from lumora.training.report.writing import report_on, write_report

__all__ = ["report_on", "write_report"]
