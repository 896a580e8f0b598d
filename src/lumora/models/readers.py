"""Getting feature maps out of a backbone, for each kind of backbone."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Protocol, cast

from torch import Tensor, nn

from lumora.models.watching import watch_output


class Reader(Protocol):
    """Gets feature maps out of one kind of backbone.

    It holds no module, so that a backbone can be copied and adapted without it.
    """

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps (B, C, h, w) of pictures (B, 3, H, W)."""
        ...


@dataclass(frozen=True)
class TimmReader:
    """Any model of timm: all of them give what lies between their blocks."""

    indices: tuple[int, ...]
    norm: bool
    """Whether the last norm is applied to every map, as plain transformers are read."""

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps of the blocks."""
        read: Any = cast(Any, backbone).forward_intermediates
        return list(read(pixels, indices=list(self.indices), norm=self.norm, intermediates_only=True))


@dataclass(frozen=True)
class BackboneReader:
    """A backbone class of transformers."""

    chosen: tuple[int, ...]
    """Which of its maps."""

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps that it gives itself."""
        maps = backbone(pixels).feature_maps
        return [maps[i] for i in self.chosen]


@dataclass(frozen=True)
class Lying:
    """How something that a module gives lies on the picture."""

    stride: int
    """Pixels of the picture for each step."""
    channels: int
    tokens_before: int | None = None
    """Of a sequence of tokens (B, N, C): how many are no place of the picture (class token, registers)."""
    channels_last: bool = False
    """Whether it is (B, h, w, C)."""

    def map(self, given: Tensor, pixels: Tensor) -> Tensor:
        """It as a map (B, C, h, w)."""
        if self.channels_last:
            return given.permute(0, 3, 1, 2)
        if self.tokens_before is None:
            return given
        height, width = (length // self.stride for length in pixels.shape[2:])
        return given[:, self.tokens_before :].transpose(1, 2).unflatten(2, (height, width))


@dataclass(frozen=True)
class HiddenStatesReader:
    """Any other model of transformers: what lies between its blocks, maps or tokens."""

    chosen: tuple[tuple[int, Lying], ...]
    reshaped: bool
    options: tuple[str, ...]

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps."""
        outputs = self.run(backbone, pixels)
        states = outputs.reshaped_hidden_states if self.reshaped else outputs.hidden_states
        return [how.map(states[i], pixels) for i, how in self.chosen]

    def run(self, backbone: nn.Module, pixels: Tensor) -> Any:
        """All that the backbone gives."""
        return backbone(pixels, output_hidden_states=True, **dict.fromkeys(self.options, True))


@dataclass(frozen=True)
class CaughtReader:
    """Any module at all: what some of the modules inside give, caught while it runs."""

    chosen: tuple[tuple[str, Lying], ...]
    """Path, and how what is given there lies."""

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps."""
        caught: list[list[Tensor]] = [[] for _ in self.chosen]
        with ExitStack() as stack:
            for (path, _), into in zip(self.chosen, caught, strict=True):
                stack.enter_context(watch_output(backbone.get_submodule(path), into.append))
            backbone(pixels)
        return [how.map(found[-1], pixels) for (_, how), found in zip(self.chosen, caught, strict=True)]


@dataclass(frozen=True)
class EncoderReader:
    """A model of segmentation-models-pytorch: its encoder gives a list of maps."""

    chosen: tuple[int, ...]

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps of the encoder."""
        maps = backbone(pixels)
        return [maps[i] for i in self.chosen]
