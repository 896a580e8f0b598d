"""What a configuration means on a Keras model: which layers get adapters, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from lumora.integrations.keras.adapter import adapter_in
from lumora.integrations.keras.kinds import LINEAR, Kind, kind_of, why_not
from lumora.integrations.keras.layers import blocks_of, head_paths, is_batch_norm, is_made_up, layers_of
from lumora.integrations.keras.library import Layer, Model
from lumora.lora.config import LoraConfig
from lumora.lora.matching import (
    BlockOf,
    Found,
    check_clash,
    check_found,
    endings,
    kept_paths,
    note_unused_patterns,
    saved_paths,
)
from lumora.lora.names import ends_with, exactly, is_inside_any, pattern_value

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
    choice.saved = {path: layers[path] for path in saved}
    free = {path: layer for path, layer in layers.items() if not is_inside_any(path, saved)}
    adaptable = [path for path, layer in free.items() if kind_of(layer) is not None]
    wanted = _wanted(model, free, config, adaptable, choice)
    if wanted is None:
        return choice
    check_clash(wanted, config, choice)
    block_of = blocks_of(adaptable)
    meant, kept = kept_paths(config, wanted, free, block_of)
    choice.problems += _unknown_blocks(config, meant, block_of)
    check_found(meant, kept, wanted, config, choice, paths=layers, adaptable=adaptable)
    for path in kept:
        _add_target(path, free[path], config, choice)
    note_unused_patterns(config, kept, choice)
    return choice


def mistaken_names(model: Model, config: LoraConfig) -> list[str]:
    """Problems of names that Keras made up: in a configuration they would mean other layers than their owner thinks."""
    problems: list[str] = []
    layers = layers_of(model)
    made_up = [path for path, layer in layers.items() if is_made_up(layer)]
    for entry in _entries(config):
        found = [path for path in made_up if layers[path].name == entry and not ends_with(path, entry)]
        if found:
            problems.append(
                f"{entry!r}: Keras calls so what has the path {found[0]!r} here, for it counts all that was built "
                f"before; use {found[0]!r}, or give the layers names of your own. Another layer with the path "
                f"{entry!r} is meant by a regular expression"
            )
    return problems


def frozen_biases(model: Model, choice: Choice) -> list[str]:
    """Problems of biases to be trained in frozen batch norms: Keras keeps statistics where nothing is trained."""
    if choice.config.bias != "all" or choice.config.batch_norm != "frozen":
        return []
    norms = [path for path, layer in layers_of(model).items() if is_batch_norm(layer)]
    norms = [path for path in norms if not is_inside_any(path, choice.saved)]
    if not norms:
        return []
    return [
        f"bias='all' would train the beta of batch norms such as {norms[0]!r}, whose statistics Keras keeps only where "
        "nothing is trained; use bias='lora_only', or batch_norm='saved'"
    ]


def _entries(config: LoraConfig) -> list[str]:
    """Every name in a configuration; regular expressions are none."""
    lists = (config.target_modules, config.exclude_modules, config.modules_to_save)
    return sorted({entry for names in lists if names and not isinstance(names, str) for entry in names})


def _unknown_blocks(config: LoraConfig, paths: Iterable[str], block_of: BlockOf) -> list[str]:
    wanted = config.layers_to_transform
    if wanted is None:
        return []
    known = {number for path in paths if (number := block_of(path, config.layers_pattern)) is not None}
    unknown = [number for number in ([wanted] if isinstance(wanted, int) else wanted) if number not in known]
    if not unknown or not known:
        return []
    return [f"layers_to_transform: there is no block {unknown[0]}; counted from 0, there are {sorted(known)}"]


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
