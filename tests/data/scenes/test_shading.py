"""Picture and mask come from the same shapes: what changes the look of a class changes its pixels and no others."""

import dataclasses

import numpy as np
import pytest
from tests.data.scenes.test_scene import near

from lumora.data.scenes import CLASSES, KINDS, scene, shading
from lumora.data.scenes.scene import kind_of


@pytest.fixture
def repainted(monkeypatch):
    """Make a scene in which everything of one class is bright magenta."""

    def make(name, seed, index, size):
        original = shading.picture

        def picture(stage, *rest):
            for i, paint in enumerate(stage.canvas.paints):
                if paint.kind == CLASSES.index(name):
                    stage.canvas.paints[i] = dataclasses.replace(paint, colour=(4.0, 0.0, 4.0), glow=0.0)
            return original(stage, *rest)

        monkeypatch.setattr(shading, "picture", picture)
        made = scene(seed, index, size)
        monkeypatch.undo()
        return made

    return make


@pytest.mark.parametrize("name", ["tree", "house", "road", "rock", "person", "boat", "mountain", "car", "pier"])
def test_picture__shows_a_class_where_its_mask_is_and_nowhere_else(repainted, name):
    """But for mirror images: those are water."""
    kind = {"road": "village", "car": "village", "house": "village", "boat": "harbour", "pier": "harbour"}.get(
        name, {"mountain": "mountains", "rock": "mountains", "tree": "forest"}.get(name, "coast")
    )
    checked = 0
    for index in [i for i in range(48) if KINDS[kind_of(9, i)] == kind]:
        plain, changed = scene(9, index, 96), repainted(name, 9, index, 96)
        assert np.array_equal(plain.mask, changed.mask)
        here = plain.mask == CLASSES.index(name)
        if not here.any():
            continue
        differs = (plain.picture != changed.picture).any(2)
        assert differs[here].mean() > 0.98  # in fog or at night a magenta may be lost
        # A pixel at an outline has up to half of its area from a neighbour that the mask does not name.
        water = plain.mask == CLASSES.index("water")
        stray = differs & ~near(here, 1) & ~water
        assert stray.mean() < 0.004  # things thinner than a pixel
        checked += 1
    assert checked >= 2
