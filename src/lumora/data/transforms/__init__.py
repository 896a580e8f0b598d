"""What happens to pictures and masks on their way to a model; see `docs/features/transforms.md`."""

from lumora.data.transforms.batches import CutMix, Mixup
from lumora.data.transforms.colour import ColourJitter
from lumora.data.transforms.geometry import (
    CentreCrop,
    Flip,
    Pad,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ScaleJitter,
)
from lumora.data.transforms.pixels import GREY
from lumora.data.transforms.presets import (
    classification_eval,
    classification_train,
    segmentation_eval,
    segmentation_train,
)
from lumora.data.transforms.randomness import generator_for
from lumora.data.transforms.steps import Compose, Fixed, Stages, Transform, Values, stages
from lumora.data.transforms.trivial_augment import TrivialAugment
from lumora.data.transforms.values import Normalise, ToFloat

__all__ = [
    "GREY",
    "CentreCrop",
    "ColourJitter",
    "Compose",
    "CutMix",
    "Fixed",
    "Flip",
    "Mixup",
    "Normalise",
    "Pad",
    "RandomCrop",
    "RandomResizedCrop",
    "Resize",
    "ScaleJitter",
    "Stages",
    "ToFloat",
    "Transform",
    "TrivialAugment",
    "Values",
    "classification_eval",
    "classification_train",
    "generator_for",
    "segmentation_eval",
    "segmentation_train",
    "stages",
]
