"""Evaluating ten times as many pictures takes no more memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def peak(pictures: int, folder: Path) -> int:
    """Mebibytes."""
    command = [sys.executable, "-m", "tests.integrations.peak", str(pictures), str(folder)]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return int(printed.rpartition("peak ")[2])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_evaluate__peaks_at_the_same_memory_with_20_and_200_pictures(tmp_path):
    few, many = (peak(count, tmp_path) for count in (20, 200))
    # Kept logits would add 180 × 9.4 MB, kept labels 180 × 2 MB, kept arg-maxes as much.
    assert many - few < 40, (few, many)
