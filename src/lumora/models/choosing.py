"""Which reader gets the feature maps out of a backbone, and which of its maps are worth having."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

from lumora.errors import LumoraError
from lumora.models.readers import (
    BackboneReader,
    CaughtReader,
    EncoderReader,
    HiddenStatesReader,
    Lying,
    Reader,
    TimmReader,
)
from lumora.models.watching import empty_picture, trying_out, watch_output

FINEST = 4
"""Maps finer than a quarter of the picture's side are left out: they cost most and tell least."""

PLAIN = 4
"""How many blocks of a plain transformer give a map."""

_PREFIX_AT_MOST = 16
"""How many tokens of a sequence may be no place of the picture."""


def plain_indices(blocks: int) -> tuple[int, ...]:
    """The blocks of a plain transformer that give maps: the ends of its four quarters.

    >>> plain_indices(12)
    (2, 5, 8, 11)
    """
    return tuple(sorted({max(0, round(blocks * part / PLAIN) - 1) for part in range(1, PLAIN + 1)}))


def find_reader(model: nn.Module, size: tuple[int, int]) -> tuple[nn.Module, Reader]:
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
    return encoder, HiddenStatesReader(tuple(chosen.items()), reshaped, options)


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
    return CaughtReader(tuple((outputs[i][0], how) for i, how in chosen.items()))


def _noting(path: str, into: list[tuple[str, torch.Size]]) -> Callable[[Tensor], None]:
    return lambda tensor: into.append((path, tensor.shape))


def _lying(shape: torch.Size, size: tuple[int, int]) -> Lying | None:
    """How a tensor of this shape lies on the picture; None if it does not."""
    if len(shape) == 4:
        if (stride := _stride(shape[2], shape[3], size)) is not None:
            return Lying(stride, shape[1])
        if (stride := _stride(shape[1], shape[2], size)) is not None:
            return Lying(stride, shape[3], channels_last=True)
    return _tokens(shape[1], shape[2], size) if len(shape) == 3 else None


def _stride(height: int, width: int, size: tuple[int, int]) -> int | None:
    """The stride of a map of this height and width, if both sides agree on one."""
    if min(height, width) < 2:
        return None
    stride = round(size[0] / height)
    fits = all(abs(length / steps - stride) <= stride / 4 for length, steps in zip(size, (height, width), strict=True))
    return stride if fits and stride >= 1 else None


def _tokens(count: int, channels: int, size: tuple[int, int]) -> Lying | None:
    """The finest grid that so many tokens fill, with few of them in front."""
    for stride in range(2, 65):
        if size[0] % stride == 0 and size[1] % stride == 0:
            before = count - (size[0] // stride) * (size[1] // stride)
            if 0 <= before <= _PREFIX_AT_MOST:
                return Lying(stride, channels, before)
    return None


def _is_plain(lying: Sequence[Lying | None]) -> bool:
    """Whether these are tokens of one grid from the first block to the last."""
    found = [how for how in lying if how is not None and how.stride >= FINEST]
    return len({how.stride for how in found}) == 1 and any(how.tokens_before is not None for how in found)


def _only_blocks(paths: list[str], lying: list[Lying | None]) -> list[Lying | None]:
    """Only what the elements of the longest list of modules give, not what is inside them."""
    lists: dict[str, int] = {}
    for path, how in zip(paths, lying, strict=True):
        if how is not None and how.tokens_before is not None:
            owner = path.rpartition(".")[0]
            lists[owner] = lists.get(owner, 0) + 1
    blocks = max(lists, key=lambda owner: lists[owner])
    return [how if path.rpartition(".")[0] == blocks else None for path, how in zip(paths, lying, strict=True)]


def _choose(lying: Sequence[Lying | None], model: nn.Module, first_enters: bool = False) -> dict[int, Lying]:
    """Which outputs to take: the last of each stride; of a plain transformer, the ends of its quarters."""
    usable = {i: how for i, how in enumerate(lying) if how is not None and how.stride >= FINEST}
    if not usable:
        raise _no_maps(model)
    if _is_plain(lying):
        blocks = [i for i, how in usable.items() if how.tokens_before is not None][first_enters:]
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
