"""Where the pixels go: sizes, crops, frames, flips. The mask follows the picture, pixel by pixel.

Everything is done to the part that is kept and to nothing else, on `uint8` values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Generator, Tensor

from lumora.data.labels import Colour
from lumora.data.transforms.colour import ColourJitter
from lumora.data.transforms.pixels import (
    GREY,
    Interpolation,
    Size,
    check_interpolation,
    check_size,
    framed,
    resized,
    resized_mask,
    sides,
    window,
)
from lumora.data.transforms.randomness import below, happens, uniform
from lumora.data.transforms.steps import Fixed, Pair
from lumora.errors import ConfigError


@dataclass(frozen=True)
class Resize(Fixed):
    """The picture at another size, antialiased; the mask by nearest pixel.

    One number is the shorter side, the longer one follows; `(height, width)` is taken exactly. With `masks=False` the
    mask stays at its own size, which is what an evaluation against the true masks wants.

    Costs about 0.3 ms from 500 × 375 to 224 × 224 pixels.
    """

    size: Size
    interpolation: Interpolation = "bilinear"
    masks: bool = True

    def __post_init__(self) -> None:
        check_size("Resize", self.size)
        check_interpolation("Resize", self.interpolation)

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """Both at the new size."""
        size = self._goal(picture.shape[-2], picture.shape[-1])
        if mask is not None and self.masks:
            mask = resized_mask(mask, size)
        return resized(picture, size, self.interpolation), mask

    def _goal(self, height: int, width: int) -> tuple[int, int]:
        if not isinstance(self.size, int):
            return self.size
        if height <= width:
            return self.size, max(1, int(self.size * width / height))
        return max(1, int(self.size * height / width)), self.size


@dataclass(frozen=True)
class Pad(Fixed):
    """At least this size: `fill` to the right of and below the picture, `IGNORE` there in the mask.

    What is larger stays as it is. Costs one copy of the picture where it is smaller.
    """

    size: Size
    fill: Colour = GREY

    def __post_init__(self) -> None:
        check_size("Pad", self.size)

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """Both at least at the size."""
        return framed(picture, mask, _at_least(picture, self.size), 0, 0, self.fill)


@dataclass(frozen=True)
class CentreCrop(Fixed):
    """The middle of the picture; a smaller picture is framed with `fill`, its mask with `IGNORE`.

    Costs nothing but that frame: the result is a view.
    """

    size: Size
    fill: Colour = GREY

    def __post_init__(self) -> None:
        check_size("CentreCrop", self.size)

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The middle of both."""
        size = height, width = sides(self.size)
        old_height, old_width = picture.shape[-2:]
        ground = _at_least(picture, size)
        # Where torchvision puts it, whose `center_crop` checkpoints were evaluated with.
        top, left = (ground[0] - old_height) // 2, (ground[1] - old_width) // 2
        picture, mask = framed(picture, mask, ground, top, left, self.fill)
        top, left = round((ground[0] - height) / 2), round((ground[1] - width) / 2)
        return window(picture, mask, top, left, height, width)


@dataclass(frozen=True)
class RandomCrop:
    """A part of the picture of this size, anywhere in it; a smaller picture lies anywhere in a frame of this size.

    The frame is `fill` around the picture and `IGNORE` around the mask. Costs nothing but the frame.
    """

    size: Size
    fill: Colour = GREY

    def __post_init__(self) -> None:
        check_size("RandomCrop", self.size)

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The same part of both."""
        size = height, width = sides(self.size)
        old_height, old_width = picture.shape[-2:]
        top, left = below(generator, abs(old_height - height) + 1), below(generator, abs(old_width - width) + 1)
        part = window(picture, mask, top if old_height > height else 0, left if old_width > width else 0, height, width)
        return framed(*part, size, top if old_height < height else 0, left if old_width < width else 0, self.fill)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A part of random area and shape, resized to one size: the crop that ImageNet models are trained with.

    `area` is the part's share of the picture, `ratio` its width by its height; both as in torchvision, with the same
    distribution. Costs 0.2 to 0.4 ms to 224 × 224 pixels: only the part is read.
    """

    size: Size
    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        check_size("RandomResizedCrop", self.size)
        check_interpolation("RandomResizedCrop", self.interpolation)
        _check_range("RandomResizedCrop", "area", self.area, 1.0)
        _check_range("RandomResizedCrop", "ratio", self.ratio, math.inf)

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The same part of both, at the size."""
        top, left, height, width = self._part(picture.shape[-2], picture.shape[-1], generator)
        picture, mask = window(picture, mask, top, left, height, width)
        size = sides(self.size)
        return resized(picture, size, self.interpolation), None if mask is None else resized_mask(mask, size)

    def _part(self, height: int, width: int, generator: Generator) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = height * width * uniform(generator, *self.area)
            ratio = math.exp(uniform(generator, math.log(self.ratio[0]), math.log(self.ratio[1])))
            h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < h <= height and 0 < w <= width:
                return below(generator, height - h + 1), below(generator, width - w + 1), h, w
        # No part of this shape fits: the largest in the middle whose shape is allowed.
        w = min(width, max(1, round(height * self.ratio[1])))
        h = min(height, max(1, round(width / self.ratio[0])))
        return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class ScaleJitter:
    """The picture larger or smaller by a random factor, and of that a random part of this size.

    At scale 1 the picture just covers the size (its tighter side fits); the factor is drawn evenly from `scale`. Where
    the picture is then too small it lies anywhere in a frame: `fill` around the picture, `IGNORE` around the mask.

    Costs about 1 ms to 512 × 512 pixels, whatever the factor: only the part that is kept is resized. For this,
    the part's borders lie on whole pixels of the original: height and width may be scaled by half such a pixel more or
    less. With `colour` the part is changed by that as well, before it is resized or after, whenever it has fewer
    pixels; the frame is not.
    """

    size: Size
    scale: tuple[float, float] = (0.5, 2.0)
    interpolation: Interpolation = "bilinear"
    fill: Colour = GREY
    colour: ColourJitter | None = None

    def __post_init__(self) -> None:
        check_size("ScaleJitter", self.size)
        check_interpolation("ScaleJitter", self.interpolation)
        _check_range("ScaleJitter", "scale", self.scale, math.inf)

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The same part of both, at the size."""
        size = sides(self.size)
        old = picture.shape[-2:]
        factor = uniform(generator, *self.scale) * max(size[0] / old[0], size[1] / old[1])
        top, height, above, new_height = _span(old[0], size[0], factor, generator)
        left, width, before, new_width = _span(old[1], size[1], factor, generator)
        picture, mask = window(picture, mask, top, left, height, width)
        new = (new_height, new_width)
        if self.colour and height * width < new_height * new_width:
            picture, _ = self.colour(picture, None, generator)
            picture = resized(picture, new, self.interpolation)
        else:
            picture = resized(picture, new, self.interpolation)
            picture, _ = self.colour(picture, None, generator) if self.colour else (picture, None)
        mask = None if mask is None else resized_mask(mask, new)
        return framed(picture, mask, size, above, before, self.fill)


def _span(old: int, frame: int, factor: float, generator: Generator) -> tuple[int, int, int, int]:
    """Along one side: where the part starts, its length; where it goes in the frame, its length there."""
    scaled = max(1, round(old * factor))
    if scaled < frame:
        return 0, old, below(generator, frame - scaled + 1), scaled
    length = min(old, max(1, round(frame / factor)))
    return below(generator, old - length + 1), length, 0, frame


@dataclass(frozen=True)
class Flip:
    """Left and right swapped with probability `horizontal`, top and bottom with probability `vertical`.

    Costs a copy of the picture when it happens, 0.03 ms at 224 × 224 pixels.
    """

    horizontal: float = 0.5
    vertical: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("horizontal", self.horizontal), ("vertical", self.vertical)):
            if not 0 <= value <= 1:
                raise ConfigError(f"Flip was given {name}={value}; it is a probability, from 0 to 1.")

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """Both flipped, or neither."""
        swapped = [-1] if happens(generator, self.horizontal) else []
        swapped += [-2] if happens(generator, self.vertical) else []
        if not swapped:
            return picture, mask
        return picture.flip(swapped), None if mask is None else mask.flip(swapped)


def _at_least(picture: Tensor, size: Size) -> tuple[int, int]:
    height, width = sides(size)
    return max(height, picture.shape[-2]), max(width, picture.shape[-1])


def _check_range(owner: str, name: str, value: tuple[float, float], most: float) -> None:
    low, high = value
    if not 0 < low <= high <= most:
        limit = "" if math.isinf(most) else f", at most {most:g}"
        raise ConfigError(f"{owner} was given {name}={value}; it must be (low, high), both above 0{limit}, low ≤ high.")
