"""Which modules a configuration means, and what is wrong with its choice."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from torch import nn
from torch.nn.parameter import UninitializedParameter

from lumora.lora import architectures, renamed
from lumora.lora.config import LoraConfig
from lumora.lora.layers import Embedding, LentLinear, Linear, LoraLayer, MultiheadAttention, is_lent, kind_of, why_not
from lumora.lora.matching import (
    Found,
    check_clash,
    check_found,
    endings,
    kept_paths,
    note_unused_patterns,
    saved_paths,
)
from lumora.lora.names import ends_with, exactly, is_inside, is_inside_any, matches, pattern_value
from lumora.lora.saved import AuxiliaryTrainingWrapper

ALL_LINEAR = "all-linear"
_LINEAR_KINDS = (Linear, MultiheadAttention)


@dataclass(frozen=True)
class Target:
    """A module that gets an adapter: where it is, what it is, and with which rank and alpha."""

    path: str
    module: nn.Module
    kind: type[LoraLayer]
    r: int
    alpha: float
    inner: bool = False
    """Adapted because it belongs to a target around it."""


@dataclass(kw_only=True)
class Choice(Found):
    """What a configuration means on a model: the targets, the modules saved whole, and everything that is wrong."""

    config: LoraConfig
    """The configuration, with the names that layers have today."""
    targets: list[Target] = field(default_factory=list[Target])
    saved: list[str] = field(default_factory=list[str])
    resolved: set[str] | str = ""
    """`target_modules` with defaults and "all-linear" spelled out, as it is written to the file."""


def default_targets(model: nn.Module) -> list[str] | str | None:
    """What is usually adapted in a model of this architecture, or None for an unknown one."""
    return architectures.usual_targets(model, base_modules(model))


def choose(model: nn.Module, config: LoraConfig, *, saved: Collection[str] = (), strict: bool = True) -> Choice:
    """Find every target of a configuration, and every problem, without touching the model.

    Args:
        model: the base, adapted already or not.
        config: what is asked for.
        saved: names added to `modules_to_save` that need not exist.
        strict: treat entries that match nothing as problems, not notes; for a new adapter, not one read from a file.
    """
    modules = dict(base_modules(model))
    config, notes = renamed.with_current_names(config, modules)
    choice = Choice(config=config, notes=notes)
    choice.saved = _saved(modules, config, saved, choice, strict)
    taken = [path for path, module in modules.items() if isinstance(module, AuxiliaryTrainingWrapper)]
    free = {p: m for p, m in modules.items() if not is_inside_any(p, (*choice.saved, *taken))}
    wanted = _wanted(model, free, config, choice)
    if wanted is None:
        return choice
    choice.resolved = wanted
    check_clash(wanted, config, choice)
    if config.target_modules == wanted:
        _check_taken(wanted, [p for p in modules if is_inside_any(p, taken)], choice)
    meant, kept = kept_paths(config, wanted, free)
    if config.target_modules is None and config.layers_to_transform is not None and kept:
        choice.resolved = set(kept)
    adaptable = _adaptable_paths(modules)
    check_found(meant, kept, wanted, config, choice, paths=modules, adaptable=adaptable, strict=strict)
    _check_second_names(model, modules, wanted, choice)
    for path in kept:
        _add_target(path, free, config, choice, strict)
    note_unused_patterns(config, {*kept, *(target.path for target in choice.targets)}, choice)
    return choice


def base_modules(model: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """The model's modules under the paths that they have without adapters; adapted layers as they are now."""
    seen: set[nn.Module] = set()

    def walk(module: nn.Module, path: str) -> Iterable[tuple[str, nn.Module]]:
        if module in seen:
            return
        seen.add(module)
        if path:
            yield path, module
        inside = module
        if isinstance(module, LoraLayer):
            inside = module.base_layer
        elif isinstance(module, AuxiliaryTrainingWrapper):
            inside = module.original_module
        for name, child in inside.named_children():
            yield from walk(child, f"{path}.{name}" if path else name)

    return walk(model, "")


def _saved(
    modules: dict[str, nn.Module], config: LoraConfig, extra: Collection[str], choice: Choice, strict: bool
) -> list[str]:
    paths = saved_paths(config, modules, choice, extra=extra, strict=strict)
    for path in paths:
        for inner, module in modules.items():
            adapted = isinstance(module, LoraLayer) and module.adapters
            if is_inside(inner, path) and (adapted or (inner != path and isinstance(module, AuxiliaryTrainingWrapper))):
                choice.problems.append(
                    f"modules_to_save: {path!r} is, or holds, {inner!r}, which is adapted or saved whole by another "
                    "adapter; delete that first"
                )
    return paths


def _wanted(model: nn.Module, free: dict[str, nn.Module], config: LoraConfig, choice: Choice) -> set[str] | str | None:
    """`target_modules` with defaults, "all-linear" and renamed layers resolved."""
    wanted = config.target_modules
    if wanted is None:
        defaults = default_targets(model)
        if defaults is None:
            choice.problems.append(
                f"target_modules is not given and {type(model).__name__} is no architecture with known defaults; name "
                f"the modules, or use 'all-linear'. Endings in this model: {endings(_adaptable_paths(free))}"
            )
            return None
        return _adaptable(defaults, free)
    if isinstance(wanted, str):
        return _all_linear(model, free) if wanted.lower() == ALL_LINEAR else wanted
    return set(wanted)


def _adaptable(defaults: list[str] | str, free: dict[str, nn.Module]) -> set[str] | str:
    """Defaults as they stand, or, where some of what they match cannot be adapted well, the paths of the rest.

    An adapter of a grouped convolution is as large as the layer or larger, and cannot be merged.
    """
    found = [path for path in free if matches(path, defaults)]
    fitting = [path for path in found if _kind(free[path]) is not None and getattr(free[path], "groups", 1) == 1]
    if fitting and fitting != found:
        return exactly(fitting, free)
    if isinstance(defaults, str):
        return defaults
    return {entry for entry in defaults if any(ends_with(path, entry) for path in found)} or set(defaults)


def _all_linear(model: nn.Module, free: dict[str, nn.Module]) -> set[str] | str:
    """Every linear layer but the output head."""
    get_output = getattr(model, "get_output_embeddings", None)
    head = get_output() if callable(get_output) else None
    heads = [path for path, module in free.items() if module is head]
    if getattr(model, "config", None) is not None and hasattr(model, "num_labels"):
        heads += ["classifier", "score", "head"]
    paths = [
        path
        for path, module in free.items()
        if (kind := _kind(module)) is not None
        and issubclass(kind, _LINEAR_KINDS)
        and not is_inside_any(path, heads)
        and _attention_around(path, free) is None
    ]
    return exactly(paths, free)


def _check_taken(wanted: set[str] | str, taken: list[str], choice: Choice) -> None:
    for path in taken:
        if matches(path, wanted):
            choice.problems.append(
                f"{path}: another adapter has it saved whole (modules_to_save); exclude it, or delete that adapter"
            )


def _check_second_names(
    model: nn.Module, modules: dict[str, nn.Module], wanted: set[str] | str, choice: Choice
) -> None:
    """Point out entries that match a shared module by a name that is not its first."""
    if isinstance(wanted, str):
        return
    first = {module: path for path, module in modules.items()}
    for path, module in model.named_modules(remove_duplicate=False):
        second = path not in modules and module in first and not matches(first[module], wanted)
        if second and matches(path, wanted):
            choice.problems.append(
                f"target_modules: {path!r} is the module {first[module]!r} under a second name; use the first"
            )


def _add_target(
    path: str, free: dict[str, nn.Module], config: LoraConfig, choice: Choice, strict: bool, outer: Target | None = None
) -> None:
    module = free[path]
    kind = _kind(module)
    owner, _, name = path.rpartition(".")
    if kind is Linear and is_lent(free.get(owner), name):
        kind = LentLinear
        _check_lent(path, config, choice)
    around = _attention_around(path, free)
    if around is not None and outer is None:
        message = (
            f"{path}: nn.MultiheadAttention reads the weight of its out_proj without calling it, so an adapter there "
            f"would do nothing; target {around!r} and both projections are adapted"
        )
        if around not in [t.path for t in choice.targets]:
            (choice.problems if strict else choice.notes).append(message)
        return
    base = module.base_layer if isinstance(module, LoraLayer) else module
    # What is adapted along with a target has its rank and alpha.
    r = pattern_value(path, config.rank_pattern, outer.r if outer else config.r)
    reason = why_not(module) if kind is None else _unsuitable(base, kind, r)
    if kind is Embedding and config.lora_bias:
        reason = "the adapter of an embedding has no bias; set lora_bias=False"
    if reason is not None or kind is None:
        choice.problems.append(f"{path}: {reason}")
        return
    alpha = pattern_value(path, config.alpha_pattern, outer.alpha if outer else config.lora_alpha)
    target = Target(path, module, kind, r, alpha, inner=outer is not None)
    choice.targets.append(target)
    for name in kind.inner(base):
        _add_target(f"{path}.{name}", free, config, choice, strict, outer=target)


def _check_lent(path: str, config: LoraConfig, choice: Choice) -> None:
    """What an adapter cannot do where the module around it reads the weight instead of calling the layer."""
    if config.lora_bias:
        choice.problems.append(f"{path}: its weight is read by the module around it, which would miss lora_bias")
    if config.lora_dropout and not any("lora_dropout has no effect" in note for note in choice.notes):
        choice.notes.append(
            f"lora_dropout has no effect on layers such as {path!r}, whose weight is read by the module around them"
        )


def _unsuitable(base: nn.Module, kind: type[LoraLayer], r: int) -> str | None:
    if hasattr(base, "parametrizations"):
        return "its weight is computed by a parametrization; remove that first (torch.nn.utils.parametrize)"
    if any(isinstance(p, UninitializedParameter) for p in base.parameters()):
        return "it is a lazy module without a size yet; run the model once first"
    if "weight" not in base._parameters and not isinstance(base, nn.MultiheadAttention):
        return "its weight is no plain parameter (weight_norm or spectral_norm?); remove that first"
    return kind.unsuitable(base) or kind.rank_problem(base, r)


def _kind(module: nn.Module) -> type[LoraLayer] | None:
    return type(module) if isinstance(module, LoraLayer) else kind_of(module)


def _attention_around(path: str, modules: dict[str, nn.Module]) -> str | None:
    """The path of the `nn.MultiheadAttention` whose output projection a path names, or None."""
    parent, _, name = path.rpartition(".")
    around = modules.get(parent)
    is_attention = isinstance(around, nn.MultiheadAttention | MultiheadAttention)
    return parent if name == "out_proj" and is_attention else None


def _adaptable_paths(modules: dict[str, nn.Module]) -> Iterable[str]:
    return (path for path, module in modules.items() if _kind(module) is not None)
