"""Photograph `report.jpg`: the report of a training on scenes, in chromium.

    python -m docs.images.report

Trains for some minutes first.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from PIL import Image
from tests.browser import Browser

import lumora
from lumora.data.scenes import write_scenes

WIDTH, HEIGHT = 1200, 1580
PHONE = 390
GAP = 40
GROUND = (222, 228, 228)


def report(folder: Path) -> Path:
    """The report of a training that makes some mistakes."""
    write_scenes(folder / "landscapes", 480, size=(96, 128))
    settings = {
        "train.epochs": 6,
        "pictures.size": 80,
        "train.batch_size": 16,
        "run.live_samples": 0,
    }
    run = lumora.finetune(
        folder / "landscapes", out=folder / "run", settings=settings
    )
    page = run.folder / "report.html"
    if not page.is_file():
        raise SystemExit("\n".join(run.notes))
    return page


def photographs(page: Path, folder: Path) -> list[Image.Image]:
    """The page on a screen, and in the dark on a telephone."""
    shots = []
    with Browser() as browser:
        for i, (width, dark) in enumerate(((WIDTH, False), (PHONE, True))):
            browser.open(page, width, HEIGHT, dark=dark)
            browser.screenshot(folder / f"{i}.png", whole=False)
            shots.append(Image.open(folder / f"{i}.png").convert("RGB"))
    return shots


def beside(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one height in a row."""
    width = sum(picture.width + GAP for picture in pictures) + GAP
    whole = Image.new("RGB", (width, HEIGHT + 2 * GAP), GROUND)
    left = GAP
    for picture in pictures:
        whole.paste(picture, (left, GAP))
        left += picture.width + GAP
    return whole


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        shots = photographs(report(Path(place)), Path(place))
        path = Path(__file__).with_name("report.jpg")
        beside(shots).save(path, quality=82, optimize=True)
