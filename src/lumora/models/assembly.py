"""Putting a pretrained model and a fresh head together, for each library."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast

from torch import nn

from lumora.errors import LumoraError, LumoraWarning
from lumora.lora.layers import kind_of
from lumora.lora.names import is_inside
from lumora.models import libraries, places
from lumora.models.features import Features, TimmReader, find_features, plain_indices
from lumora.models.heads import (
    BackboneClassifier,
    BackboneSegmenter,
    OnBackbone,
    find_output_layers,
    replace_layer,
)
from lumora.models.names import build, parse

__all__ = ["Built", "HeadChoice", "OnBackbone", "TaskName", "Wish", "of_module", "of_name"]

TaskName = Literal["classification", "multilabel", "segmentation"]
HeadChoice = Literal["auto", "own", "light"]

_LIGHT_OWN_HEADS = {"segformer", "mobilevit", "mobilevitv2", "mobilenet_v2"}
"""Architectures of transformers with a segmentation head of their own that is small."""

_MANY_STAGES = 6
"""A transformers backbone with more stages than this is a plain transformer: each block is a stage."""


@dataclass(frozen=True)
class Wish:
    """What is asked of a base."""

    task: TaskName | None
    num_labels: int
    labels: tuple[str, ...] | None
    head: HeadChoice
    heads: tuple[str, ...] | None
    width: int
    drop_path: float
    size: tuple[int, int]
    meta: bool

    @property
    def segments(self) -> bool:
        """Whether places get labels, not pictures."""
        return self.task == "segmentation"


@dataclass(frozen=True)
class Built:
    """A model with its head."""

    module: nn.Module
    heads: tuple[str, ...] = ()
    """The paths of what is fresh, or trained fully."""
    notes: tuple[str, ...] = ()
    output_layers: tuple[str, ...] = ()
    """Without a task: the paths of what would be replaced for one."""


def of_name(name: str, wish: Wish) -> Built:
    """The model of a name, as wished."""
    library, rest = (parsed := parse(name)).library, parsed.rest
    if library == "transformers":
        return _of_transformers(name, wish)
    if library == "timm":
        return _of_timm(partial(libraries.timm_model, rest, meta=wish.meta), wish)
    if library == "lumora":
        return _of_timm(partial(libraries.embedded_model, rest, meta=wish.meta), wish)
    model = build(name, meta=wish.meta)
    if library == "smp":
        return _of_smp(model, wish)
    if library == "torchvision":
        _drop_helper_heads(model)
    return of_module(model, wish)


def of_module(model: nn.Module, wish: Wish) -> Built:
    """A ready model, as wished: its own output layers replaced, or a head of ours on its feature maps."""
    notes = _no_drop_path(wish)
    if wish.heads is not None:
        for path in wish.heads:
            _check_path(model, path)
        return Built(model, wish.heads, notes)
    own, dimensions, outputs = _output_layers(model, wish)
    if wish.task is None:
        return Built(model, output_layers=_whole_heads(model, own))
    fits = dimensions == (4 if wish.segments else 2)
    if own and fits and wish.head != "light":
        if outputs != wish.num_labels:
            for path in own:
                replace_layer(model, path, wish.num_labels)
        return Built(model, _whole_heads(model, own), notes)
    if wish.segments and wish.head == "own":
        raise LumoraError(f"{type(model).__name__} has no segmentation head of its own; use head='light'.")
    if own and dimensions == 2:
        for path in own:
            _replace(model, path, nn.Identity())
    built = _on_features(find_features(model, wish.size), wish)
    return Built(built.module, built.heads, notes)


def _output_layers(model: nn.Module, wish: Wish) -> tuple[list[str], int, int]:
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


def _whole_heads(model: nn.Module, own: Iterable[str]) -> tuple[str, ...]:
    """What is trained fully: in a model of transformers all that is no backbone, else the output layers."""
    around = _outside_backbone(model)
    return tuple(around) if around else tuple(own)


def _on_features(features: Features, wish: Wish) -> Built:
    """A head of ours on feature maps."""
    module: nn.Module
    if wish.segments:
        module = BackboneSegmenter(features, wish.num_labels, wish.width)
    else:
        module = BackboneClassifier(features, wish.num_labels)
    like = next((p for p in features.backbone.parameters() if p.is_floating_point()), None)
    if like is not None:
        module.light_head.to(device=like.device)
    return Built(module, ("light_head",))


# --- timm -------------------------------------------------------------------------------------------------------------


def _of_timm(make: Callable[..., nn.Module], wish: Wish) -> Built:
    options: dict[str, Any] = {}
    if wish.drop_path:
        options["drop_path_rate"] = wish.drop_path
    if wish.segments:
        options["dynamic_img_size"] = True
    model, left_out = _with_those_known(make, options)
    notes = _no_drop_path(wish) if "drop_path_rate" in left_out else ()
    if wish.task is None:
        return Built(model, output_layers=_timm_classifiers(model))
    if wish.segments:
        if wish.head == "own":
            raise LumoraError("timm's models have no segmentation head of their own; use head='light'.")
        return _timm_segmenter(model, wish, notes)
    cast(Any, model).reset_classifier(wish.num_labels)
    heads = _timm_classifiers(model)
    if not heads:
        built = _on_features(find_features(model, wish.size), wish)
        return Built(built.module, built.heads, notes)
    return Built(model, heads, notes)


def _timm_segmenter(model: nn.Module, wish: Wish, notes: tuple[str, ...]) -> Built:
    features = find_features(model, wish.size)
    reader = cast(TimmReader, features.reader)
    # What comes after the last map would be adapted for nothing.
    cast(Any, model).prune_intermediate_layers(list(reader.indices), prune_norm=not reader.norm, prune_head=True)
    built = _on_features(features, wish)
    return Built(built.module, built.heads, notes)


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


# --- torchvision and smp ----------------------------------------------------------------------------------------------


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
        return _on_features(find_features(model, wish.size), wish)
    replace_layer(model, "segmentation_head.0", wish.num_labels)
    return Built(model, tuple(around), _no_drop_path(wish))


# --- transformers -----------------------------------------------------------------------------------------------------


def _of_transformers(name: str, wish: Wish) -> Built:
    import transformers

    folder = places.find(name, places.MODEL_CONFIG).parent if wish.meta else places.checkpoint(name)
    try:
        config: Any = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        notes = _prepare(config, wish)
        if wish.task is None:
            model = build(name, meta=wish.meta)
            return Built(model, output_layers=_whole_heads(model, _output_layers(model, wish)[0]))
        cls = _class_with_head(config, wish)
        if cls is None:
            model = _load_backbone(folder, config, wish)
            built = _on_features(find_features(model, wish.size), wish)
            return Built(built.module, built.heads, notes)
        known_labels = [str(label).lower() for label in (config.id2label or {}).values()]
        _set_labels(config, wish)
        model, missing = _load(cls, folder, config, wish)
    except (ValueError, OSError, ImportError) as error:
        if isinstance(error, LumoraError):
            raise
        raise LumoraError(
            f"{name!r} is no model that transformers {transformers.__version__} can build: {error}"
        ) from error
    own = find_output_layers(model, wish.size)[0]
    heads = _whole_heads(model, own)
    if not wish.labels or [label.lower() for label in wish.labels] != known_labels:
        for path in own:
            replace_layer(model, path, wish.num_labels)
    _check_missing(name, missing, heads)
    cast(Any, model).name_or_path = model.config.name_or_path = name  # type: ignore[union-attr]
    return Built(model, heads, notes)


def _prepare(config: Any, wish: Wish) -> tuple[str, ...]:
    if not wish.drop_path:
        return ()
    if not hasattr(config, "drop_path_rate"):
        return _no_drop_path(wish)
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


def _load_backbone(folder: Any, config: Any, wish: Wish) -> nn.Module:
    """What gives features, without any head."""
    import transformers

    # A model for pictures and text: its tower for pictures alone.
    config = getattr(config, "vision_config", config)
    mapping: Any = transformers.MODEL_FOR_BACKBONE_MAPPING
    if type(config) in mapping:
        first = int(config.stage_names[0] == "stem")
        stages = len(config.stage_names) - first
        chosen = plain_indices(stages) if stages > _MANY_STAGES else range(stages)
        config.out_indices = [i + first for i in chosen]
        cls: Any = mapping[type(config)]
        return _load(cls, folder, config, wish)[0]
    if (backbone_config := getattr(config, "backbone_config", None)) is not None:
        raise LumoraError(
            f"A {config.model_type} is a head around a {backbone_config.model_type}; name a checkpoint of that "
            "instead, or one that was trained for semantic segmentation."
        )
    cls = transformers.MODEL_MAPPING[type(config)]
    options = {"add_pooling_layer": False} if "add_pooling_layer" in cls.__init__.__code__.co_varnames else {}
    model, missing = _load(cls, folder, config, wish, **options)
    _check_missing(str(folder), missing, ())
    return model


def _load(cls: Any, folder: Any, config: Any, wish: Wish, **options: Any) -> tuple[nn.Module, set[str]]:
    """The model, and the names of what the checkpoint does not have, or has in another shape."""
    with _quiet():
        if wish.meta:
            return libraries.on_meta(lambda: cls._from_config(config, **options)), set()
        model, report = cls.from_pretrained(
            folder,
            config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            trust_remote_code=False,
            **options,
        )
    mismatched = {item[0] if isinstance(item, tuple | list) else item for item in report["mismatched_keys"]}
    return model, set(report["missing_keys"]) | mismatched


def _check_missing(name: str, missing: set[str], heads: tuple[str, ...]) -> None:
    """Warn of weights outside the head that the checkpoint does not have."""
    absent = sorted(key for key in missing if not any(is_inside(key, head) for head in heads))
    if absent:
        shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        warnings.warn(
            f"{name!r} has no weights, or some of another shape, for {shown}; they start at random.",
            LumoraWarning,
            stacklevel=2,
        )


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


@contextmanager
def _quiet() -> Generator[None]:
    """Without transformers' report that the head is new: it is meant to be."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


# --- small things -----------------------------------------------------------------------------------------------------


def _no_drop_path(wish: Wish) -> tuple[str, ...]:
    return (f"drop_path={wish.drop_path} has no effect: this model cannot be told to.",) if wish.drop_path else ()


def _check_path(model: nn.Module, path: str) -> None:
    try:
        model.get_submodule(path)
    except AttributeError as error:
        raise LumoraError(f"heads: {type(model).__name__} has no module {path!r} ({error}).") from error


def _replace(model: nn.Module, path: str, fresh: nn.Module) -> None:
    owner, _, name = path.rpartition(".")
    setattr(model.get_submodule(owner), name, fresh)
