"""Bilinear upsampling a tile at a time, forward and backward.

Bilinear interpolation is two products with small matrices, one for each axis. Those matrices are banded: a run of
neighbouring outputs reads a run of neighbouring inputs, two for each output and shared between them. So a tile of the
large picture is `rows @ low[part] @ columns.T` with two blocks of a few numbers, and the gradient of a tile goes back
through the same blocks turned round. The maps lie with their rows in front, (rows, classes, columns): then both
products are single matrix products over all classes, and what is summed over the classes runs along memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# A tile on a CPU should stay in its cache between the passes over it; on an accelerator it should keep that busy.
_ELEMENTS_ON_CPU = 320_000
_ELEMENTS_ELSEWHERE = 1 << 26
_COLUMNS_ON_CPU = 128
_ROWS_ON_CPU = 16


@dataclass(frozen=True)
class Band:
    """A run of outputs along one axis, the run of inputs that they read, and how much of each: (outputs, inputs)."""

    outputs: slice
    inputs: slice
    weights: Tensor

    @property
    def size(self) -> int:
        """How many outputs."""
        return self.outputs.stop - self.outputs.start


def bands(n_in: int, n_out: int, size: int, like: Tensor) -> list[Band]:
    """Cut an axis of `n_out` outputs, interpolated from `n_in` inputs, into bands of at most `size` outputs.

    >>> first, second = bands(2, 4, 2, torch.zeros(()))
    >>> second.inputs, second.weights.tolist()
    (slice(0, 2, None), [[0.25, 0.75], [0.0, 1.0]])
    """
    return [band(n_in, n_out, start, min(start + size, n_out), like) for start in range(0, n_out, size)]


def band(n_in: int, n_out: int, start: int, stop: int, like: Tensor) -> Band:
    """The outputs from `start` to `stop` of such an axis.

    >>> band(2, 4, 2, 4, torch.zeros(())).weights.tolist()
    [[0.25, 0.75], [0.0, 1.0]]
    """
    ratio = n_in / n_out

    def lower(output: int) -> int:
        return min(int(max(ratio * (output + 0.5) - 0.5, 0.0)), n_in - 1)

    first, last = lower(start), min(lower(stop - 1) + 2, n_in)
    # The weight of an input falls linearly to nothing at its neighbours.
    inputs = torch.arange(first, last, dtype=torch.float64)
    weights = (1 - (_centres(start, stop, ratio, n_in)[:, None] - inputs).abs()).clamp_(min=0)
    return Band(slice(start, stop), slice(first, last), weights.to(like))


def lower_neighbours(n_in: int, n_out: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """For each output of an axis the lower of the two inputs that it reads, and how much of the upper one.

    >>> lower_neighbours(2, 4, torch.zeros(()))
    (tensor([0, 0, 0, 1]), tensor([0.0000, 0.2500, 0.7500, 0.0000]))
    """
    centres = _centres(0, n_out, n_in / n_out, n_in)
    lower = centres.floor()
    return lower.long().to(like.device), (centres - lower).to(like)


def _centres(start: int, stop: int, ratio: float, n_in: int) -> Tensor:
    """Where outputs lie on the axis of inputs; beyond the rim the last input holds."""
    return torch.arange(start, stop, dtype=torch.float64).add_(0.5).mul_(ratio).sub_(0.5).clamp_(0, n_in - 1)


@dataclass(frozen=True)
class Tile:
    """Where a tile lies in the large picture, and how it is made."""

    rows: Band
    columns: Band

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns in a map of the large picture."""
        return self.rows.outputs, self.columns.outputs

    def of_map(self, low: Tensor) -> Tensor:
        """The tile of a single small map (rows, columns)."""
        return self.rows.weights @ low[self.rows.inputs, self.columns.inputs] @ self.columns.weights.t()

    def add_to_map(self, low: Tensor, gradient: Tensor) -> None:
        """Send the gradient of a tile of a single map back to the small map."""
        low[self.rows.inputs, self.columns.inputs] += self.rows.weights.t() @ gradient @ self.columns.weights


class Tiles:
    """A large picture as tiles that are interpolated from a small one, class by class."""

    def __init__(self, small: Sequence[int], large: Sequence[int], classes: int, like: Tensor) -> None:
        height, width = _tile_size(large, classes, like.device.type)
        self.rows = bands(small[0], large[0], height, like)
        self.columns = bands(small[1], large[1], width, like)

    def of(self, low: Tensor) -> Iterator[tuple[Tile, Tensor]]:
        """Every tile of `low` (rows, classes, columns) with its values, which the caller may overwrite."""
        for columns in self.columns:
            wide = _widened(low, columns)
            for rows in self.rows:
                yield Tile(rows, columns), _heightened(wide, rows)

    def gradient(self, low: Tensor, to_gradient: Callable[[Tile, Tensor], Tensor]) -> Tensor:
        """The gradient of `low`, where `to_gradient` turns the values of a tile into the gradient of that tile."""
        total = torch.zeros_like(low)
        for columns in self.columns:
            wide = _widened(low, columns)
            wide_total = torch.zeros_like(wide)
            for rows in self.rows:
                gradient = to_gradient(Tile(rows, columns), _heightened(wide, rows))
                wide_total[rows.inputs].flatten(1).addmm_(rows.weights.t(), gradient.flatten(1))
            total[..., columns.inputs] += wide_total @ columns.weights
        return total


def rows_first(logits: Tensor) -> Tensor:
    """The maps of one picture (classes, rows, columns) as tiles want them: (rows, classes, columns)."""
    return logits.permute(1, 0, 2).contiguous()


def working_dtype(logits: Tensor) -> torch.dtype:
    """The type in which logits are computed: 32 bits at least."""
    return torch.promote_types(logits.dtype, torch.float32)


def finite(maps: Tensor) -> Tensor:
    """Infinite logits as the largest ones: what rules a class out must not meet a weight of zero, which gives NaN."""
    largest = torch.finfo(maps.dtype).max / 2
    return maps.clamp(-largest, largest)


def _widened(low: Tensor, columns: Band) -> Tensor:
    return low[..., columns.inputs] @ columns.weights.t()  # (rows, classes, columns of the band)


def _heightened(wide: Tensor, rows: Band) -> Tensor:
    product = rows.weights @ wide[rows.inputs].flatten(1)
    return product.view(rows.size, *wide.shape[1:])


def _tile_size(large: Sequence[int], classes: int, device: str) -> tuple[int, int]:
    height, width = large
    if device != "cpu":
        return max(1, min(height, _ELEMENTS_ELSEWHERE // max(1, classes * width))), width
    # Tall enough to share the small rows, and then wide rather than tall: memory is read along the columns.
    pixels = max(64, _ELEMENTS_ON_CPU // max(1, classes))
    wide = min(width, max(_COLUMNS_ON_CPU, pixels // _ROWS_ON_CPU))
    wide = math.ceil(width / math.ceil(width / wide))
    return max(1, min(height, max(_ROWS_ON_CPU // 2, pixels // wide))), wide
