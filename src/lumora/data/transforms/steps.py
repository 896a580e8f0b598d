"""What a transform is, and several of them one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor

Pair = tuple[Tensor, Tensor | None]
"""A picture, `uint8 (3, H, W)`, and its mask, `(H, W)`, if it has one."""

Transform = Callable[[Tensor, Tensor | None, Generator], Pair]
"""Takes a picture, its mask or None, and the generator that all its randomness comes from."""


class Fixed(ABC):
    """A transform that draws nothing: its result depends on the picture and the mask alone.

    What a pipeline does before its first draw can therefore be kept in a cache.
    """

    @abstractmethod
    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The changed picture and mask; the generator is left as it is."""


class Values(Fixed):
    """A transform of single values that can be done to many pictures at once, at the end of a pipeline.

    Loaders keep it for the finished batch, where it is cheaper and, with a GPU, done there.
    """

    @abstractmethod
    def applied(self, pictures: Tensor) -> Tensor:
        """`float32` pictures from pictures of shape `(..., 3, H, W)`."""

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """The changed picture; the mask as it is."""
        return self.applied(picture), mask


@dataclass(frozen=True)
class Compose:
    """Transforms one after the other.

    Costs what its steps cost.

    >>> from lumora.data.transforms import Flip, Resize
    >>> Compose((Resize(224), Flip())).steps
    (Resize(size=224, interpolation='bilinear', masks=True), Flip(horizontal=0.5, vertical=0.0))
    """

    steps: tuple[Transform, ...]

    def __call__(self, picture: Tensor, mask: Tensor | None, generator: Generator) -> Pair:
        """What the last step gives."""
        for step in self.steps:
            picture, mask = step(picture, mask, generator)
        return picture, mask


@dataclass(frozen=True)
class Stages:
    """A pipeline in three parts, by when each may be done."""

    fixed: tuple[Transform, ...]
    """The same in every epoch: can be done once."""
    drawn: tuple[Transform, ...]
    """Anew for every sample in every epoch."""
    values: tuple[Values, ...]
    """At the end, for a whole batch at once."""


def stages(transform: Transform) -> Stages:
    """Take a pipeline apart. Its three parts, one after the other, do exactly what it does."""
    steps = _flat(transform)
    end = len(steps)
    while end and isinstance(steps[end - 1], Values):
        end -= 1
    start = 0
    while start < end and isinstance(steps[start], Fixed) and not isinstance(steps[start], Values):
        start += 1
    values = tuple(step for step in steps[end:] if isinstance(step, Values))
    return Stages(fixed=steps[:start], drawn=steps[start:end], values=values)


def _flat(transform: Transform) -> tuple[Transform, ...]:
    if isinstance(transform, Compose):
        return tuple(inner for step in transform.steps for inner in _flat(step))
    return (transform,)
