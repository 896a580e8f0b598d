"""Random brightness, contrast, saturation and hue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

from lumora.data.transforms.randomness import uniform
from lumora.data.transforms.steps import Pair
from lumora.errors import ConfigError

Strength = float | tuple[float, float]
_GREY = (0.2989, 0.587, 0.114)
_BLOCK = 1 << 15  # pixels: 1 MB with the scratch


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


Change = Callable[[Tensor, float, float, Tensor], None]
"""Changes colours of shape (3, pixels), from 0 to 255, in place by an amount.

It is also given the mean grey of the whole picture, and five rows of scratch of the same length.
"""


def changed(picture: Tensor, changes: list[tuple[Change, float]]) -> Tensor:
    """A `uint8` picture with these changes made one after the other."""
    if not changes:
        return picture
    # Block by block, so that the numbers stay in a core's own cache from one change to the next; but for the contrast
    # all blocks must have come equally far.
    colours = torch.empty(3, picture.shape[1] * picture.shape[2])
    result = torch.empty_like(colours, dtype=torch.uint8)
    blocks = colours.split(_BLOCK, 1)
    scratch = torch.empty(5, blocks[0].shape[1])
    for block, old in zip(blocks, picture.reshape(3, -1).split(_BLOCK, 1), strict=True):
        block.copy_(old)
    for stage in _stages(changes):
        mean = _mean_grey(colours) if stage[0][0] is contrast else 0.0
        for block in blocks:
            for change, amount in stage:
                change(block, amount, mean, scratch[:, : block.shape[1]])
    for block, new in zip(blocks, result.split(_BLOCK, 1), strict=True):
        new.copy_(block.add_(0.5))
    return result.view(picture.shape)


def _stages(changes: list[tuple[Change, float]]) -> list[list[tuple[Change, float]]]:
    """Changes that can be made to a block without a look at the others; a contrast starts a new stage."""
    starts = sorted({0, *(i for i, (change, _) in enumerate(changes) if change is contrast)})
    return [changes[start:end] for start, end in pairwise([*starts, len(changes)])]


def _mean_grey(colours: Tensor) -> float:
    """The mean of the greys, which is the grey of the means."""
    return sum(weight * value for weight, value in zip(_GREY, colours.mean(1).tolist(), strict=True))


def brighten(colours: Tensor, amount: float, mean: float, scratch: Tensor) -> None:
    """All values times the amount."""
    colours.mul_(amount)
    _clamp(colours, amount)


def contrast(colours: Tensor, amount: float, mean: float, scratch: Tensor) -> None:
    """Away from the mean grey of the whole picture, or towards it."""
    colours.mul_(amount).add_((1 - amount) * mean)
    _clamp(colours, amount)


def saturate(colours: Tensor, amount: float, mean: float, scratch: Tensor) -> None:
    """Away from each pixel's own grey, or towards it."""
    red, green, blue = colours
    grey = torch.mul(red, _GREY[0], out=scratch[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])
    colours.mul_(amount).add_(grey, alpha=1 - amount)
    _clamp(colours, amount)


def _clamp(colours: Tensor, amount: float) -> None:
    if amount > 1:  # with less, values only come nearer to something that is in the range
        colours.clamp_(0, 255)


def turn_hue(colours: Tensor, amount: float, mean: float, scratch: Tensor) -> None:
    """Round the colour circle by this share of it, with brightest and darkest channel of each pixel kept.

    The same as going to hue, saturation and value and back, without branches. With the pixel's chroma `c`, its darkest
    value `m` and channels `(r - m) / c` and so on between 0 and 1, the hue in sixths of the circle from cyan is
    ±(2 + r - g - b), the sign that of b - g: that is h - 3, for h as usual. A hue's red is then `|h - 3| - 1`, its
    green `2 - |h - 2|`, its blue `2 - |h - 4|`, each held between 0 and 1.
    """
    red, green, blue = colours
    low, high, chroma, hue, t = scratch
    torch.minimum(torch.minimum(red, green, out=low), blue, out=low)
    torch.maximum(torch.maximum(red, green, out=high), blue, out=high)
    torch.sub(high, low, out=chroma)
    torch.sub(red, green, out=t).sub_(blue).add_(low).div_(torch.clamp(chroma, min=1e-3, out=hue)).add_(2)
    torch.copysign(t, torch.sub(blue, green, out=hue), out=hue).add_(6 * amount)
    hue.sub_(torch.mul(hue, 1 / 6, out=t).round_(), alpha=6)
    torch.addcmul(low, torch.abs(hue, out=t).sub_(1).clamp_(0, 1), chroma, out=red)
    # low + c (2 - |x|) is high - c (|x| - 1), and so where these are held between 0 and 1.
    torch.addcmul(high, torch.add(hue, 1, out=t).abs_().sub_(1).clamp_(0, 1), chroma, value=-1, out=green)
    torch.addcmul(high, torch.sub(hue, 1, out=t).abs_().sub_(1).clamp_(0, 1), chroma, value=-1, out=blue)


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
