"""Random brightness, contrast, saturation and hue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lumora.data.transforms.randomness import uniform
from lumora.data.transforms.steps import Pair
from lumora.errors import ConfigError

Strength = float | tuple[float, float]
_GREY = (0.2989, 0.587, 0.114)
_BLOCK = 1 << 15  # pixels; with all that the hue needs they stay in a core's own cache


@dataclass(frozen=True)
class ColourJitter:
    """Brightness, contrast, saturation and hue changed at random, in random order; the mask stays.

    A number `s` draws the factor from `1 - s` to `1 + s` (the hue's turn, a share of the whole circle, from `-s` to
    `s`); a pair is the range itself. What each does is torchvision's definition, in floating point and rounded once at
    the end.

    Costs about 0.6 ms at 224 × 224 and 3.5 ms at 512 × 512 pixels with all four, the hue more than half of it: a
    sixth of Pillow's time. So put it after the crop.
    """

    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: Strength = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            low, high = _range(name, getattr(self, name), 1.0)
            if not 0 <= low <= high:
                raise ConfigError(f"ColourJitter was given {name} from {low:g} to {high:g}; give 0 ≤ low ≤ high.")
        low, high = _range("hue", self.hue, 0.0)
        if not -0.5 <= low <= high <= 0.5:
            raise ConfigError(f"ColourJitter was given hue from {low:g} to {high:g}; give -0.5 ≤ low ≤ high ≤ 0.5.")

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The picture in other colours."""
        changes: list[tuple[Change, float]] = []
        for index in torch.randperm(4, generator=generator).tolist():
            name, change, neutral = _CHANGES[index]
            low, high = _range(name, getattr(self, name), neutral)
            amount = uniform(generator, low, high)
            if amount != neutral:
                changes.append((change, amount))
        return changed(picture, changes), mask


Change = Callable[[Tensor, float], None]
"""Changes colours of shape (3, pixels), from 0 to 255, in place by an amount."""


def changed(picture: Tensor, changes: list[tuple[Change, float]]) -> Tensor:
    """A `uint8` picture with these changes made one after the other."""
    if not changes:
        return picture
    colours = picture.to(torch.float32, memory_format=torch.contiguous_format).reshape(3, -1)
    for change, amount in changes:
        change(colours, amount)
    return colours.add_(0.5).to(torch.uint8).view(picture.shape)


def brighten(colours: Tensor, amount: float) -> None:
    """All values times the amount."""
    colours.mul_(amount).clamp_(0, 255)


def contrast(colours: Tensor, amount: float) -> None:
    """Away from the mean grey of the whole picture, or towards it."""
    # The mean of the greys is the grey of the means: one pass.
    mean = sum(weight * value for weight, value in zip(_GREY, colours.mean(1).tolist(), strict=True))
    colours.mul_(amount).add_((1 - amount) * mean).clamp_(0, 255)


def saturate(colours: Tensor, amount: float) -> None:
    """Away from each pixel's own grey, or towards it."""
    for block in colours.split(_BLOCK, 1):
        red, green, blue = block
        grey = (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])
        block.mul_(amount).add_(grey, alpha=1 - amount).clamp_(0, 255)


def turn_hue(colours: Tensor, amount: float) -> None:
    """Round the colour circle by this share of it, with brightest and darkest channel of each pixel kept.

    The same as going to hue, saturation and value and back, without branches. With the pixel's chroma `c`, its darkest
    value `m` and channels `(r - m) / c` and so on between 0 and 1, the hue in sixths of the circle from cyan is
    ±(2 + r - g - b): the sign that of b - g. That is h - 3, for h as usual; and a hue's red is then `|h - 3| - 1`, its
    green `2 - |h - 2|`, its blue `2 - |h - 4|`, each held between 0 and 1.
    """
    for block in colours.split(_BLOCK, 1):
        red, green, blue = block
        low = torch.minimum(red, green)
        torch.minimum(low, blue, out=low)
        chroma = torch.maximum(red, green)
        torch.maximum(chroma, blue, out=chroma).sub_(low)
        hue = (red - green).sub_(blue).add_(low).div_(chroma.clamp(min=1e-3)).add_(2)
        hue.copysign_(blue - green).add_(6 * amount)
        hue.sub_((hue * (1 / 6)).round_(), alpha=6)
        torch.addcmul(low, hue.abs().sub_(1).clamp_(0, 1), chroma, out=red)
        torch.addcmul(low, (hue + 1).abs_().neg_().add_(2).clamp_(0, 1), chroma, out=green)
        torch.addcmul(low, hue.sub_(1).abs_().neg_().add_(2).clamp_(0, 1), chroma, out=blue)


_CHANGES: tuple[tuple[str, Change, float], ...] = (
    ("brightness", brighten, 1.0),
    ("contrast", contrast, 1.0),
    ("saturation", saturate, 1.0),
    ("hue", turn_hue, 0.0),
)


def _range(name: str, strength: Strength, neutral: float) -> tuple[float, float]:
    if not isinstance(strength, int | float):
        return strength
    if strength < 0:
        raise ConfigError(f"ColourJitter was given {name}={strength}; give a number ≥ 0, or a pair (low, high).")
    return (-strength, strength) if name == "hue" else (max(0.0, neutral - strength), neutral + strength)
