"""Masks of large pictures: time and memory of `lumora predict --tile`, for pictures of growing size.

    python benchmarks/large_pictures.py                     # up to 20,000 × 20,000
    python benchmarks/large_pictures.py --sides 2000 5000

Each picture is a TIFF in compressed tiles, and is predicted by the program itself in a process of its own; its largest
memory is told by the system. The model is the embedded base with a light head for the six classes of the scenes; the
head is not trained, which changes neither time nor memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from measuring import Say, machine, written
from numpy.typing import NDArray
from PIL import Image

PROGRAM = Path(sys.executable).with_name("lumora")
SEGMENT = 512
"""The sides of the TIFF's own tiles."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[5_000, 10_000, 20_000])
    parser.add_argument("--tile", type=int, default=512, help="the sides of a tile, in pixels of the picture")
    parser.add_argument("--seen", type=int, default=512, help="the sides of what the model sees")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--out", type=Path, help="write the report there as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    written(options.out, lambda say: report(say, options))


def report(say: Say, options: argparse.Namespace) -> None:
    say(f"{machine('pillow')}; {options.threads} threads for the program\n")
    say(f"Tiles of {options.tile} × {options.tile}, seen as {options.seen} × {options.seen}, overlap a quarter.\n")
    say("| picture | file | tiles | time | tiles a second | peak memory |")
    say("|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        patch = make_bundle(folder, options.seen)
        for side in options.sides:
            picture = folder / f"{side}.tif"
            write_picture(picture, side, patch)
            seconds, memory = predict(folder, picture, options)
            tiles = count(side, options.tile) ** 2
            check(folder / "out/masks" / f"{side}.png", side)
            say(
                f"| {side:,} × {side:,} | {picture.stat().st_size / 1e6:,.0f} MB | {tiles:,} | {seconds:,.0f} s | "
                f"{tiles / seconds:.1f} | {memory / 1e6:,.0f} MB |"
            )
            picture.unlink()


def make_bundle(folder: Path, seen: int) -> NDArray[np.uint8]:
    """A bundle, and the pixels of a scene."""
    from lumora.bundle import About, BaseReference, write
    from lumora.data import open_source
    from lumora.data.scenes import write_scenes
    from lumora.models import load_base

    write_scenes(folder / "scenes", 2, task="segmentation", size=(1024, 1024))
    source = open_source(folder / "scenes")
    base = load_base(task="segmentation", labels=source.labels.names)
    about = About(
        task="segmentation",
        labels=source.labels,
        preprocessing=base.preprocessing,
        size=(seen, seen),
        base=BaseReference.of(base),
        method="head",
    )
    write(folder / "bundle", base.module, about)
    first = next(iter(next(iter(source.splits.values()))))
    return first.picture().permute(1, 2, 0).numpy()


def write_picture(path: Path, side: int, patch: NDArray[np.uint8]) -> None:
    """A TIFF in compressed tiles: a scene over and over, a little brighter or darker each time."""

    def tiles() -> Iterator[NDArray[np.uint8]]:
        across = -(-side // SEGMENT)
        for number in range(across * across):
            row, column = divmod(number, across)
            top, left = (SEGMENT * row) % 1024 % (1024 - SEGMENT + 1), (SEGMENT * column) % 1024 % (1024 - SEGMENT + 1)
            shade = (number * 37) % 40
            yield np.minimum(patch[top : top + SEGMENT, left : left + SEGMENT], 255 - shade) + np.uint8(shade)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(SEGMENT, SEGMENT),
        photometric="rgb",
        compression="zlib",
        compressionargs={"level": 1},
    )


def predict(folder: Path, picture: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Seconds, and bytes at most, of the program."""
    start = time.perf_counter()
    command = [PROGRAM, "predict", folder / "bundle", picture, "--out", folder / "out", "--device", "cpu", "--quiet"]
    command += ["--tile", options.tile, "--batch-size", options.batch_size]
    child = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": str(options.threads)},
    )
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"lumora predict ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def check(mask: Path, side: int) -> None:
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(mask) as image:
        assert image.size == (side, side)


def count(side: int, tile: int) -> int:
    from lumora.predict.tiles.grid import grid

    return len(grid((side, side), (tile, tile), tile).rows.starts)


if __name__ == "__main__":
    main()
