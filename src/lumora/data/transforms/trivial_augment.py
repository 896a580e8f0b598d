"""One random change of random strength: TrivialAugment."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from lumora.data.labels import Colour
from lumora.data.transforms.pixels import GREY, ignored
from lumora.data.transforms.randomness import below
from lumora.data.transforms.steps import Pair

_STEPS = 30
_NEAREST = InterpolationMode.NEAREST


@dataclass(frozen=True)
class TrivialAugment:
    """One of fourteen changes, at one of 31 strengths, each equally likely (Müller and Hutter 2021, "wide").

    Shears, shifts and turns move the mask as well; what they uncover is `fill` in the picture and `IGNORE` in the mask.
    The others change colours, contrast or sharpness. Fourteen ops and strengths as in torchvision.

    Costs from nothing (one change is none) to 4 ms (sharpness) at 224 × 224 pixels. So put it after the crop.
    """

    fill: Colour = GREY

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The changed picture, and the mask where it moved."""
        name = NAMES[below(generator, len(NAMES))]
        strength = below(generator, _STEPS + 1) / _STEPS
        if name in _SIGNED and below(generator, 2):
            strength = -strength
        return apply(name, strength, picture, mask, self.fill)


def apply(name: str, strength: float, picture: Tensor, mask: Tensor | None, fill: Colour) -> Pair:
    """One change by its name; `strength` goes from 0 to 1, or from -1 where it has a direction."""
    if name in _COLOURS:
        return _COLOURS[name](picture, strength), mask
    move = _MOVES[name]
    moved = move(picture, strength, [float(value) for value in fill])
    if mask is not None:
        mask = move(mask[None], strength, [float(ignored(mask))])[0]
    return moved, mask


def _affine(
    picture: Tensor, fill: list[float], shift: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)
) -> Tensor:
    return F.affine_image(
        picture,
        angle=0.0,
        translate=[*shift],
        scale=1.0,
        shear=[math.degrees(math.atan(value)) for value in shear],
        interpolation=_NEAREST,
        fill=fill,
        # Shears hold the upper left corner, as Pillow's do, which the strengths were chosen for.
        center=[0, 0] if any(shear) else None,
    )


_MOVES: dict[str, Callable[[Tensor, float, list[float]], Tensor]] = {
    "shear x": lambda picture, s, fill: _affine(picture, fill, shear=(0.99 * s, 0)),
    "shear y": lambda picture, s, fill: _affine(picture, fill, shear=(0, 0.99 * s)),
    "shift x": lambda picture, s, fill: _affine(picture, fill, shift=(int(32 * s), 0)),
    "shift y": lambda picture, s, fill: _affine(picture, fill, shift=(0, int(32 * s))),
    "turn": lambda picture, s, fill: F.rotate_image(picture, 135 * s, interpolation=_NEAREST, fill=fill),
}
_COLOURS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "nothing": lambda picture, s: picture,
    "brightness": lambda picture, s: F.adjust_brightness_image(picture, 1 + 0.99 * s),
    "saturation": lambda picture, s: F.adjust_saturation_image(picture, 1 + 0.99 * s),
    "contrast": lambda picture, s: F.adjust_contrast_image(picture, 1 + 0.99 * s),
    "sharpness": lambda picture, s: F.adjust_sharpness_image(picture, 1 + 0.99 * s),
    "posterise": lambda picture, s: F.posterize_image(picture, bits=8 - round(6 * s)),
    "solarise": lambda picture, s: F.solarize_image(picture, threshold=255 * (1 - s)),
    "spread": lambda picture, s: F.autocontrast_image(picture),
    "equalise": lambda picture, s: F.equalize_image(picture),
}
_SIGNED = {*_MOVES, "brightness", "saturation", "contrast", "sharpness"}
NAMES = (*_MOVES, *_COLOURS)
