"""A fresh head on a model of timm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import nn

from lumora.errors import LumoraError
from lumora.models.assembly.ready_models import on_features
from lumora.models.assembly.wish import Built, Wish, no_drop_path
from lumora.models.features import find_features
from lumora.models.readers import TimmReader


def of_timm(make: Callable[..., nn.Module], wish: Wish) -> Built:
    """The model that `make` builds, as wished."""
    options: dict[str, Any] = {}
    if wish.drop_path:
        options["drop_path_rate"] = wish.drop_path
    if wish.segments:
        options |= {"dynamic_img_size": True, "strict_img_size": False}  # what makes other sizes possible
    model, left_out = _with_those_known(make, options)
    notes = no_drop_path(wish) if "drop_path_rate" in left_out else ()
    if wish.task is None:
        return Built(model, output_layers=_timm_classifiers(model))
    if wish.segments:
        if wish.head == "own":
            raise LumoraError("timm's models have no segmentation head of their own; use head='light'.")
        return _timm_segmenter(model, wish, notes)
    cast(Any, model).reset_classifier(wish.num_labels)
    heads = _timm_classifiers(model)
    if not heads:
        return on_features(find_features(model, wish.size), wish, notes)
    return Built(model, heads, notes)


def _timm_segmenter(model: nn.Module, wish: Wish, notes: tuple[str, ...]) -> Built:
    features = find_features(model, wish.size)
    reader = cast(TimmReader, features.reader)
    # What comes after the last map would be adapted for nothing.
    cast(Any, model).prune_intermediate_layers(list(reader.indices), prune_norm=not reader.norm, prune_head=True)
    return on_features(features, wish, notes)


def _timm_classifiers(model: nn.Module) -> tuple[str, ...]:
    """The paths of what timm calls a model's classifier; distilled models have two."""
    found: Any = cast(Any, model).get_classifier()
    wanted = set(found) if isinstance(found, tuple | list | nn.ModuleList) else {found}
    return tuple(p for p, m in model.named_modules() if m in wanted and any(True for _ in m.parameters()))


def _with_those_known(make: Callable[..., nn.Module], options: dict[str, Any]) -> tuple[nn.Module, set[str]]:
    """A model built with as many of the options as its constructor takes, and the others."""
    left_out: set[str] = set()
    while True:
        try:
            return make(**{name: value for name, value in options.items() if name not in left_out}), left_out
        except TypeError as error:
            refused = next((name for name in options if name not in left_out and f"'{name}'" in str(error)), None)
            if refused is None:
                raise
            left_out.add(refused)
