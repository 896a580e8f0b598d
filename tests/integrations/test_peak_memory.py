"""Evaluating ten times as many pictures takes no more memory."""

from __future__ import annotations

import sys

import pytest
from tests.integrations import peak
from tests.memory import most_held


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_evaluate__peaks_at_the_same_memory_with_20_and_200_pictures(tmp_path):
    few, many = (most_held(sys.executable, peak.__file__, count, tmp_path) for count in (20, 200))
    # Kept logits would add 180 × 9.4 MB, kept labels 180 × 2 MB, kept arg-maxes as much.
    assert many - few < 40_000_000, (few, many)
