"""How long the doctor takes on many small pictures, and how its memory grows.

    python benchmarks/doctor.py                  # 10,000 pictures, half of them JPEG; must be under a minute
    python benchmarks/doctor.py --count 2000 --masks

Pictures are generated into a temporary folder first, which is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

MUST = 60.0
"""Seconds for 10,000 pictures on two cores."""


def write_picture(root: Path, index: int, side: int, masks: bool) -> None:
    random = np.random.default_rng(index)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    picture = coarse.resize((side, side), Image.Resampling.BICUBIC)
    ending = "jpg" if index % 2 else "png"
    split = "train" if index % 5 else "validation"
    if masks:
        picture.save(root / "images" / split / f"{index:06}.{ending}")
        Image.fromarray(random.integers(0, 4, (4, 4), dtype=np.uint8)).resize((side, side), 0).save(
            root / "masks" / split / f"{index:06}.png"
        )
    else:
        picture.save(root / split / f"class{index % 7}" / f"{index:06}.{ending}")


def write_some(root: Path, first: int, count: int, side: int, masks: bool) -> None:
    for index in range(first, first + count):
        write_picture(root, index, side, masks)


def write_all(root: Path, count: int, side: int, masks: bool) -> None:
    for split in ("train", "validation"):
        for name in ("images", "masks") if masks else [f"class{i}" for i in range(7)]:
            (root / name / split if masks else root / split / name).mkdir(parents=True)
    with ProcessPoolExecutor() as pool:
        for first in range(0, count, 250):
            pool.submit(write_some, root, first, min(250, count - first), side, masks)


def measure(root: Path) -> dict[str, float]:
    """In a process of its own, so that its memory is the doctor's."""
    code = (
        "import sys; sys.path.insert(0, 'benchmarks'); import doctor; from pathlib import Path; "
        "doctor.examine_and_print(Path(sys.argv[1]))"
    )
    ended = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)


def examine_and_print(root: Path) -> None:
    from lumora.data.doctor import examine

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, processor = time.perf_counter(), time.process_time()
    report = examine(root)
    seconds, busy = time.perf_counter() - start, time.process_time() - processor
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "pictures": report.pictures,
                "seconds": seconds,
                "processor seconds": busy,
                "memory at start, MB": before,
                "memory at most, MB": after,
                "findings": len(report.findings),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=96, help="pixels")
    parser.add_argument("--masks", action="store_true", help="with a mask for each picture")
    parser.add_argument("--json", action="store_true")
    wishes = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        write_all(root, wishes.count, wishes.side, wishes.masks)
        found = {"cores": len(os.sched_getaffinity(0)), "side": wishes.side, **measure(root)}
    if wishes.json:
        print(json.dumps(found))
        return
    for name, value in found.items():
        print(f"{name + ':':<22} {value:,.1f}" if isinstance(value, float) else f"{name + ':':<22} {value:,}")
    per = 10_000 * found["seconds"] / found["pictures"]
    print(f"{'for 10,000:':<22} {per:.1f} s, {'under' if per < MUST else 'OVER'} a minute")


if __name__ == "__main__":
    main()
