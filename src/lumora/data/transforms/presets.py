"""Pipelines for training and evaluation, from what a checkpoint says about its pictures."""

from __future__ import annotations

from lumora.data.labels import Colour
from lumora.data.transforms.colour import ColourJitter
from lumora.data.transforms.geometry import CentreCrop, Flip, RandomResizedCrop, Resize, ScaleJitter
from lumora.data.transforms.pixels import Interpolation, Size, sides
from lumora.data.transforms.steps import Compose, Transform
from lumora.data.transforms.trivial_augment import TrivialAugment
from lumora.data.transforms.values import Means, Normalise
from lumora.errors import ConfigError

MILD = ColourJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.1)
"""What transformers' guide to semantic segmentation trains with."""


def classification_train(
    size: Size,
    mean: Means,
    std: Means,
    *,
    area: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.5,
    colour: ColourJitter | None = None,
    trivial_augment: bool = False,
    interpolation: Interpolation = "bilinear",
) -> Compose:
    """A random part of the picture, perhaps mirrored, normalised; other colours if asked for.

    Args:
        size: pixels of both sides, or (height, width).
        mean: of the checkpoint's preprocessing, from 0 to 1.
        std: of the checkpoint's preprocessing.
        area: the part's share of the picture, from the smallest to the largest.
        flip: how probable it is that left and right are swapped; 0 for digits and letters.
        colour: colours to change, if any.
        trivial_augment: whether to make one more random change of any kind.
        interpolation: how the checkpoint's pictures were resized.
    """
    steps: list[Transform] = [RandomResizedCrop(size, area, interpolation=interpolation)]
    steps += [Flip(flip)] if flip else []
    steps += [colour] if colour else []
    steps += [TrivialAugment(_colour(mean))] if trivial_augment else []
    return Compose((*steps, Normalise(mean, std)))


def classification_eval(
    size: Size,
    mean: Means,
    std: Means,
    *,
    crop: float = 1.0,
    squash: bool = False,
    interpolation: Interpolation = "bilinear",
) -> Compose:
    """The middle of the picture, normalised; the same every time.

    Args:
        size: pixels of both sides, or (height, width).
        mean: of the checkpoint's preprocessing, from 0 to 1.
        std: of the checkpoint's preprocessing.
        crop: the share of the shorter side that is kept; timm's `crop_pct`.
        squash: resize the whole picture to the size, whatever its shape, and crop nothing; transformers' processors of
            ViT and its like do this.
        interpolation: how the checkpoint's pictures were resized.
    """
    if not 0 < crop <= 1:
        raise ConfigError(f"classification_eval was given crop={crop}; it is a share, above 0 and at most 1.")
    if squash:
        return Compose((Resize(sides(size), interpolation), Normalise(mean, std)))
    height, width = sides(size)
    # Both sides must be covered; for a square this is its side.
    shorter = int(max(height, width) / crop)
    return Compose((Resize(shorter, interpolation), CentreCrop(size, _colour(mean)), Normalise(mean, std)))


def segmentation_train(
    size: Size,
    mean: Means,
    std: Means,
    *,
    scale: tuple[float, float] = (0.5, 2.0),
    flip: float = 0.5,
    colour: ColourJitter | None = MILD,
    interpolation: Interpolation = "bilinear",
) -> Compose:
    """A part of the picture at random scale, perhaps mirrored, in other colours, normalised; the mask moves with it.

    Args:
        size: pixels of both sides, or (height, width).
        mean: of the checkpoint's preprocessing, from 0 to 1.
        std: of the checkpoint's preprocessing.
        scale: the smallest and largest scale; at 1 the picture just covers the size.
        flip: how probable it is that left and right are swapped.
        colour: colours to change; None leaves them as they are.
        interpolation: how the checkpoint's pictures were resized.
    """
    steps: list[Transform] = [ScaleJitter(size, scale, interpolation, _colour(mean), colour)]
    steps += [Flip(flip)] if flip else []
    return Compose((*steps, Normalise(mean, std)))


def segmentation_eval(
    size: Size,
    mean: Means,
    std: Means,
    *,
    masks: bool = True,
    interpolation: Interpolation = "bilinear",
) -> Compose:
    """The whole picture at this size, as transformers' processors do it, normalised.

    Args:
        size: (height, width), or one number for both.
        mean: of the checkpoint's preprocessing, from 0 to 1.
        std: of the checkpoint's preprocessing.
        masks: whether masks are resized too; False keeps them as they were drawn, to be compared with predictions that
            are brought to their size.
        interpolation: how the checkpoint's pictures were resized.
    """
    return Compose((Resize(sides(size), interpolation, masks), Normalise(mean, std)))


def _colour(mean: Means) -> Colour:
    """The colour that normalisation turns to about zero."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
