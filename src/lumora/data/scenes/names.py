"""What stands in a scene, what kind of scene it is, and the colours in which masks are drawn."""

from __future__ import annotations

from typing import Final

_DRAWN_IN: Final = {
    "sky": (135, 190, 235),
    "cloud": (235, 240, 245),
    "sun": (255, 215, 0),
    "mountain": (120, 105, 130),
    "ground": (150, 190, 90),
    "water": (30, 95, 170),
    "road": (90, 90, 95),
    "tree": (25, 110, 50),
    "rock": (165, 150, 135),
    "house": (200, 75, 60),
    "tower": (240, 140, 180),
    "bridge": (125, 70, 30),
    "pier": (205, 160, 100),
    "fence": (250, 250, 200),
    "boat": (255, 120, 0),
    "car": (150, 20, 130),
    "person": (255, 0, 80),
    "animal": (80, 230, 200),
}

CLASSES: Final = tuple(_DRAWN_IN)
"""The classes of a mask; a class's place in this list is its id. `ground` is grass, sand, fields, snow and far hills,
`sun` is the moon as well, `tree` takes bushes in, `tower` is a lighthouse, a church's tower or a windmill."""

PALETTE: Final = tuple(_DRAWN_IN.values())
"""The colour of every class in a drawn mask."""

KINDS: Final = ("coast", "farmland", "forest", "harbour", "lake", "mountains", "river", "village")
"""The kinds of scenes; a kind's place in this list is its id. In the alphabet's order, as class folders are read."""

SKY, CLOUD, SUN, MOUNTAIN, GROUND, WATER, ROAD, TREE, ROCK = range(9)
HOUSE, TOWER, BRIDGE, PIER, FENCE, BOAT, CAR, PERSON, ANIMAL = range(9, 18)
