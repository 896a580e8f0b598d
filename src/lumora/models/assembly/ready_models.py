"""A fresh head on any module at all: in the place of its own output layers, or on its feature maps."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from lumora.errors import LumoraError
from lumora.lora.layers import kind_of
from lumora.models.assembly.wish import Built, Wish, no_drop_path
from lumora.models.features import Features, find_features, takes_other_sizes
from lumora.models.heads import BackboneClassifier, BackboneSegmenter, find_output_layers, put, replace_layer


def of_module(model: nn.Module, wish: Wish) -> Built:
    """A ready model, as wished: its own output layers replaced, or a head of ours on its feature maps."""
    notes = no_drop_path(wish)
    if wish.heads is not None:
        for path in wish.heads:
            _check_path(model, path)
        return Built(model, wish.heads, notes)
    own, dimensions, outputs = output_layers(model, wish)
    if wish.task is None:
        return Built(model, output_layers=whole_heads(model, own))
    fits = dimensions == (4 if wish.segments else 2)
    if own and fits and wish.head != "light":
        if outputs != wish.num_labels:
            for path in own:
                replace_layer(model, path, wish.num_labels)
        return Built(model, whole_heads(model, own), notes)
    if wish.segments and wish.head == "own":
        raise LumoraError(f"{type(model).__name__} has no segmentation head of its own; use head='light'.")
    if own and dimensions == 2:
        for path in own:
            put(model, path, nn.Identity())
    return on_features(find_features(model, wish.size), wish, notes)


def output_layers(model: nn.Module, wish: Wish) -> tuple[list[str], int, int]:
    """The paths of a model's own output layers, and the dimensions and the number of its logits."""
    try:
        paths, shape = find_output_layers(model, wish.size)
    except LumoraError:
        return [], 0, 0
    except Exception as error:
        if wish.task is None:
            return [], 0, 0
        height, width = wish.size
        raise LumoraError(
            f"{type(model).__name__} could not be run on a picture of {height} × {width} to see what it gives "
            f"({type(error).__name__}: {error}). Give preprocessing=Preprocessing(resize=...) for another size, or "
            "heads=['path.of.head'] to leave it as it is."
        ) from error
    return paths, len(shape), shape[1] if len(shape) > 1 else 0


def whole_heads(model: nn.Module, own: Iterable[str]) -> tuple[str, ...]:
    """What is trained fully: in a model of transformers all that is no backbone, else the output layers."""
    around = _outside_backbone(model)
    return tuple(around) if around else tuple(own)


def on_features(features: Features, wish: Wish, notes: tuple[str, ...] = ()) -> Built:
    """A head of ours on feature maps."""
    module: BackboneSegmenter | BackboneClassifier
    if not wish.segments:
        module = BackboneClassifier(features, wish.num_labels)
    elif takes_other_sizes(features, wish.size):
        module = BackboneSegmenter(features, wish.num_labels, wish.width)
    else:
        height, width = wish.size
        notes = (*notes, f"This backbone takes pictures of {height} × {width} alone; all others are stretched to that.")
        module = BackboneSegmenter(features, wish.num_labels, wish.width, wish.size)
    like = next((p for p in features.backbone.parameters() if p.is_floating_point()), None)
    if like is not None:
        module.light_head.to(device=like.device)
    return Built(module, ("light_head",), notes)


def _outside_backbone(model: nn.Module) -> list[str]:
    """The children of a transformers model that are not its backbone and hold layers; a last norm alone is no head."""
    prefix = getattr(model, "base_model_prefix", None)
    if prefix is None:
        return []
    backbones = {prefix, "backbone", "vision_model"} & {name for name, _ in model.named_children()}
    if not backbones:
        return []
    children = model.named_children()
    return [name for name, child in children if name not in backbones and any(map(kind_of, child.modules()))]


def _check_path(model: nn.Module, path: str) -> None:
    try:
        model.get_submodule(path)
    except AttributeError as error:
        raise LumoraError(f"heads: {type(model).__name__} has no module {path!r} ({error}).") from error
