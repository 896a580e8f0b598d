"""Feature maps of a picture, fine to coarse, from any backbone.

How they are read depends on who made the backbone: timm's and transformers' own interfaces where there are such, the
tokens of some blocks put back into rows and columns for a plain vision transformer, and for any other module what its
children give, caught on the way.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from lumora.errors import LumoraError

FINEST = 4
"""Maps finer than a quarter of the picture's side are left out: they cost most and tell least."""

PLAIN = 4
"""How many blocks of a plain transformer give a map."""

_PREFIX_AT_MOST = 16
"""How many tokens of a sequence may be no place of the picture."""


class Reader(Protocol):
    """Gets feature maps out of one kind of backbone.

    It holds no module, so that a backbone can be copied and adapted without it.
    """

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps (B, C, h, w) of pictures (B, 3, H, W)."""
        ...


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
    backbone, reader = _reader(backbone, size)
    with trying_out(backbone):
        maps = reader(backbone, empty_picture(backbone, size))
    strides = tuple(round(size[0] / tensor.shape[2]) for tensor in maps)
    return Features(backbone, reader, tuple(t.shape[1] for t in maps), strides, model or backbone)


def plain_indices(blocks: int) -> tuple[int, ...]:
    """The blocks of a plain transformer that give maps: the ends of its four quarters.

    >>> plain_indices(12)
    (2, 5, 8, 11)
    """
    return tuple(sorted({max(0, round(blocks * part / PLAIN) - 1) for part in range(1, PLAIN + 1)}))


def empty_picture(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """One black picture where the model is and in its type."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(0))
    return torch.zeros(1, 3, *size, device=like.device, dtype=like.dtype)


@contextmanager
def trying_out(model: nn.Module) -> Generator[None]:
    """Inside, the model does not learn, drop, count or record; afterwards it is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


# --- how each kind of backbone is read --------------------------------------------------------------------------------


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
class Tokens:
    """How a sequence of tokens lies on the picture."""

    stride: int
    prefix: int
    """Tokens in front that are no place of the picture: class token, registers."""

    def map(self, tokens: Tensor, pixels: Tensor) -> Tensor:
        """The tokens (B, N, C) as a map (B, C, h, w)."""
        height, width = (length // self.stride for length in pixels.shape[2:])
        return tokens[:, self.prefix :].transpose(1, 2).unflatten(2, (height, width))


@dataclass(frozen=True)
class HiddenStatesReader:
    """Any other model of transformers: what lies between its blocks, maps or tokens."""

    chosen: tuple[tuple[int, Tokens | None], ...]
    reshaped: bool
    options: tuple[str, ...]

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps."""
        outputs = self.run(backbone, pixels)
        states = outputs.reshaped_hidden_states if self.reshaped else outputs.hidden_states
        return [states[i] if tokens is None else tokens.map(states[i], pixels) for i, tokens in self.chosen]

    def run(self, backbone: nn.Module, pixels: Tensor) -> Any:
        """All that the backbone gives."""
        return backbone(pixels, output_hidden_states=True, **dict.fromkeys(self.options, True))


@dataclass(frozen=True)
class CaughtReader:
    """Any module at all: what some of the modules inside give, caught while it runs."""

    chosen: tuple[tuple[str, Tokens | None, bool], ...]
    """Path, how tokens lie, and whether channels come last."""

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps."""
        caught: list[list[Tensor]] = [[] for _ in self.chosen]
        with ExitStack() as stack:
            for (path, _, _), into in zip(self.chosen, caught, strict=True):
                stack.enter_context(watch_output(backbone.get_submodule(path), into.append))
            backbone(pixels)
        return [
            tokens.map(found[-1], pixels) if tokens else found[-1].permute(0, 3, 1, 2) if last else found[-1]
            for (_, tokens, last), found in zip(self.chosen, caught, strict=True)
        ]


@dataclass(frozen=True)
class EncoderReader:
    """A model of segmentation-models-pytorch: its encoder gives a list of maps."""

    chosen: tuple[int, ...]

    def __call__(self, backbone: nn.Module, pixels: Tensor) -> list[Tensor]:
        """The maps of the encoder."""
        maps = backbone(pixels)
        return [maps[i] for i in self.chosen]


# --- which reader -----------------------------------------------------------------------------------------------------


def _reader(model: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, Reader]:
    """The part of a model that gives maps, and how they are read."""
    library = _library(model)
    if hasattr(model, "forward_intermediates") and hasattr(model, "feature_info"):
        return model, _timm_reader(model)
    if library == "transformers":
        return _transformers_reader(model, size)
    if library == "segmentation_models_pytorch" and hasattr(model, "encoder"):
        encoder = cast(nn.Module, model.encoder)
        with trying_out(encoder):
            maps = encoder(empty_picture(encoder, size))
        return encoder, EncoderReader(_one_for_each_stride(maps, size))
    return model, _caught_reader(model, size)


def _library(model: nn.Module) -> str:
    """The library that made a model's class, itself or a parent."""
    for cls in type(model).__mro__:
        name = cls.__module__.partition(".")[0]
        if name in ("timm", "transformers", "torchvision", "segmentation_models_pytorch"):
            return name
    return ""


def _timm_reader(model: nn.Module) -> TimmReader:
    reductions = [int(part["reduction"]) for part in cast(Any, model).feature_info]
    if len(set(reductions)) == 1:
        takes_norm = "norm" in inspect.signature(cast(Any, model).forward_intermediates).parameters
        return TimmReader(plain_indices(len(reductions)), norm=takes_norm)
    return TimmReader(_last_of_each(reductions), norm=False)


def _transformers_reader(model: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, Reader]:
    inside = _inner_backbone(model)
    if inside is not None:
        with trying_out(inside):
            maps = inside(empty_picture(inside, size)).feature_maps
        return inside, BackboneReader(_one_for_each_stride(maps, size))
    encoder: nn.Module = getattr(model, "vision_model", None) or cast(Any, model).base_model
    encoder = getattr(encoder, "vision_model", None) or encoder
    options = tuple({"interpolate_pos_encoding"} & inspect.signature(encoder.forward).parameters.keys())
    try:
        with trying_out(encoder):
            reader = HiddenStatesReader((), False, options)
            outputs = reader.run(encoder, empty_picture(encoder, size))
    except TypeError as error:  # it knows no such option
        raise _no_maps(model) from error
    reshaped = getattr(outputs, "reshaped_hidden_states", None) is not None
    states = outputs.reshaped_hidden_states if reshaped else outputs.hidden_states
    chosen = _choose([_lying(state.shape, size) for state in states or ()], model, first_enters=True)
    return encoder, HiddenStatesReader(tuple((i, how.tokens) for i, how in chosen.items()), reshaped, options)


def _inner_backbone(model: nn.Module) -> nn.Module | None:
    """The model itself, or the first module inside, that is a backbone by transformers' own word."""
    from transformers.backbone_utils import BackboneMixin

    return next((module for module in model.modules() if isinstance(module, BackboneMixin)), None)


def _caught_reader(model: nn.Module, size: tuple[int, int]) -> CaughtReader:
    outputs: list[tuple[str, torch.Size]] = []
    with ExitStack() as stack:
        for path, module in model.named_modules():
            if path:
                stack.enter_context(watch_output(module, _noting(path, outputs)))
        stack.enter_context(trying_out(model))
        model(empty_picture(model, size))
    lying = [_lying(shape, size) for _, shape in outputs]
    if _is_plain(lying):
        lying = _only_blocks([path for path, _ in outputs], lying)
    chosen = _choose(lying, model)
    return CaughtReader(tuple((outputs[i][0], how.tokens, how.channels_last) for i, how in chosen.items()))


def _noting(path: str, into: list[tuple[str, torch.Size]]) -> Callable[[Tensor], None]:
    return lambda tensor: into.append((path, tensor.shape))


@dataclass(frozen=True)
class _Lying:
    """How something between blocks lies on the picture."""

    stride: int
    channels: int
    tokens: Tokens | None = None
    channels_last: bool = False


def _lying(shape: torch.Size, size: tuple[int, int]) -> _Lying | None:
    """How a tensor of this shape lies on the picture; None if it does not."""
    if len(shape) == 4:
        if (stride := _stride(shape[2], shape[3], size)) is not None:
            return _Lying(stride, shape[1])
        if (stride := _stride(shape[1], shape[2], size)) is not None:
            return _Lying(stride, shape[3], channels_last=True)
    if len(shape) == 3 and (tokens := _tokens(shape[1], size)) is not None:
        return _Lying(tokens.stride, shape[2], tokens)
    return None


def _stride(height: int, width: int, size: tuple[int, int]) -> int | None:
    """The stride of a map of this height and width, if both sides agree on one."""
    if min(height, width) < 2:
        return None
    stride = round(size[0] / height)
    fits = all(abs(length / steps - stride) <= stride / 4 for length, steps in zip(size, (height, width), strict=True))
    return stride if fits and stride >= 1 else None


def _tokens(count: int, size: tuple[int, int]) -> Tokens | None:
    """The finest grid that so many tokens fill, with few of them in front."""
    for stride in range(2, 65):
        if size[0] % stride == 0 and size[1] % stride == 0:
            prefix = count - (size[0] // stride) * (size[1] // stride)
            if 0 <= prefix <= _PREFIX_AT_MOST:
                return Tokens(stride, prefix)
    return None


def _is_plain(lying: Sequence[_Lying | None]) -> bool:
    """Whether these are tokens of one grid from the first block to the last."""
    found = [how for how in lying if how is not None and how.stride >= FINEST]
    return len({how.stride for how in found}) == 1 and any(how.tokens for how in found)


def _only_blocks(paths: list[str], lying: list[_Lying | None]) -> list[_Lying | None]:
    """Only what the elements of the longest list of modules give, not what is inside them."""
    lists: dict[str, int] = {}
    for path, how in zip(paths, lying, strict=True):
        if how is not None and how.tokens:
            owner = path.rpartition(".")[0]
            lists[owner] = lists.get(owner, 0) + 1
    blocks = max(lists, key=lambda owner: lists[owner])
    return [how if path.rpartition(".")[0] == blocks else None for path, how in zip(paths, lying, strict=True)]


def _choose(lying: Sequence[_Lying | None], model: nn.Module, first_enters: bool = False) -> dict[int, _Lying]:
    """Which outputs to take: the last of each stride; of a plain transformer, the ends of its quarters."""
    usable = {i: how for i, how in enumerate(lying) if how is not None and how.stride >= FINEST}
    if not usable:
        raise _no_maps(model)
    if _is_plain(lying):
        blocks = [i for i, how in usable.items() if how.tokens][first_enters:]
        return {blocks[i]: usable[blocks[i]] for i in plain_indices(len(blocks))}
    last = {how.stride: i for i, how in usable.items()}
    return {last[stride]: usable[last[stride]] for stride in sorted(last)}


def _one_for_each_stride(maps: Sequence[Tensor], size: tuple[int, int]) -> tuple[int, ...]:
    strides = [round(size[0] / tensor.shape[2]) if tensor.shape[1] else 1 for tensor in maps]
    return tuple(range(len(maps))) if len(set(strides)) == 1 else _last_of_each(strides)


def _last_of_each(strides: Sequence[int]) -> tuple[int, ...]:
    last = {stride: i for i, stride in enumerate(strides)}
    return tuple(last[stride] for stride in sorted(last) if stride >= FINEST) or (len(strides) - 1,)


def _no_maps(model: nn.Module) -> LumoraError:
    return LumoraError(
        f"No feature maps were found in {type(model).__name__}: nothing inside gives (B, C, h, w), nor tokens of a "
        f"grid, at a stride of {FINEST} or more. Give a model that does, or one with a head of its own (head='own')."
    )


# --- catching what modules get and give -------------------------------------------------------------------------------


@contextmanager
def watch_output(module: nn.Module, note: Callable[[Tensor], object]) -> Generator[None]:
    """Inside, tell `note` what a module gives in this thread; of a tuple, the first."""
    mine = threading.get_ident()

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        if threading.get_ident() == mine and isinstance(output, Tensor):
            note(output)

    handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watch_input(module: nn.Module, note: Callable[[Tensor], object]) -> Generator[None]:
    """Inside, tell `note` what a module gets first in this thread."""
    mine = threading.get_ident()

    def before(_module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == mine and inputs and isinstance(inputs[0], Tensor):
            note(inputs[0])

    handle = module.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
