import hashlib
import subprocess
import sys

import numpy as np
import pytest

from lumora.data.scenes import CLASSES, KINDS, PALETTE, scene
from lumora.data.scenes.scene import kind_of
from lumora.errors import DataError


@pytest.fixture(scope="module")
def many():
    return [scene(5, index, 96) for index in range(64)]


def digest(made):
    return hashlib.sha256(made.picture.tobytes() + made.mask.tobytes() + bytes([made.kind])).hexdigest()


def near(chosen, by):
    """Pixels at most `by` away from a chosen one, to the sides and diagonally."""
    grown = chosen.copy()
    padded = np.pad(chosen, by)
    for i in range(2 * by + 1):
        for j in range(2 * by + 1):
            grown |= padded[i : i + chosen.shape[0], j : j + chosen.shape[1]]
    return grown


def test_scene__same_bytes_in_another_order_and_another_process():
    places = [(0, 0, 64), (0, 1, 64), (1, 0, (48, 96)), (0, 12, 300)]
    here = [digest(scene(*place)) for place in places]
    assert [digest(scene(*place)) for place in reversed(places)] == here[::-1]
    program = (
        "import hashlib; from lumora.data.scenes import scene\n"
        f"for place in {places[::-1]!r}:\n"
        "    s = scene(*place)\n"
        "    print(hashlib.sha256(s.picture.tobytes() + s.mask.tobytes() + bytes([s.kind])).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == here[::-1]


def test_scene__every_seed_and_index_is_another_picture(many):
    others = [scene(6, index, 96) for index in range(8)]
    assert len({digest(made) for made in [*many, *others]}) == len(many) + len(others)


@pytest.mark.parametrize("size", [8, 33, (64, 64), (40, 120), (120, 40), 600])
def test_scene__any_size(size):
    for index in range(4 if size == 600 else 16):
        made = scene(3, index, size)
        height, width = size if isinstance(size, tuple) else (size, size)
        assert (made.picture.shape, made.picture.dtype) == ((height, width, 3), np.uint8)
        assert (made.mask.shape, made.mask.dtype) == ((height, width), np.uint8)
        assert made.mask.max() < len(CLASSES)


@pytest.mark.parametrize("size", [7, 0, -3, (64, 4), (64, 640)])
def test_scene__sizes_that_show_nothing_are_refused(size):
    with pytest.raises(DataError, match="at least 8"):
        scene(0, 0, size)


def test_scene__another_size_shows_the_same():
    for index in range(8):
        small, large = scene(2, index, 64), scene(2, index, 192)
        middles = large.mask[1::3, 1::3]
        edges = near(small.mask != np.roll(small.mask, 1, 0), 1) | near(small.mask != np.roll(small.mask, 1, 1), 1)
        assert small.kind == large.kind
        assert (small.mask == middles)[~edges].mean() > 0.98
        # On the average pixel, the picture differs by its finer texture only.
        shrunk = large.picture.reshape(64, 3, 64, 3, 3).mean((1, 3))
        assert np.abs(shrunk - small.picture).mean() < 12


def test_scene__kinds_come_equally_often_and_in_no_order():
    kinds = [kind_of(4, index) for index in range(80)]
    assert all(sorted(kinds[i : i + 8]) == list(range(8)) for i in range(0, 80, 8))
    assert len({tuple(kinds[i : i + 8]) for i in range(0, 80, 8)}) == 10


def test_scene__every_class_occurs(many):
    seen = set(np.unique(np.concatenate([made.mask.ravel() for made in many])))
    seen |= set(np.unique(np.concatenate([scene(7, index, 96).mask.ravel() for index in range(64)])))
    assert {CLASSES[i] for i in seen} == set(CLASSES)


@pytest.mark.parametrize(
    ("kind", "always"),
    [
        ("coast", "water"),
        ("farmland", "ground"),
        ("forest", "tree"),
        ("harbour", "boat"),
        ("harbour", "pier"),
        ("lake", "water"),
        ("mountains", "mountain"),
        ("river", "water"),
        ("village", "house"),
        ("village", "road"),
    ],
)
def test_scene__kind_says_what_stands_in_it(many, kind, always):
    of_kind = [made for made in many if KINDS[made.kind] == kind]
    assert len(of_kind) == len(many) // len(KINDS)
    assert all((made.mask == CLASSES.index(always)).any() for made in of_kind)


def test_scene__sun_in_the_mask_is_the_disc_in_the_sky(many):
    """A class with a known shape: unhidden, the sun's pixels are those within its radius of its middle."""
    checked = 0
    for made in many:
        sun = made.mask == CLASSES.index("sun")
        around = made.mask[near(sun, 2) & ~sun]
        if sun.sum() < 12 or set(around) != {CLASSES.index("sky")}:
            continue
        rows, columns = np.nonzero(sun)
        radius = np.sqrt(sun.sum() / np.pi)
        y, x = np.mgrid[: sun.shape[0], : sun.shape[1]]
        away = np.hypot(y - rows.mean(), x - columns.mean())
        assert np.all(sun[away < radius - 0.8])
        assert not np.any(sun[away > radius + 0.8])
        checked += 1
    assert checked >= 3


def test_palette__colours_differ():
    assert len(set(PALETTE)) == len(CLASSES) == 18
