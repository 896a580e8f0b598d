"""A fresh head on the model of a name."""

from __future__ import annotations

from functools import partial

from torch import nn

from lumora.models import libraries
from lumora.models.assembly.ready_models import of_module, on_features
from lumora.models.assembly.timm_models import of_timm
from lumora.models.assembly.transformers_models import of_transformers
from lumora.models.assembly.wish import Built, Wish, no_drop_path
from lumora.models.features import find_features
from lumora.models.heads import replace_layer
from lumora.models.names import build, parse


def of_name(name: str, wish: Wish) -> Built:
    """The model of a name, as wished."""
    library, rest = (parsed := parse(name)).library, parsed.rest
    if library == "transformers":
        return of_transformers(name, wish)
    if library == "timm":
        return of_timm(partial(libraries.timm_model, rest, meta=wish.meta), wish)
    if library == "lumora":
        return of_timm(partial(libraries.embedded_model, rest, meta=wish.meta), wish)
    model = build(name, meta=wish.meta)
    if library == "smp":
        return _of_smp(model, wish)
    if library == "torchvision":
        _drop_helper_heads(model)
    return of_module(model, wish)


def _drop_helper_heads(model: nn.Module) -> None:
    """Take out the second heads that only help training from nothing (GoogLeNet, Inception, DeepLab)."""
    for name in ("aux1", "aux2", "AuxLogits", "aux_classifier"):
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, None)
    if hasattr(model, "aux_logits"):
        model.aux_logits = False  # type: ignore[assignment]


def _of_smp(model: nn.Module, wish: Wish) -> Built:
    around = [
        name for name, child in model.named_children() if name != "encoder" and any(True for _ in child.parameters())
    ]
    if wish.task is None:
        return Built(model, output_layers=tuple(around))
    if not wish.segments or wish.head == "light":
        return on_features(find_features(model, wish.size), wish)
    replace_layer(model, "segmentation_head.0", wish.num_labels)
    return Built(model, tuple(around), no_drop_path(wish))
