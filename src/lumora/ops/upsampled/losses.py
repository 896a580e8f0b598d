"""Cross entropy and Dice of bilinearly upsampled logits, without ever holding the upsampled logits.

The softmax of a tile is made, used and forgotten. Cross entropy's gradient needs nothing but that tile, so it is formed
in the forward pass. Dice's needs the sums over all pixels first, so there the tiles are made once more in the backward
pass; both losses then share each tile both times.

Interpolation weights are not negative and sum to one. Two savings rest on that: subtracting from every small pixel its
largest logit changes no softmax and leaves every interpolated logit <= 0, so a tile needs no search for its maximum;
and the mean over the classes that label smoothing asks for is one more small map, interpolated like any class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lumora.errors import InputError
from lumora.ops.upsampled import plain
from lumora.ops.upsampled.tiles import Tile, Tiles, finite, rows_first, working_dtype

# In 32 bits exp(z) is a normal number down to z = -87. A pixel's largest interpolated logit lies above -3/4 of the
# range of the (shifted) small logits: the nearest of the four small pixels has at least a quarter of the weight.
_SAFE_RANGE = 100.0


def upsampled_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of `logits`, upsampled bilinearly to the target's size, against `target`.

    The same as `F.cross_entropy(F.interpolate(logits, target.shape[-2:], mode="bilinear"), target, ...)`, in one pass
    over tiles of the large picture. Half-precision logits are computed in 32 bits and the loss comes in 32 bits. Where
    no pixel counts, the loss and its gradient are zero (torch: not a number).

    Args:
        logits: (batch, classes, height, width), of any size.
        target: class ids of any integer type, (batch, height, width).
        ignore_index: the id that counts nowhere.
        weight: a weight for each class.
        label_smoothing: how much of each target is spread over all classes.
        reduction: "mean" over the pixels that count (by their weights), or "sum".

    Costs: beside the logits one gradient of their size and one tile. The gradient is formed in the forward pass; the
    loss cannot be differentiated twice. Inside `torch.func`'s transforms it can, and holds full-size logits.

    >>> logits = torch.zeros(1, 4, 2, 2)
    >>> target = torch.tensor([[[0, 1, 2], [3, 255, 255], [0, 0, 0]]])
    >>> upsampled_cross_entropy(logits, target)
    tensor(1.3863)
    """
    if reduction not in ("mean", "sum"):
        raise InputError(f'reduction is {reduction!r}; it must be "mean" or "sum".')
    options = _checked(logits, target, ignore_index, weight, label_smoothing)
    if not target.numel():
        return _nothing(logits)
    if plain.is_needed():
        return plain.cross_entropy(logits, target, weight, ignore_index, label_smoothing, reduction == "mean")
    wants_gradient = torch.is_grad_enabled() and logits.requires_grad
    with torch.autocast(logits.device.type, enabled=False):
        loss: Tensor = _CrossEntropy.apply(logits, target, weight, options, reduction == "mean", wants_gradient)  # type: ignore[assignment]
    return loss


def upsampled_cross_entropy_and_dice(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = 255,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    smooth: float = 1.0,
    add_up: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross entropy as above, and the soft Dice loss of the same softmax, from the same tiles.

    The Dice loss of a class is `1 - (2 |P and T| + smooth) / (|P| + |T| + smooth)` over all pixels of the batch that
    count, P the class's probability and T 1 where the target is that class. It is averaged over the classes that occur
    in the target; where none does, it is zero. `weight` and `label_smoothing` are the cross entropy's alone.

    Where several processes have a part of the batch each, `add_up` makes the sums that Dice needs, (3, classes), those
    of all, in place. The Dice loss is then that of the whole batch, and its gradient of this part's logits.

    Costs: one tile, and a second pass over the tiles in the backward pass; no gradient is held in between.

    >>> logits = torch.zeros(1, 2, 2, 2)
    >>> target = torch.tensor([[[0, 1], [0, 1]]])
    >>> upsampled_cross_entropy_and_dice(logits, target)
    (tensor(0.6931), tensor(0.4000))
    """
    options = _checked(logits, target, ignore_index, weight, label_smoothing)
    if not target.numel():
        return _nothing(logits), _nothing(logits)
    if plain.is_needed():
        entropy = plain.cross_entropy(logits, target, weight, ignore_index, label_smoothing, mean=True)
        return entropy, plain.dice(logits, target, ignore_index, smooth)  # alone: collectives know no transforms
    with torch.autocast(logits.device.type, enabled=False):
        both: tuple[Tensor, Tensor] = _CrossEntropyAndDice.apply(logits, target, weight, options, smooth, add_up)  # type: ignore[assignment]
    return both


@dataclass(frozen=True)
class _Options:
    ignore_index: int
    smoothing: float


def _checked(
    logits: Tensor, target: Tensor, ignore_index: int, weight: Tensor | None, label_smoothing: float
) -> _Options:
    if logits.dim() != 4 or not logits.is_floating_point():
        raise InputError(
            f"logits are {tuple(logits.shape)} of {logits.dtype}; expected floating point numbers of (batch, classes, "
            "height, width)."
        )
    if target.dim() != 3 or len(target) != len(logits) or target.is_floating_point():
        raise InputError(
            f"target is {tuple(target.shape)} of {target.dtype} for logits {tuple(logits.shape)}; expected integers of "
            f"({len(logits)}, height, width)."
        )
    if 0 in logits.shape[1:]:
        raise InputError(f"logits are {tuple(logits.shape)}; there must be at least one class and one pixel.")
    if weight is not None and weight.shape != logits.shape[1:2]:
        raise InputError(f"weight is {tuple(weight.shape)}; expected one for each of {logits.shape[1]} classes.")
    if weight is not None and weight.requires_grad:
        raise InputError("weight requires a gradient, which these losses do not give; pass weight.detach().")
    if not 0 <= label_smoothing <= 1:
        raise InputError(f"label_smoothing is {label_smoothing}; it must lie between 0 and 1.")
    # Elsewhere the question would wait for the device; there the look-up itself fails.
    if target.device.type == "cpu" and not torch.compiler.is_compiling() and not plain.is_needed():
        _check_ids(target, logits.shape[1], ignore_index)
    return _Options(ignore_index, float(label_smoothing))


def _nothing(logits: Tensor) -> Tensor:
    """A loss of zero whose gradient is zero, for a target without a pixel."""
    return (logits.to(working_dtype(logits)) * 0).sum()


def _check_ids(target: Tensor, classes: int, ignore_index: int) -> None:
    target = target.long()  # a smaller type would take a number that it cannot hold for another one
    outside = target[((target < 0) | (target >= classes)) & (target != ignore_index)]
    if ids := outside.unique().tolist():
        shown = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
        raise InputError(
            f"target has the ids {shown}, but the logits have the classes 0 to {classes - 1} and {ignore_index} is "
            "ignored. Check the number of classes, whether ids start at 1, and ignore_index."
        )


class _TileSoftmax(NamedTuple):
    """A tile's softmax against its targets; all but the first are (rows, columns) of the tile."""

    exponentials: Tensor
    """(rows, classes, columns), in the memory of the tile's logits."""
    total: Tensor
    """Their sum over the classes."""
    counts: Tensor
    """1 where a pixel counts, else 0."""
    weights: Tensor
    """The same, by the weight of the pixel's class."""
    ids: Tensor
    """Its class, 0 where it does not count."""
    probability: Tensor
    """Its class's probability."""

    def add_to_classes(self, tile: Tensor, change: Tensor) -> Tensor:
        """Add `change` to `tile` (rows, classes, columns), for each pixel at its class."""
        return tile.scatter_add_(1, self.ids[:, None], change[:, None])


class _Sweep:
    """A pass over the tiles of one picture: their softmax, and the sums that the cross entropy is made of."""

    def __init__(self, logits: Tensor, target: Tensor, weight: Tensor | None, options: _Options) -> None:
        self.low = rows_first(logits)
        self.low = finite(self.low - self.low.amax(1, keepdim=True))
        self.tiles = Tiles(logits.shape[1:], target.shape, len(logits), self.low)
        self.target, self.weight, self.options = target, weight, options
        self.loss = self.weighed = self.low.new_zeros(())
        self._guarded = _may_underflow(self.low)
        self._share = options.smoothing / len(logits)
        self._all_weights = float(len(logits)) if weight is None else weight.sum()
        self._spread = self._spread_gradient = None
        if options.smoothing:
            self._spread = self.low.sum(1) if weight is None else torch.einsum("hcw,c->hw", self.low, weight)
            self._spread_gradient = torch.zeros_like(self._spread)

    def softmax(self, tile: Tile, z: Tensor) -> _TileSoftmax:
        """The softmax of a tile with the logits `z`, which it overwrites; adds the tile's part to the sums."""
        target = self.target[tile.place].long()
        valid = target != self.options.ignore_index
        index = torch.where(valid, target, 0)
        counts = valid.to(z.dtype)
        weights = counts if self.weight is None else counts * self.weight[index]
        chosen = z.gather(1, index[:, None])[:, 0]
        if self._guarded:
            peak = z.amax(1, keepdim=True)
            z = z.sub_(peak)
            chosen = chosen - peak[:, 0]
        total = z.exp_().sum(1)
        divisor = total.log()
        self.loss = self.loss + ((divisor - chosen) * weights).sum() * (1 - self.options.smoothing)
        self.weighed = self.weighed + weights.sum()
        if self._spread is not None:
            mean = tile.of_map(self._spread)
            if self._guarded:
                mean = mean - peak[:, 0] * self._all_weights  # pyright: ignore[reportPossiblyUnboundVariable]
            self.loss = self.loss + ((divisor * self._all_weights - mean) * counts).sum() * self._share
        return _TileSoftmax(z, total, counts, weights, index, torch.exp(chosen - divisor))

    def pulls(self, tile: Tile, softmax: _TileSoftmax) -> tuple[Tensor, Tensor]:
        """The cross entropy's gradient: what multiplies every probability, and what is taken off the pixel's class."""
        sharp = softmax.weights * (1 - self.options.smoothing)
        if self._spread_gradient is None:
            return sharp, sharp
        tile.add_to_map(self._spread_gradient, softmax.counts)
        return sharp + softmax.counts * (self._share * self._all_weights), sharp

    def gradient(self, to_gradient: Callable[[Tile, Tensor], Tensor], factor: Tensor | float = 1.0) -> Tensor:
        """The gradient of the small logits (classes, rows, columns), of the loss `factor` times the cross entropy."""
        low = self.tiles.gradient(self.low, to_gradient)
        if self._spread_gradient is not None:
            spread = self._spread_gradient[:, None] * (self._share * factor)
            low = low - (spread if self.weight is None else spread * self.weight[:, None])
        return low.permute(1, 0, 2)

    def scale(self) -> Tensor:
        """One over the sum of the weights; zero where no pixel counts."""
        return _inverse(self.weighed)


def _may_underflow(low: Tensor) -> bool:
    """Whether all exponentials of a pixel could vanish, so that each tile's maximum must be subtracted as well.

    Elsewhere than on a CPU asking costs more than doing it.
    """
    if torch.compiler.is_compiling() or low.device.type != "cpu":
        return True
    return bool(low.amin() < -_SAFE_RANGE)


def _inverse(value: Tensor) -> Tensor:
    return torch.where(value > 0, 1 / value, 0)


def _sweeps(logits: Tensor, target: Tensor, weight: Tensor | None, options: _Options) -> Iterator[_Sweep]:
    """A sweep for each picture, in 32 bits at least."""
    dtype = working_dtype(logits)
    weight = None if weight is None else weight.to(logits.device, dtype)
    for picture, ids in zip(logits, target, strict=True):
        yield _Sweep(picture.to(dtype), ids, weight, options)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        options: _Options,
        mean: bool,
        wants_gradient: bool,
    ) -> Tensor:
        gradients: list[Tensor] = []
        loss = weighed = torch.zeros((), device=logits.device, dtype=working_dtype(logits))
        for sweep in _sweeps(logits, target, weight, options):
            if wants_gradient:
                gradients.append(sweep.gradient(partial(_cross_entropy_gradient, sweep)))
            else:
                for tile, z in sweep.tiles.of(sweep.low):
                    sweep.softmax(tile, z)
            loss, weighed = loss + sweep.loss, weighed + sweep.weighed
        scale = _inverse(weighed) if mean else torch.ones_like(weighed)
        if wants_gradient:
            ctx.save_for_backward(torch.stack(gradients).mul_(scale))
        ctx.dtype = logits.dtype
        return loss * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        # The product is taken in 32 bits: a loss scaled up for half precision has its gradient rounded only once.
        return (ctx.saved_tensors[0] * grad_output).to(ctx.dtype), None, None, None, None, None


def _cross_entropy_gradient(sweep: _Sweep, tile: Tile, z: Tensor) -> Tensor:
    softmax = sweep.softmax(tile, z)
    all_classes, own_class = sweep.pulls(tile, softmax)
    gradient = softmax.exponentials.mul_((all_classes / softmax.total)[:, None])
    return softmax.add_to_classes(gradient, -own_class)


class _CrossEntropyAndDice(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        options: _Options,
        smooth: float,
        add_up: Callable[[Tensor], None] | None,
    ) -> tuple[Tensor, Tensor]:
        loss = weighed = torch.zeros((), device=logits.device, dtype=working_dtype(logits))
        # For each class: its probability summed over all pixels and over its own, and how many pixels are its own.
        predicted, hit, own = torch.zeros(3, logits.shape[1], device=logits.device, dtype=loss.dtype)
        for sweep in _sweeps(logits, target, weight, options):
            for tile, z in sweep.tiles.of(sweep.low):
                softmax = sweep.softmax(tile, z)
                shares = softmax.exponentials.mul_((softmax.counts / softmax.total)[:, None])
                predicted = predicted + shares.sum((0, 2))
                index, counts = softmax.ids.flatten(), softmax.counts.flatten()
                hit = hit.index_add(0, index, softmax.probability.flatten() * counts)
                own = own.index_add(0, index, counts)
            loss, weighed = loss + sweep.loss, weighed + sweep.weighed
        if add_up is not None:
            add_up(sums := torch.stack([predicted, hit, own]))
            predicted, hit, own = sums
        present = (own > 0).to(loss.dtype)
        present = present * _inverse(present.sum())
        size = _inverse(predicted + own + smooth)
        score = (2 * hit + smooth) * size
        # The gradient of the Dice loss with respect to a probability, and what comes to it at the class's own pixels.
        ctx.save_for_backward(logits, target, weight, _inverse(weighed), present * score * size, -2 * present * size)
        ctx.options = options
        return loss * _inverse(weighed), (present * (1 - score)).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        logits, target, weight, scale, everywhere, at_own = ctx.saved_tensors
        for_cross_entropy, for_dice = grad_outputs[0] * scale, grad_outputs[1]
        pull = _DicePull(for_cross_entropy, everywhere * for_dice, at_own * for_dice)
        with torch.autocast(logits.device.type, enabled=False):
            gradients = [
                sweep.gradient(partial(_combined_gradient, sweep, pull), for_cross_entropy)
                for sweep in _sweeps(logits, target, weight, ctx.options)
            ]
            return torch.stack(gradients).to(logits.dtype), None, None, None, None, None


class _DicePull(NamedTuple):
    """Gradients from above: of the cross entropy's sum; of a class's probability everywhere, and at its own pixels."""

    cross_entropy: Tensor
    everywhere: Tensor
    at_own: Tensor


def _combined_gradient(sweep: _Sweep, pull: _DicePull, tile: Tile, z: Tensor) -> Tensor:
    softmax = sweep.softmax(tile, z)
    all_classes, own_class = sweep.pulls(tile, softmax)
    probabilities = softmax.exponentials.div_(softmax.total[:, None])
    # A softmax turns the gradient g of its probabilities p into p (g - mean of g under p).
    own = softmax.probability * pull.at_own[softmax.ids]
    mean = torch.einsum("hcw,c->hw", probabilities, pull.everywhere) + own
    factor = (all_classes * pull.cross_entropy - mean * softmax.counts)[:, None]
    factor = torch.addcmul(factor, softmax.counts[:, None], pull.everywhere[:, None])
    change = own * softmax.counts - own_class * pull.cross_entropy
    return softmax.add_to_classes(probabilities.mul_(factor), change)
