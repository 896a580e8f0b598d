"""From `uint8` pictures to the numbers that a model reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lumora.data.transforms.steps import Values
from lumora.errors import ConfigError

Means = tuple[float, float, float]


@dataclass(frozen=True)
class ToFloat(Values):
    """`float32` from 0 to 1.

    Costs 0.2 ms at 224 × 224 pixels.
    """

    def applied(self, pictures: Tensor) -> Tensor:
        """All pictures from 0 to 1; those that are no longer `uint8` stay as they are."""
        if pictures.dtype != torch.uint8:
            return pictures
        return scaled(pictures, torch.full((3, 1, 1), 1 / 255), torch.zeros(3, 1, 1))


@dataclass(frozen=True)
class Normalise(Values):
    """`(value - mean) / std` of each channel, with the checkpoint's own `mean` and `std`, which count from 0 to 1.

    `uint8` pictures need no `ToFloat` before: their values are taken as 255ths. Costs 0.2 ms at 224 × 224 pixels, in
    `float32`.
    """

    mean: Means
    std: Means

    def __post_init__(self) -> None:
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(
                f"Normalise was given mean={self.mean}, std={self.std}; it needs three numbers each, and stds above 0."
            )
        if max(self.mean) > 1:
            raise ConfigError(
                f"Normalise was given mean={self.mean}, which seems to count from 0 to 255; divide by 255."
            )

    def applied(self, pictures: Tensor) -> Tensor:
        """All pictures normalised."""
        mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (self.mean, self.std))
        steps = 255 if pictures.dtype == torch.uint8 else 1
        return scaled(pictures, (1 / (std * steps)).float(), (mean / std).float())


def scaled(pictures: Tensor, factor: Tensor, less: Tensor) -> Tensor:
    """`pictures * factor - less` in `float32`, whatever the pictures' memory format."""
    if pictures.device.type != "cpu":
        floats = pictures.to(torch.float32, memory_format=torch.contiguous_format)
        return floats.mul_(factor.to(pictures.device)).sub_(less.to(pictures.device))
    result = torch.empty(pictures.shape, dtype=torch.float32)
    channels = list(zip(factor.flatten().tolist(), less.flatten().neg(), strict=True))
    # One channel after the other, so that it is still in the processor's cache for the next operation; but where the
    # channels lie side by side they are read together.
    for new, old in zip(result.view(-1, *pictures.shape[-3:]), _each(pictures), strict=True):
        interleaved = old.stride(0) == 1
        if interleaved:
            new.copy_(old)
        for channel, (by, start) in enumerate(channels):
            values = new[channel] if interleaved else new[channel].copy_(old[channel])
            torch.add(start, values, alpha=by, out=values)
    return result


def _each(pictures: Tensor) -> tuple[Tensor, ...]:
    return (pictures,) if pictures.dim() == 3 else pictures.flatten(0, -4).unbind(0)
