"""Numbers and names as people read them."""

from __future__ import annotations

import math

_TITLES = {
    "top5_accuracy": "Top-5 accuracy",
    "macro_f1": "Macro F1",
    "mean_iou": "Mean IoU",
    "mean_accuracy": "Mean accuracy of the classes",
    "overall_accuracy": "Accuracy of all pixels",
    "boundary_f": "Boundary F-score",
    "auroc": "AUROC",
    "iou": "IoU",
    "f1": "F1",
    "support": "Pictures",
}


def title(measure: str) -> str:
    """What a measure is called above a column.

    >>> title("mean_iou"), title("calibration_error")
    ('Mean IoU', 'Calibration error')
    """
    return _TITLES.get(measure) or measure.replace("_", " ").capitalize()


def percent(value: float | None) -> str:
    """A share of one.

    >>> percent(0.9342), percent(1.0), percent(0.0004), percent(2e-6), percent(None)
    ('93.4 %', '100 %', '0.04 %', '< 0.01 %', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    hundredths = 100 * value
    if hundredths in (0, 100):
        return f"{hundredths:.0f} %"
    if abs(hundredths) >= 0.1:
        return f"{hundredths:.1f} %"
    return f"{hundredths:.2f} %" if abs(hundredths) >= 0.01 else "< 0.01 %"


def round_percent(value: float) -> str:
    """A share that is a round number.

    >>> round_percent(0.4), round_percent(0.125)
    ('40 %', '12.5 %')
    """
    return f"{100 * value:.4g} %"


def number(value: float | None) -> str:
    """A number of any size, to three digits.

    >>> number(0.123456), number(0.0005), number(2e-06), number(float("nan"))
    ('0.123', '0.0005', '2e-06', '–')
    """
    return "–" if value is None or not math.isfinite(value) else f"{value:.3g}"


def duration(seconds: float) -> str:
    """A time in its two largest units.

    >>> duration(4.21), duration(125), duration(3720)
    ('4.2 s', '2 min 5 s', '1 h 2 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(value: int) -> str:
    """A large number with its first digits.

    >>> count(667493), count(85_900_000), count(56)
    ('667,493', '85.9 million', '56')
    """
    return f"{value / 1e6:,.1f} million" if value >= 1_000_000 else f"{value:,}"


def size(of_bytes: int) -> str:
    """The size of a file.

    >>> size(2_612_345), size(80_123), size(500)
    ('2.6 MB', '80 KB', '500 bytes')
    """
    if of_bytes >= 1_000_000:
        return f"{of_bytes / 1e6:,.1f} MB"
    return f"{of_bytes / 1e3:,.0f} KB" if of_bytes >= 1000 else f"{of_bytes} bytes"
