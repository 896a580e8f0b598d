"""Photograph `playground.png`: the page of `lumora serve`, in chromium.

    python -m docs.images.playground [BUNDLE]

Trains a bundle on scenes first, unless one is named.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.browser import Browser
from tests.serve.playing import choose
from tests.serve.running import Running

import lumora
from lumora.data.scenes import write_scenes

WIDTH, HEIGHT = 1100, 720


def trained(folder: Path) -> Path:
    """A bundle that knows what scenes show."""
    write_scenes(folder / "scenes", 400, size=(120, 160))
    settings = {
        "data.task": "classification",
        "train.epochs": 5,
        "run.live_samples": 0,
    }
    run = lumora.finetune(
        folder / "scenes", out=folder / "run", settings=settings
    )
    return run.folder / "bundle"


def main() -> None:
    """Serve, choose a picture, photograph."""
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        bundle = Path(sys.argv[1]) if sys.argv[1:] else trained(folder)
        write_scenes(folder / "seen", 12, size=(300, 400))
        pictures = sorted((folder / "seen").rglob("*.jpg"))
        with Running(f"landscapes={bundle}") as server, Browser() as browser:
            browser.visit(f"{server.url}/playground", WIDTH, HEIGHT)
            choose(browser, "landscapes", pictures[4].read_bytes(), "jpeg")
            browser.screenshot(
                Path(__file__).with_name("playground.png"), whole=False
            )


if __name__ == "__main__":
    main()
