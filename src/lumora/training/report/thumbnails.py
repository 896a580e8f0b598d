"""Small pictures that lie in the page itself."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from lumora.data.labels import Labels
from lumora.tasks.drawing import overlay

_QUALITY = 80


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a page holds it."""

    address: str
    """The whole file, as an address that begins with `data:`."""
    width: int
    height: int


def thumbnail(picture: Tensor, longest: int) -> Thumbnail:
    """A picture, `uint8` (3, H, W), with no side longer than this; small ones stay as they are."""
    return _stored(shrunk(picture, longest))


def thumbnail_under(picture: Tensor, mask: Tensor, labels: Labels, longest: int) -> Thumbnail:
    """The same seen through a mask (H, W) of class ids."""
    small = shrunk(picture, longest)
    ids = _nearest(mask, (small.height, small.width))
    return _stored(_image(overlay(_tensor(small), ids, labels.palette(), 0.6, labels.ignore)))


def shrunk(picture: Tensor, longest: int) -> Image.Image:
    """A picture with no side longer than this."""
    image = _image(picture)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def _stored(image: Image.Image) -> Thumbnail:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY, optimize=True)
    content = base64.b64encode(file.getvalue()).decode()
    return Thumbnail(f"data:image/jpeg;base64,{content}", image.width, image.height)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).cpu().contiguous().numpy())


def _tensor(image: Image.Image) -> Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _nearest(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask with the class in the middle of each larger pixel."""
    height, width = size
    rows, columns = _middles(mask.shape[0], height), _middles(mask.shape[1], width)
    return mask[rows][:, columns]


def _middles(old: int, new: int) -> list[int]:
    return [(2 * i + 1) * old // (2 * new) for i in range(new)]
