"""What the model sees of pictures: in training as the recipe says, in evaluation as its users will show them."""

from __future__ import annotations

from typing import Literal, cast, get_args

from lumora.data.labels import Colour
from lumora.data.transforms import (
    ColourJitter,
    Compose,
    CutMix,
    Flip,
    Mixup,
    RandomResizedCrop,
    Resize,
    ScaleJitter,
    Transform,
    TrivialAugment,
)
from lumora.data.transforms.pixels import Interpolation
from lumora.models import Preprocessing
from lumora.tasks.views import Framed, Normalised
from lumora.training.schema.sections import Pictures

Mix = Literal["none", "mixup", "cutmix", "both"]


def training_view(preprocessing: Preprocessing, pictures: Pictures, *, segments: bool) -> Compose:
    """What is done to pictures that are learnt from, and to their masks."""
    steps = _segmentation_steps(preprocessing, pictures) if segments else _picture_steps(preprocessing, pictures)
    steps += [Flip(pictures.flip)] if pictures.flip else []
    if pictures.trivial_augment:
        steps.append(TrivialAugment(neutral_colour(preprocessing)))
    return Compose((*steps, Normalised(preprocessing)))


def mixes(mix: Mix, classes: int) -> tuple[Mixup | CutMix, ...]:
    """How the pictures of a batch are blended.

    >>> mixes("none", 3), len(mixes("both", 3))
    ((), 2)
    """
    kinds = {"none": (), "mixup": (Mixup,), "cutmix": (CutMix,), "both": (Mixup, CutMix)}[mix]
    return tuple(kind(classes) for kind in kinds)


def neutral_colour(preprocessing: Preprocessing) -> Colour:
    """The colour that normalisation turns to about zero.

    >>> neutral_colour(Preprocessing())
    (124, 116, 104)
    """
    values = [min(255, max(0, round(mean / preprocessing.rescale))) for mean in preprocessing.mean]
    red, green, blue = reversed(values) if preprocessing.bgr else values
    return red, green, blue


def _picture_steps(preprocessing: Preprocessing, pictures: Pictures) -> list[Transform]:
    assert pictures.size is not None
    if pictures.area is None:
        steps: list[Transform] = [Framed(preprocessing.with_size(pictures.size))]
    else:
        steps = [RandomResizedCrop(pictures.size, pictures.area, interpolation=_interpolation(preprocessing))]
    return [*steps, *_colour(pictures)]


def _segmentation_steps(preprocessing: Preprocessing, pictures: Pictures) -> list[Transform]:
    assert pictures.size is not None
    interpolation, colour = _interpolation(preprocessing), _colour(pictures)
    if pictures.scale is None:
        return [Resize(pictures.size, interpolation), *colour]
    fill = neutral_colour(preprocessing)
    return [ScaleJitter(pictures.size, pictures.scale, interpolation, fill, *colour)]


def _colour(pictures: Pictures) -> list[ColourJitter]:
    strength = pictures.colour
    return [ColourJitter(strength, strength, strength, 0.4 * strength)] if strength else []


def _interpolation(preprocessing: Preprocessing) -> Interpolation:
    """The checkpoint's own, or the usual one where training's transforms do not have it."""
    name = preprocessing.interpolation
    return cast("Interpolation", name) if name in get_args(Interpolation) else "bilinear"
