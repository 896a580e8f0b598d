import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumora.data import Limits
from lumora.errors import InputError
from lumora.predict.tiles.grid import Axis, Tiling, grid


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 400), st.integers(1, 90), st.integers(0, 45))
def test_axis__every_pixel_is_decided_once_and_by_tiles_that_hold_it(length, tile, overlap):
    tile = min(tile, length)
    axis = Axis(length, tile, min(overlap, tile // 2))
    starts = axis.starts
    assert starts[0] == 0
    assert starts[-1] + tile == length
    assert all(later > earlier for earlier, later in itertools.pairwise(starts))
    spans = axis.spans()
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == length
    for span in spans:
        assert len(span.tiles) in (1, 2)
        assert all(starts[i] <= span.start and span.stop <= starts[i] + tile for i in span.tiles)
    assert {i for span in spans for i in span.tiles} == set(range(len(starts)))


@pytest.mark.parametrize(
    ("picture", "seen", "tile", "overlap", "tiles", "overlaps"),
    [
        ((1000, 2000), (512, 512), None, None, (512, 512), (128, 128)),
        ((1000, 2000), (512, 512), 1024, None, (1000, 1000), (250, 250)),
        ((5000, 5000), (512, 512), 1024, None, (1024, 1024), (256, 256)),
        ((5000, 5000), (256, 512), 1024, 100, (512, 1024), (100, 100)),
        ((300, 20_000), (512, 512), 512, 200, (300, 300), (150, 150)),
        ((3, 5), (512, 512), None, None, (3, 3), (1, 1)),
    ],
)
def test_grid__tiles_have_the_proportions_of_what_the_model_sees(picture, seen, tile, overlap, tiles, overlaps):
    made = grid(picture, seen, tile, overlap)
    assert (made.size, made.tile) == (picture, tiles)
    found = (made.rows.overlap, made.columns.overlap)
    assert all(abs(a - b) <= max(8, b // 4) for a, b in zip(found, overlaps, strict=True)), found
    if overlap is None and tile in (None, 1024) and min(picture) >= 1024:
        assert all(start % 32 == 0 for start in made.rows.starts[:-1])


@pytest.mark.parametrize(("tile", "overlap"), [(0, None), (64, 33), (64, -1)])
def test_grid__refuses_what_cannot_be(tile, overlap):
    with pytest.raises(InputError, match=f"tile is {tile} and overlap"):
        grid((100, 100), (64, 64), tile, overlap)


def test_tiling__cuts_what_does_not_fit_a_tile_if_it_was_asked_for():
    sizes = [(64, 64), (40, 50), (64, 65), (500, 20)]
    limits = Limits(50_000)
    assert [Tiling((64, 64), limits).of(size) is None for size in sizes] == [True] * 4
    assert Tiling((64, 64), limits).of((224, 224)).tile == (64, 64)  # beyond the limits
    assert [Tiling((64, 64), limits, "auto").of(size) is None for size in sizes] == [True, True, False, False]
    assert [Tiling((64, 64), limits, 128).of(size) is None for size in sizes] == [True, True, True, False]
