"""Classes and probabilities of bilinearly upsampled logits, without ever holding the upsampled logits.

An interpolated logit is a mean of the four small ones around it. So where one class is the largest at all four, it is
the largest everywhere between them, and nothing needs to be computed there: in a real prediction that is most of the
picture. What remains, along the borders of things, is interpolated pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lumora.errors import InputError
from lumora.ops.upsampled.tiles import Tiles, finite, lower_neighbours, rows_first, working_dtype

# Pixel by pixel costs about twice as much for a pixel as whole tiles do.
_WORTH_SINGLING_OUT = 0.4
_ELEMENTS_AT_ONCE = 1 << 20


class ProbabilityTile(NamedTuple):
    """Class probabilities in one part of one picture."""

    picture: int
    rows: slice
    columns: slice
    probabilities: Tensor
    """(classes, rows, columns)."""


@torch.no_grad()
def upsampled_argmax(logits: Tensor, size: Sequence[int], *, dtype: torch.dtype = torch.int64) -> Tensor:
    """The most likely class of each pixel of a picture of `size`: (batch, height, width).

    The same as `F.interpolate(logits, size, mode="bilinear").argmax(1)`. Half-precision logits are compared in 32 bits.
    `dtype=torch.uint8` takes an eighth of the memory where there are up to 256 classes; do not index with such a
    tensor, torch takes it for a mask.

    Costs: one tile, and one logit vector for each pixel at the border of two classes.

    >>> upsampled_argmax(torch.tensor([[[[1.0, 0.0]], [[0.0, 2.0]]]]), (1, 4))
    tensor([[[0, 0, 1, 1]]])
    """
    height, width = _checked(logits, size)
    _check_ids_fit(logits.shape[1], dtype)
    out = torch.empty(len(logits), height, width, dtype=dtype, device=logits.device)
    for picture, ids in zip(logits, out, strict=True):
        low = rows_first(finite(picture.to(working_dtype(logits))))
        if torch.compiler.is_compiling() or not _fill_settled(low, ids):
            for tile, z in Tiles(picture.shape[1:], ids.shape, len(picture), low).of(low):
                ids[tile.place] = z.max(1).indices  # much faster than argmax along a dimension that is not the last
    return out


@torch.no_grad()
def upsampled_confidence(
    logits: Tensor, size: Sequence[int], *, dtype: torch.dtype = torch.int64
) -> tuple[Tensor, Tensor]:
    """The most likely class of each pixel, and its probability; both (batch, height, width).

    >>> classes, probability = upsampled_confidence(torch.zeros(1, 4, 2, 2), (3, 3))
    >>> probability.unique()
    tensor([0.2500])
    """
    height, width = _checked(logits, size)
    _check_ids_fit(logits.shape[1], dtype)
    ids = torch.empty(len(logits), height, width, dtype=dtype, device=logits.device)
    probability = torch.empty(ids.shape, dtype=working_dtype(logits), device=logits.device)
    for i, picture in enumerate(logits):
        low = rows_first(finite(picture.to(probability.dtype)))
        for tile, z in Tiles(picture.shape[1:], ids.shape[1:], len(picture), low).of(low):
            peak, ids[i][tile.place] = z.max(1)
            probability[i][tile.place] = 1 / z.sub_(peak[:, None]).exp_().sum(1)
    return ids, probability


@torch.no_grad()
def upsampled_probabilities(logits: Tensor, size: Sequence[int], classes: Sequence[int] | None = None) -> Tensor:
    """Each pixel's probability of some classes (of all when not given): (batch, classes, height, width).

    The softmax is over all classes. Costs: what it returns, and one tile.

    >>> upsampled_probabilities(torch.zeros(1, 4, 2, 2), (3, 3), classes=[2]).shape
    torch.Size([1, 1, 3, 3])
    """
    height, width = _checked(logits, size)
    n = logits.shape[1]
    if unknown := [c for c in classes or () if not 0 <= c < n]:
        raise InputError(f"There are no classes {unknown}; the logits have the classes 0 to {n - 1}.")
    wanted = slice(None) if classes is None else torch.tensor(classes, dtype=torch.long, device=logits.device)
    count = n if classes is None else len(classes)
    out = torch.empty(len(logits), count, height, width, dtype=working_dtype(logits), device=logits.device)
    for tile in upsampled_probability_tiles(logits, (height, width)):
        out[tile.picture, :, tile.rows, tile.columns] = tile.probabilities[wanted]
    return out


@torch.no_grad()
def upsampled_probability_tiles(logits: Tensor, size: Sequence[int]) -> Iterator[ProbabilityTile]:
    """The probabilities of all classes, one part of a picture after the other; together they cover it once.

    For what needs every class at every pixel, but not at the same time (calibration, an average of several models):
    the memory is that of one tile.

    >>> sum(t.probabilities[0].numel() for t in upsampled_probability_tiles(torch.zeros(1, 2, 2, 2), (30, 40)))
    1200
    """
    height, width = _checked(logits, size)
    for i, picture in enumerate(logits):
        low = rows_first(finite(picture.to(working_dtype(logits))))
        for tile, z in Tiles(picture.shape[1:], (height, width), len(picture), low).of(low):
            z = z.sub_(z.amax(1, keepdim=True)).exp_()
            yield ProbabilityTile(i, *tile.place, z.div_(z.sum(1, keepdim=True)).transpose(0, 1))


def _checked(logits: Tensor, size: Sequence[int]) -> tuple[int, int]:
    if logits.dim() != 4 or not logits.is_floating_point() or 0 in logits.shape[1:]:
        raise InputError(
            f"logits are {tuple(logits.shape)} of {logits.dtype}; expected floating point numbers of (batch, classes, "
            "height, width), none of the last three zero."
        )
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"size is {tuple(size)}; expected (height, width), each at least 1.")
    return int(size[0]), int(size[1])


def _check_ids_fit(classes: int, dtype: torch.dtype) -> None:
    if not dtype.is_floating_point and classes - 1 > torch.iinfo(dtype).max:
        raise InputError(f"dtype is {dtype}, which cannot hold the ids of {classes} classes; take torch.int64.")


def _fill_settled(low: Tensor, ids: Tensor) -> bool:
    """Fill in the classes from the corners of each cell where these agree, the rest pixel by pixel.

    False, and nothing done, where too many disagree for that to pay.
    """
    h, _, w = low.shape
    winner = low.max(1).indices  # (h, w)
    top, down = lower_neighbours(h, ids.shape[0], low)
    left, right = lower_neighbours(w, ids.shape[1], low)
    next_row, next_column = _clamped_successors(h, low), _clamped_successors(w, low)
    under = winner[next_row]
    settled = (winner == under) & (winner == winner[:, next_column]) & (winner == under[:, next_column])
    open_rows, open_columns = (~settled[top][:, left]).nonzero(as_tuple=True)
    if len(open_rows) > _WORTH_SINGLING_OUT * ids.numel():
        return False
    ids.copy_(winner[top][:, left])
    vectors = low.transpose(1, 2).flatten(0, 1)  # (h w, classes)
    at_once = max(1, _ELEMENTS_AT_ONCE // vectors.shape[1])
    for rows, columns in zip(open_rows.split(at_once), open_columns.split(at_once), strict=True):
        z = vectors.new_zeros(len(rows), vectors.shape[1])
        y, x, fy, fx = top[rows], left[columns], down[rows], right[columns]
        for row, row_share in ((y, 1 - fy), (next_row[y], fy)):
            for column, column_share in ((x, 1 - fx), (next_column[x], fx)):
                z += vectors.index_select(0, row * w + column).mul_((row_share * column_share)[:, None])
        ids[rows, columns] = z.max(1).indices.to(ids.dtype)
    return True


def _clamped_successors(n: int, like: Tensor) -> Tensor:
    return torch.arange(1, n + 1, device=like.device).clamp_(max=n - 1)
