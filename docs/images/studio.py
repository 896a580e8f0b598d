"""Photograph `studio-*.jpg`: the tabs of the studio, in chromium.

    python -m docs.images.studio

Trains for some minutes first.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect
from tests.studio.opened import PATIENCE, Page, a_page, a_studio

import lumora
from lumora.data.scenes import write_scenes

WIDTH, HEIGHT = 1200, 900
HEADING = 104
"""The pixels above the tabs, which say where this machine keeps things."""
HERE = Path(__file__).parent


def trained(folder: Path) -> tuple[Path, Path]:
    """Landscapes, and a run on them that makes some mistakes."""
    data, runs = folder / "landscapes", folder / "runs"
    write_scenes(data, 240, size=(96, 128))
    settings = {
        "train.epochs": 6,
        "pictures.size": 80,
        "train.batch_size": 16,
        "run.live_samples": 3,
    }
    lumora.finetune(data, out=runs / "landscapes", settings=settings)
    return data, runs


def photograph(page: Page, name: str) -> None:
    """Write what the window shows."""
    page.page.wait_for_timeout(600)  # until nothing moves any more
    shot = Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")
    if page.page.evaluate("scrollY") == 0:
        shot = shot.crop((0, HEADING, WIDTH, HEIGHT))
    shot.save(HERE / f"studio-{name}.jpg", quality=82, optimize=True)


def tabs(page: Page, shown: Any, picture: Path) -> None:
    """Go through all tabs that the guide shows."""
    shown.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    shown.locator("#data-samples img").first.wait_for()
    photograph(page, "data")
    page.tab("Train")
    shown.locator("#train-progress svg").first.wait_for()
    photograph(page, "train")
    page.tab("Results")
    shown.locator("#results-table svg").first.wait_for()
    run = shown.get_by_role("combobox", name="Run to look into")
    expect(run).to_have_value("landscapes", timeout=PATIENCE)
    shown.locator("#results-examine").click()
    shown.locator("#results-picture img").first.wait_for(timeout=3 * PATIENCE)
    shown.locator("#results-run").evaluate("e => e.scrollIntoView()")
    photograph(page, "results")
    page.tab("Try")
    shown.locator("#try-picture input[type=file]").set_input_files(picture)
    shown.locator("#try-picture img").wait_for()
    shown.locator("#try-bundles .token").first.wait_for()
    shown.locator("#try-start").click()
    shown.locator("#try-answers .lm-card").nth(1).wait_for(timeout=3 * PATIENCE)
    photograph(page, "try")
    library(page, shown)


def library(page: Page, shown: Any) -> None:
    """The bundle of the run, and what can be made of it."""
    page.tab("Library")
    shown.locator("#library-card h1").wait_for(timeout=PATIENCE)
    shown.get_by_role("button", name="Merge into a plain checkpoint").click()
    shown.locator("#library-merge").wait_for()
    shown.evaluate("scrollTo(0, 0)")
    photograph(page, "library")


def main(folder: Path) -> None:
    """Train, serve, photograph."""
    data, runs = trained(folder)
    with a_studio(folder) as start, a_page() as page:
        running = start(data, "--runs", runs)
        shown = page.open(running.address, WIDTH)
        tabs(page, shown, next((data / "test").rglob("*.jpg")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(Path(place))
