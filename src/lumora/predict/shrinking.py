"""Pictures and their masks made smaller, to be drawn."""

from __future__ import annotations

import torch
from torch import Tensor


def at_most(picture: Tensor, highest: int) -> Tensor:
    """A picture, `uint8` (3, H, W), of no more rows than this."""
    from torchvision.transforms.v2 import functional as F

    height, width = picture.shape[1:]
    if height <= highest:
        return picture
    return F.resize(picture, [highest, max(1, round(width * highest / height))], antialias=True)


def of_its_size(mask: Tensor, picture: Tensor) -> Tensor:
    """A mask (H, W) made as large as a picture, without new values.

    >>> of_its_size(torch.tensor([[1, 2], [3, 4]]), torch.zeros(3, 1, 2)).tolist()
    [[3, 4]]
    """
    size = (picture.shape[1], picture.shape[2])
    if mask.shape == size:
        return mask
    return torch.nn.functional.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0].to(torch.int32)
