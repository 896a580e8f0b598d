"""What a model sees of a picture when it is measured or used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from lumora.data.transforms import Compose, Values
from lumora.data.transforms.steps import Fixed, Pair
from lumora.data.transforms.values import scaled
from lumora.models import Preprocessing


@dataclass(frozen=True)
class Framed(Fixed):
    """The picture resized and cropped as the checkpoint has it; the mask as it was drawn."""

    preprocessing: Preprocessing

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The part of the picture that the model sees, and the mask as it is."""
        return self.preprocessing.framed(picture), mask


@dataclass(frozen=True)
class Normalised(Values):
    """The checkpoint's own numbers for `uint8` pictures."""

    preprocessing: Preprocessing

    def applied(self, pictures: Tensor) -> Tensor:
        """All pictures normalised."""
        values = self.preprocessing
        mean, std = (torch.tensor(each, dtype=torch.float64).view(3, 1, 1) for each in (values.mean, values.std))
        pictures = pictures.flip(-3) if values.bgr else pictures
        return scaled(pictures, (values.rescale / std).float(), (mean / std).float())


def evaluation_view(at_size: Preprocessing) -> Compose:
    """What is done to pictures that are measured on: what a bundle does to any picture. Masks stay as drawn."""
    return Compose((Framed(at_size), Normalised(at_size)))
