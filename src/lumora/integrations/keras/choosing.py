"""What a configuration means on a Keras model: which layers get adapters, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from lumora.integrations.keras.adapter import adapter_in
from lumora.integrations.keras.kinds import LINEAR, Kind, kind_of, why_not
from lumora.integrations.keras.layers import block_of, head_paths, is_batch_norm, layers_of
from lumora.integrations.keras.library import Layer, Model
from lumora.lora.config import LoraConfig
from lumora.lora.matching import (
    Found,
    check_clash,
    check_found,
    endings,
    kept_paths,
    note_unused_patterns,
    saved_paths,
)
from lumora.lora.names import exactly, is_inside, pattern_value

_USUAL = {"ViTBackbone": {"query", "value"}, "MiTBackbone": {"q", "v"}}
"""What is usually adapted, by the class of the model or of a layer in it."""
_HEAD_TASKS = ("SEQ_CLS", "TOKEN_CLS")


@dataclass(frozen=True)
class Target:
    """A layer that gets an adapter, with its rank and scale."""

    path: str
    layer: Layer
    kind: Kind
    r: int
    scaling: float


@dataclass(kw_only=True)
class Choice(Found):
    """The targets, the layers trained whole, and everything that is wrong."""

    config: LoraConfig
    """The configuration, with defaults and "all-linear" spelled out."""
    targets: list[Target] = field(default_factory=list[Target])
    saved: dict[str, Layer] = field(default_factory=dict[str, Layer])


def choose(model: Model, config: LoraConfig) -> Choice:
    """Find every target and every problem, without touching the model."""
    layers = layers_of(model)
    choice = Choice(config=config)
    choice.problems += [*_refused_options(config), *_refused_model(model, layers)]
    saved = saved_paths(config, layers, choice)
    choice.problems += _refused_biases(config, layers, saved)
    choice.saved = {path: layers[path] for path in saved}
    free = {path: layer for path, layer in layers.items() if not any(is_inside(path, one) for one in saved)}
    adaptable = [path for path, layer in free.items() if kind_of(layer) is not None]
    wanted = _wanted(model, free, config, adaptable, choice)
    if wanted is None:
        return choice
    check_clash(wanted, config, choice)
    meant, kept = kept_paths(config, wanted, free, block_of)
    check_found(meant, kept, wanted, config, choice, paths=layers, adaptable=adaptable)
    for path in kept:
        _add_target(path, free[path], config, choice)
    note_unused_patterns(config, kept, choice)
    return choice


def _refused_options(config: LoraConfig) -> list[str]:
    """What a configuration asks for that is done in torch alone."""
    problems: list[str] = []
    if config.use_dora:
        problems.append("use_dora=True: there is no DoRA in Keras models yet; leave it out")
    if config.lora_bias:
        problems.append("lora_bias=True: adapters in Keras models have no bias; leave it out")
    if config.eva_config is not None or config.init_lora_weights not in (True, False, "gaussian"):
        problems.append(
            f"init_lora_weights={config.init_lora_weights!r}: adapters in Keras models start with True, False or "
            "'gaussian'"
        )
    if config.task_type in _HEAD_TASKS:
        problems.append(f"task_type={str(config.task_type)!r}: name the head in modules_to_save instead")
    return problems


def _refused_model(model: Model, layers: dict[str, Layer]) -> list[str]:
    if not model.built:
        return [f"{model.name} has no weights yet; run it once, or call build(), so that layers know their sizes"]
    if any(adapter_in(layer) is not None for layer in layers.values()):
        return ["the model has adapters already; merge_lora(model) or remove_lora(model) first"]
    return []


def _refused_biases(config: LoraConfig, layers: dict[str, Layer], saved: Collection[str]) -> list[str]:
    """Keras keeps the statistics of a batch norm only where nothing in it is trained."""
    if config.bias != "all" or config.batch_norm != "frozen":
        return []
    norms = [p for p, one in layers.items() if is_batch_norm(one) and not any(is_inside(p, s) for s in saved)]
    if not norms:
        return []
    return [
        f"bias='all' would train the beta of batch norms such as {norms[0]!r}, whose statistics Keras keeps only where "
        "nothing is trained; use bias='lora_only', or batch_norm='saved'"
    ]


def _wanted(
    model: Model, free: dict[str, Layer], config: LoraConfig, adaptable: Collection[str], choice: Choice
) -> set[str] | str | None:
    """`target_modules` with defaults and "all-linear" spelled out."""
    wanted = config.target_modules
    if wanted is None:
        classes = {type(layer).__name__ for layer in (model, *free.values())}
        usual = next((names for name, names in _USUAL.items() if name in classes), None)
        if usual is None:
            choice.problems.append(
                f"target_modules is not given and {type(model).__name__} is no architecture with known defaults; name "
                f"the layers, or use 'all-linear'. Endings in this model: {endings(adaptable)}"
            )
        return usual
    if isinstance(wanted, str) and wanted.lower() == "all-linear":
        heads = head_paths(model, free)
        linear = [path for path in adaptable if isinstance(kind_of(free[path]), LINEAR) and path not in heads]
        return exactly(linear, free)
    return wanted if isinstance(wanted, str) else set(wanted)


def _add_target(path: str, layer: Layer, config: LoraConfig, choice: Choice) -> None:
    kind = kind_of(layer)
    reason = why_not(layer) if kind is None else _unsuitable(layer, kind)
    if reason is not None or kind is None:
        choice.problems.append(f"{path}: {reason}")
        return
    r = pattern_value(path, config.rank_pattern, config.r)
    alpha = pattern_value(path, config.alpha_pattern, config.lora_alpha)
    choice.targets.append(Target(path, layer, kind, r, alpha / (r**0.5 if config.use_rslora else r)))


def _unsuitable(layer: Layer, kind: Kind) -> str | None:
    if not layer.built:
        return "it has no weights yet; run the model once first"
    if getattr(layer, "quantization_mode", None):
        return f"it is quantized ({layer.quantization_mode}); adapt the model before that"
    if getattr(layer, "lora_enabled", False) or getattr(layer, "dora_enabled", False):
        return "Keras's own enable_lora was called on it; build the model again without"
    return kind.unsuitable(layer)
