"""A fresh head on a checkpoint of transformers: its library's own, or ours on what the backbone gives."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from lumora.errors import LumoraError
from lumora.models import checkpoints, libraries
from lumora.models.assembly.ready_models import on_features, output_layers, whole_heads
from lumora.models.assembly.timm_models import of_timm
from lumora.models.assembly.wish import Built, Wish, no_drop_path
from lumora.models.choosing import plain_indices
from lumora.models.features import find_features
from lumora.models.heads import find_output_layers, replace_layer

_LIGHT_OWN_HEADS = {"segformer", "mobilevit", "mobilevitv2", "mobilenet_v2"}
"""Architectures of transformers with a segmentation head of their own that is small."""

_MANY_STAGES = 6
"""A transformers backbone with more stages than this is a plain transformer: each block is a stage."""


def of_transformers(name: str, wish: Wish) -> Built:
    """The model of a checkpoint, as wished."""
    config = checkpoints.read_config(name)
    if checkpoints.is_timms(config):
        return of_timm(partial(libraries.timm_checkpoint, name, config, meta=wish.meta), wish)
    if wish.task is None:
        model = libraries.transformers_model(name, meta=wish.meta)
        return Built(model, output_layers=whole_heads(model, output_layers(model, wish)[0]))
    config = _plain(config)
    notes = _prepare(config, wish)
    if (cls := _class_with_head(config, wish)) is not None:
        return _with_own_head(cls, name, config, wish, notes)
    model = _backbone(name, config, wish)
    return on_features(find_features(model, wish.size), wish, notes)


def _with_own_head(cls: Any, name: str, config: Any, wish: Wish, notes: tuple[str, ...]) -> Built:
    """The model in a class of transformers; its head is fresh, unless it was trained for these very labels."""
    known_labels = [str(label).lower() for label in (config.id2label or {}).values()]
    _set_labels(config, wish)
    model, missing = _made(cls, name, config, wish)
    own = find_output_layers(model, wish.size)[0]
    heads = whole_heads(model, own)
    if not wish.labels or [label.lower() for label in wish.labels] != known_labels:
        for path in own:
            replace_layer(model, path, wish.num_labels)
    checkpoints.warn_of_missing(name, missing, heads)
    return Built(model, heads, notes)


def _made(cls: Any, name: str, config: Any, wish: Wish, **options: Any) -> tuple[nn.Module, set[str]]:
    """The model, and the names of what the checkpoint does not have; its structure alone where that is wished."""
    if not wish.meta:
        return checkpoints.load(cls, name, config, **options)
    with checkpoints.building(name):
        model: Any = libraries.on_meta(lambda: cls._from_config(config, **options))
    model.name_or_path = model.config.name_or_path = name
    return model, set()


def _plain(config: Any) -> Any:
    """The configuration; of a masked autoencoder, that of the plain transformer that it trained.

    The model of a masked autoencoder leaves out three quarters of every picture and shuffles the rest.
    """
    import transformers

    if config.model_type != "vit_mae":
        return config
    own = config.to_dict()
    return transformers.ViTConfig(**{name: own[name] for name in transformers.ViTConfig().to_dict() if name in own})


def _prepare(config: Any, wish: Wish) -> tuple[str, ...]:
    if not wish.drop_path:
        return ()
    if not hasattr(config, "drop_path_rate"):
        return no_drop_path(wish)
    config.drop_path_rate = wish.drop_path
    return ()


def _set_labels(config: Any, wish: Wish) -> None:
    config.num_labels = wish.num_labels  # most count their labels; some have a number of its own
    names = wish.labels or tuple(f"LABEL_{i}" for i in range(wish.num_labels))
    config.id2label = dict(enumerate(names))
    config.label2id = {name: i for i, name in enumerate(names)}
    if wish.task == "multilabel":
        config.problem_type = "multi_label_classification"
    elif wish.task == "classification":
        config.problem_type = "single_label_classification"


def _class_with_head(config: Any, wish: Wish) -> Any:
    """The class of transformers with the head that is wished, or None where ours is to be taken."""
    import transformers

    mapping: Any = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    if wish.segments:
        mapping = transformers.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING
    found: Any = mapping.get(type(config), None)
    classes = list(found) if isinstance(found, tuple | list) else [found] if found else []
    saved = [cls for cls in classes if cls.__name__ in (config.architectures or ())]
    if not wish.segments:
        return None if wish.head == "light" else next(iter(saved or classes), None)
    if wish.head == "own" and not classes:
        raise LumoraError(
            f"transformers has no segmentation head for {config.model_type!r} that gives a label for every place; use "
            "head='light'."
        )
    if wish.head == "own" or (wish.head == "auto" and (saved or config.model_type in _LIGHT_OWN_HEADS)):
        return (saved or classes or [None])[0]
    return None


def _backbone(name: str, config: Any, wish: Wish) -> nn.Module:
    """What gives features, without any head."""
    import transformers

    # A model for pictures and text: its tower for pictures alone.
    config = getattr(config, "vision_config", config)
    mapping: Any = transformers.MODEL_FOR_BACKBONE_MAPPING
    if type(config) in mapping:
        _choose_stages(config)
        return _made(mapping[type(config)], name, config, wish)[0]
    if (backbone_config := getattr(config, "backbone_config", None)) is not None:
        raise LumoraError(
            f"A {config.model_type} is a head around a {backbone_config.model_type}; name a checkpoint of that "
            "instead, or one that was trained for semantic segmentation."
        )
    cls = transformers.MODEL_MAPPING[type(config)]
    options = {"add_pooling_layer": False} if "add_pooling_layer" in cls.__init__.__code__.co_varnames else {}
    model, missing = _made(cls, name, config, wish, **options)
    checkpoints.warn_of_missing(name, missing)
    return model


def _choose_stages(config: Any) -> None:
    """Let a backbone of transformers give all its maps, or those at the ends of a plain transformer's quarters."""
    first = int(config.stage_names[0] == "stem")
    stages = len(config.stage_names) - first
    chosen = plain_indices(stages) if stages > _MANY_STAGES else range(stages)
    config.out_indices = [i + first for i in chosen]
