"""How pictures and masks are resized, cut and framed; every geometric transform is made of these."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from lumora.data.labels import _IGNORE_IN_LARGE, IGNORE, Colour
from lumora.errors import ConfigError

Size = int | tuple[int, int]
"""Pixels of both sides, or (height, width)."""

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]

GREY: Colour = (124, 116, 104)
"""The mean colour of ImageNet, which normalisation turns to about zero; what frames are filled with."""

_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "lanczos": InterpolationMode.LANCZOS,
}


def sides(size: Size) -> tuple[int, int]:
    """(height, width)."""
    return (size, size) if isinstance(size, int) else size


def check_size(owner: str, size: Size) -> None:
    """Refuse sizes of no pixels."""
    if min(sides(size)) < 1:
        raise ConfigError(
            f"{owner} was given size={size}; it must be a number of pixels, or (height, width), each ≥ 1."
        )


def check_interpolation(owner: str, interpolation: str) -> None:
    """Refuse names that are not known."""
    if interpolation not in get_args(Interpolation):
        known = ", ".join(get_args(Interpolation))
        raise ConfigError(f"{owner} was given interpolation={interpolation!r}; it knows {known}.")


def resized(picture: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """The picture at (height, width), antialiased, computed on `uint8`."""
    if tuple(picture.shape[-2:]) == size:
        return picture
    if interpolation == "nearest":
        return _nearest(picture, size)
    if size == (1, 1):  # torch 2.15 fails on `uint8` pictures that become a single pixel
        mean = F.resize_image(picture.float(), [1, 1], _MODES[interpolation], antialias=True)
        return mean.round_().clamp_(0, 255).to(torch.uint8)
    if picture.stride(0) == 1:
        # A part of a picture whose pixels' values lie side by side: made one piece first, it takes a third less time.
        picture = picture.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return F.resize_image(picture, list(size), _MODES[interpolation], antialias=True)


def resized_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The mask at (height, width): each pixel is that of the old mask under its centre."""
    if tuple(mask.shape[-2:]) == size:
        return mask
    return _nearest(mask, size)


def _nearest(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    # Not torch's "nearest", which takes the pixel at the upper left of the one it should take and so moves masks
    # against their pictures, nor its "nearest-exact", which rounds.
    height, width = pixels.shape[-2:]
    return pixels.index_select(-1, _centres(width, size[1])).index_select(-2, _centres(height, size[0]))


def _centres(old: int, new: int) -> Tensor:
    """For each of `new` pixels in a row, the one of `old` that its centre lies in."""
    return (torch.arange(new) * 2 + 1).mul_(old).div_(2 * new, rounding_mode="floor")


def ignored(mask: Tensor) -> int:
    """The value of this mask where nothing counts: wider masks have classes of the number `IGNORE`."""
    return IGNORE if mask.dtype == torch.uint8 else _IGNORE_IN_LARGE


def window(
    picture: Tensor, mask: Tensor | None, top: int, left: int, height: int, width: int
) -> tuple[Tensor, Tensor | None]:
    """Views of a part of both."""
    picture = picture[:, top : top + height, left : left + width]
    return picture, None if mask is None else mask[top : top + height, left : left + width]


def framed(
    picture: Tensor, mask: Tensor | None, size: tuple[int, int], top: int, left: int, fill: Colour
) -> tuple[Tensor, Tensor | None]:
    """Both on a larger ground: `fill` around the picture, `IGNORE` around the mask."""
    height, width = picture.shape[-2:]
    if (height, width) == size:
        return picture, mask
    ground = _ground(size, fill, interleaved=picture.stride(0) == 1)
    ground[:, top : top + height, left : left + width] = picture
    if mask is not None:
        mask_ground = mask.new_full(size, ignored(mask))
        mask_ground[top : top + height, left : left + width] = mask
        mask = mask_ground
    return ground, mask


def _ground(size: tuple[int, int], fill: Colour, interleaved: bool) -> Tensor:
    """An empty picture in the memory format of what will lie on it."""
    if interleaved:
        row = torch.tensor(fill, dtype=torch.uint8).repeat(size[1])
        return row.expand(size[0], -1).contiguous().view(*size, 3).permute(2, 0, 1)
    ground = torch.empty(3, *size, dtype=torch.uint8)
    for channel, value in zip(ground, fill, strict=True):
        channel.fill_(value)
    return ground
