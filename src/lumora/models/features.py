"""Feature maps of a picture, fine to coarse, from any backbone.

How they are read depends on who made the backbone: timm's and transformers' own interfaces where there are such, the
tokens of some blocks put back into rows and columns for a plain vision transformer, and for any other module what its
children give, caught on the way.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lumora.models.choosing import find_reader
from lumora.models.readers import Reader
from lumora.models.watching import empty_picture, trying_out, watch_input


@dataclass(frozen=True, eq=False)
class Features:
    """Calling it gives the feature maps of pictures, fine to coarse; adapters in the backbone count."""

    backbone: nn.Module
    reader: Reader
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    """Pixels of the picture for each step in the map."""
    model: nn.Module
    """The whole model, for `pooled`."""
    classifier: str | None = None
    """The path in `model` of what turns pooled features into labels."""

    def __call__(self, pixels: Tensor) -> list[Tensor]:
        """The maps (B, C, h, w)."""
        return self.reader(self.backbone, pixels)

    def pooled(self, pixels: Tensor) -> Tensor:
        """One vector for each picture (B, C): what the classifier gets, or the mean of the coarsest map without one."""
        if self.classifier is None:
            return self(pixels)[-1].mean((2, 3))
        caught: list[Tensor] = []
        with watch_input(self.model.get_submodule(self.classifier), caught.append):
            self.model(pixels)
        return caught[-1].flatten(1)


def find_features(backbone: nn.Module, size: tuple[int, int], model: nn.Module | None = None) -> Features:
    """See what maps a backbone gives, by running it once on an empty picture of this size."""
    backbone, reader = find_reader(backbone, size)
    with trying_out(backbone):
        maps = reader(backbone, empty_picture(backbone, size))
    strides = tuple(round(size[0] / tensor.shape[2]) for tensor in maps)
    return Features(backbone, reader, tuple(t.shape[1] for t in maps), strides, model or backbone)


def takes_other_sizes(features: Features, size: tuple[int, int]) -> bool:
    """Whether the backbone takes pictures of another size than this one. Costs one forward pass."""
    step = max(features.strides)
    with trying_out(features.backbone):
        try:
            features(empty_picture(features.backbone, (size[0] + step, size[1] + 2 * step)))
        except Exception:  # whatever a model of anybody's says to a size that it was not made for
            return False
    return True
