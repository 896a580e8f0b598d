"""Two pictures in one: transforms of whole batches, for classification."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lumora.data.transforms.randomness import below, beta
from lumora.errors import ConfigError


@dataclass(frozen=True)
class Mixup:
    """Every picture blended with its neighbour in the batch, and their labels likewise (Zhang et al. 2018).

    The share is drawn from Beta(α, α), one for a batch. Labels become probabilities `(B, classes)`, which
    `torch.nn.functional.cross_entropy` takes. Costs one pass over the batch, on the device it is on.

    >>> from lumora.data.transforms import generator_for
    >>> pictures, labels = torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])
    >>> mixed, shares = Mixup(classes=3)(pictures, labels, generator_for(0, 0, "batch 0"))
    >>> shares.shape, bool(shares.sum(1).allclose(torch.ones(4)))
    (torch.Size([4, 3]), True)
    """

    classes: int
    alpha: float = 0.2

    def __post_init__(self) -> None:
        _check("Mixup", self.classes, self.alpha)

    def __call__(self, pictures: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Blended pictures, floating point, and the shares of the classes."""
        share = beta(generator, self.alpha)
        _check_batch("Mixup", pictures)
        return torch.lerp(pictures.roll(1, 0), pictures, share), _shares(labels, self.classes, share)


@dataclass(frozen=True)
class CutMix:
    """A rectangle of every picture replaced by that of its neighbour in the batch, labels by area (Yun et al. 2019).

    The area is drawn from Beta(α, α), one rectangle for a batch. Labels become probabilities `(B, classes)`. Costs a
    copy of the batch.
    """

    classes: int
    alpha: float = 1.0

    def __post_init__(self) -> None:
        _check("CutMix", self.classes, self.alpha)

    def __call__(self, pictures: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Pictures with rectangles of others, and the shares of the classes."""
        _check_batch("CutMix", pictures)
        share = beta(generator, self.alpha)
        height, width = pictures.shape[-2:]
        half = 0.5 * math.sqrt(1 - share)
        y, x = below(generator, height), below(generator, width)
        top, bottom = max(int(y - half * height), 0), min(int(y + half * height), height)
        left, right = max(int(x - half * width), 0), min(int(x + half * width), width)
        mixed = pictures.clone()
        mixed[..., top:bottom, left:right] = pictures.roll(1, 0)[..., top:bottom, left:right]
        return mixed, _shares(labels, self.classes, 1 - (bottom - top) * (right - left) / (height * width))


def _shares(labels: Tensor, classes: int, own: float) -> Tensor:
    if not labels.is_floating_point():
        labels = F.one_hot(labels, classes).float()
    return labels.mul(own).add(labels.roll(1, 0), alpha=1 - own)


def _check(owner: str, classes: int, alpha: float) -> None:
    if classes < 2 or alpha <= 0:
        raise ConfigError(
            f"{owner} was given classes={classes}, alpha={alpha}; it needs ≥ 2 classes and alpha above 0."
        )


def _check_batch(owner: str, pictures: Tensor) -> None:
    if pictures.dim() != 4 or not pictures.is_floating_point():
        raise ConfigError(
            f"{owner} was given pictures of shape {tuple(pictures.shape)} and type {pictures.dtype}; it takes a batch "
            "(B, 3, H, W) after ToFloat or Normalise."
        )
