"""Put an adapter into a model: find everything, check everything, then change the model; and take it out again."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import nn

from lumora.errors import ConfigError, LumoraWarning, NoMatchingPeftModuleError, TargetError
from lumora.lora.adapter import Adapter, Parts
from lumora.lora.config import LoraConfig, TaskType
from lumora.lora.initial import new_parts
from lumora.lora.layers import Conv1D, LoraLayer, MultiheadAttention, kind_of
from lumora.lora.routing import BASE
from lumora.lora.saved import ModulesToSaveWrapper
from lumora.lora.targets import Choice, base_modules, choose

Wrapper = LoraLayer | ModulesToSaveWrapper
WRAPPERS = (LoraLayer, ModulesToSaveWrapper)


@dataclass
class Plan:
    """Everything that adding an adapter will do; making one changes nothing."""

    name: str
    config: LoraConfig
    choice: Choice
    parts: list[tuple[nn.Module, LoraLayer, Parts]]
    """The module now in the model, the layer to stand in its place, and the new adapter."""


def plan(
    model: nn.Module,
    config: LoraConfig,
    name: str,
    *,
    full_precision: bool = True,
    on_meta: bool = False,
    strict: bool = True,
    replacing: bool = False,
) -> Plan:
    """Find and build everything an adapter needs. Raises one error that lists every problem."""
    heads = ("classifier", "score") if config.task_type in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS) else ()
    choice = choose(model, config, saved=heads, strict=strict)
    config = choice.config
    problems = [*_name_problems(model, name, replacing), *choice.problems]
    if config.bias != "none" and (others := [n for n, c in _configs(model).items() if c.bias != "none" and n != name]):
        problems.append(
            f"bias={config.bias!r} trains the base's own biases, and so does adapter {others[0]!r}; only one can"
        )
    parts: list[tuple[nn.Module, LoraLayer, Parts]] = []
    if not problems:
        problems = _build(choice, config, name, parts, full_precision, on_meta)
    if not problems:
        changed = {t.path: (p[1], p[2].base_weights or ()) for t, p in zip(choice.targets, parts, strict=True)}
        start = f"init_lora_weights={config.init_lora_weights!r}"
        problems = [f"{path}: {start} would change its {shared}" for path, shared in shared_weights(model, changed)]
    if problems:
        kind = NoMatchingPeftModuleError if choice.nothing_found else TargetError
        text = "\n".join(f"  - {problem}" for problem in problems)
        raise kind(f"Adapter {name!r} cannot be added to {type(model).__name__}; the model is unchanged.\n{text}")
    _warn_about_size(choice, parts)
    for note in choice.notes:
        warnings.warn(f"Adapter {name!r}: {note}.", LumoraWarning, stacklevel=4)
    targets = choice.resolved if isinstance(choice.resolved, str) else set(choice.resolved)
    saved = config.modules_to_save
    if heads:
        saved = list(dict.fromkeys([*(saved or ()), *heads]))
    lying = any(isinstance(layer, Conv1D) for _, layer, _ in parts)
    read = replace(config, target_modules=targets, modules_to_save=saved, fan_in_fan_out=lying)
    return Plan(name, read, choice, parts)


def apply(model: nn.Module, plan: Plan) -> None:
    """Carry a plan out, and leave exactly the new adapter active and trainable if it is the first."""
    for wrapper in wrappers(model):
        if plan.name in held(wrapper):
            wrapper.remove(plan.name)
    unwrap_unused(model, keep=[layer for _, layer, _ in plan.parts])
    places = _places(model)
    for module, layer, parts in plan.parts:
        layer.add(parts)
        if layer is not module:
            _put(places, module, layer)
    modules = dict(base_modules(model))
    for path in plan.choice.saved:
        module = modules[path]
        wrapper = module if isinstance(module, ModulesToSaveWrapper) else ModulesToSaveWrapper(module)
        wrapper.add(plan.name)
        if wrapper is not module:
            _put(places, module, wrapper)
    _set_native_paths(model)


def freeze(model: nn.Module) -> None:
    """Train adapters and saved modules only, and the biases that an adapter asks for."""
    ours = {id(p) for layer in wrappers(model) for p in _own_parameters(layer)}
    for parameter in model.parameters():
        if id(parameter) not in ours:
            parameter.requires_grad_(False)


def trained_biases(model: nn.Module, name: str, config: LoraConfig) -> Iterator[tuple[str, nn.Parameter]]:
    """The biases of the base that go with an adapter, under their paths in the adapted model."""
    if config.bias == "lora_only":
        for path, layer in model.named_modules():
            if isinstance(layer, LoraLayer) and name in layer.adapters:
                bias = layer.base_layer._parameters.get("bias")
                if bias is not None:
                    yield f"{path}.base_layer.bias", bias
    elif config.bias == "all":
        ours = {id(p) for wrapper in wrappers(model) for p in _without_trained_biases(wrapper)}
        for path, parameter in model.named_parameters():
            if "bias" in path.rpartition(".")[2] and id(parameter) not in ours:
                yield path, parameter


def remove(model: nn.Module) -> None:
    """Put every base module back in its place. Merged weights stay merged."""
    places = _places(model)
    for wrapper in list(wrappers(model)):
        if isinstance(wrapper, LoraLayer):
            _put(places, wrapper, wrapper.base_layer)
        else:
            _put(places, wrapper, wrapper.chosen)
    _set_native_paths(model)


def unwrap_unused(model: nn.Module, keep: Sequence[nn.Module] = ()) -> None:
    """Put back the original of every module in which no adapter has a part any more."""
    places = _places(model)
    for wrapper in list(wrappers(model)):
        if not held(wrapper) and wrapper not in keep:
            original = wrapper.base_layer if isinstance(wrapper, LoraLayer) else wrapper.original_module
            _put(places, wrapper, original)
    _set_native_paths(model)


def shared_weights(
    model: nn.Module, weights: Mapping[str, tuple[LoraLayer, Iterable[str]]]
) -> Iterator[tuple[str, str]]:
    """Of weights of adapted layers, by the layers' paths, those that other modules hold too, with where they do."""
    wanted = {
        id(getattr(layer.base_layer, name)): (path, layer.base_layer, name)
        for path, (layer, names) in weights.items()
        for name in names
    }
    for path, module in model.named_modules() if wanted else ():
        for name, parameter in module._parameters.items():
            if id(parameter) in wanted and module is not wanted[id(parameter)][1]:
                owner, _, weight = wanted[id(parameter)]
                yield owner, f"{weight}, which is shared with {f'{path}.{name}'!r}"


def lora_layers(model: nn.Module) -> Iterator[LoraLayer]:
    """Every adapted layer."""
    return (m for m in model.modules() if isinstance(m, LoraLayer))


def wrappers(model: nn.Module) -> Iterator[Wrapper]:
    """Every adapted layer and every module that is saved whole."""
    return (m for m in model.modules() if isinstance(m, LoraLayer | ModulesToSaveWrapper))


def held(wrapper: Wrapper) -> list[str]:
    """Names of the adapters that have a part in this module."""
    return list(wrapper.adapters if isinstance(wrapper, LoraLayer) else wrapper.modules_to_save)


def _build(
    choice: Choice,
    config: LoraConfig,
    name: str,
    parts: list[tuple[nn.Module, LoraLayer, Parts]],
    full_precision: bool,
    on_meta: bool,
) -> list[str]:
    """Fill `parts`; return what went wrong."""
    problems: list[str] = []
    for target in choice.targets:
        layer = target.module if isinstance(target.module, LoraLayer) else target.kind(target.module)
        adapter = Adapter(name, target.r, target.alpha, config.use_rslora, config.use_dora)
        if not on_meta:
            _draw_inner_factors(layer, adapter, config)
        try:
            made = new_parts(layer, adapter, config, full_precision=full_precision, on_meta=on_meta)
        except ConfigError as error:
            problems.append(f"{target.path}: {error}")
            continue
        if made.base_weights and set(layer.adapters) - {name}:
            problems.append(
                f"{target.path}: init_lora_weights={config.init_lora_weights!r} moves part of the base's weight into "
                f"the new adapter, which would change what {list(layer.adapters)} give"
            )
        parts.append((target.module, layer, made))
    return problems


def _draw_inner_factors(layer: LoraLayer, adapter: Adapter, config: LoraConfig) -> None:
    """Draw factors for what is adapted along with a layer, and forget them.

    PEFT draws these before the layer's own and then once more; the same seed shall give the same start.
    """
    if config.init_lora_weights not in (True, False, "gaussian"):
        return
    for name in layer.inner(layer.base_layer):
        inner = layer.base_layer.get_submodule(name)
        kind = kind_of(inner)
        if kind is not None:
            new_parts(kind(inner), adapter, replace(config, use_dora=False))


def _warn_about_size(choice: Choice, parts: list[tuple[nn.Module, LoraLayer, Parts]]) -> None:
    """An adapter that outgrows its layer is no saving; say so with the numbers."""
    larger: list[str] = []
    for target, (_, layer, made) in zip(choice.targets, parts, strict=True):
        size = sum(
            p.numel() for f in (made.a, made.b) for p in ([f] if isinstance(f, nn.Parameter) else f.parameters())
        )
        own = sum(getattr(layer.base_layer, site.weight).numel() for site in layer.merge_sites())
        if size > own:
            larger.append(f"{target.path} ({size:,} parameters for {own:,})")
    if larger:
        warnings.warn(
            f"{len(larger)} of {len(parts)} adapters are larger than the layers they adapt: {', '.join(larger[:4])}"
            f"{', ...' if len(larger) > 4 else ''}. Train such layers whole (modules_to_save), or use a smaller rank "
            "there (rank_pattern).",
            LumoraWarning,
            stacklevel=5,
        )


def name_problem(name: str) -> str | None:
    """Why an adapter cannot have this name, which becomes that of a module and of a folder; None if it can."""
    if not name:
        return "the adapter's name is empty; give it one"
    if any(c in name for c in "./\\:") or not name.isprintable() or name == BASE or _is_taken(name):
        return (
            f"an adapter cannot be called {name!r}: no dots, slashes, colons or control characters, not {BASE!r}, no "
            "method or attribute of a module"
        )
    return None


def _is_taken(name: str) -> bool:
    return hasattr(nn.ModuleDict(), name) or hasattr(nn.ParameterDict(), name)


def _name_problems(model: nn.Module, name: str, replacing: bool) -> list[str]:
    problems = [problem] if (problem := name_problem(name)) else []
    if replacing and any(name in layer.merged_adapters for layer in lora_layers(model)):
        problems.append(f"adapter {name!r} is merged; call unmerge_adapter() before replacing it")
    if not replacing and any(name in held(w) for w in wrappers(model)):
        problems.append(f"there is an adapter {name!r} already; choose another name or delete it first")
    return problems


def _configs(model: nn.Module) -> dict[str, LoraConfig]:
    return getattr(model, "peft_config", {})


def _own_parameters(wrapper: Wrapper) -> Iterator[nn.Parameter]:
    if isinstance(wrapper, ModulesToSaveWrapper):
        yield from wrapper.modules_to_save.parameters()
        return
    for name in wrapper.adapters:
        yield from wrapper.parameters_of(name)


def _without_trained_biases(wrapper: Wrapper) -> Iterator[nn.Parameter]:
    """What `bias="all"` leaves out: adapters, saved modules and, as in PEFT, bare tensors of adapted attention."""
    yield from _own_parameters(wrapper)
    if isinstance(wrapper, ModulesToSaveWrapper):
        yield from wrapper.original_module.parameters()
    elif isinstance(wrapper, MultiheadAttention):
        yield from wrapper.base_layer.parameters(recurse=False)


def _places(model: nn.Module) -> dict[nn.Module, list[tuple[nn.Module, str]]]:
    """Where every module hangs: one that is shared hangs in several places."""
    places: dict[nn.Module, list[tuple[nn.Module, str]]] = {}
    for parent in model.modules():
        for name, child in parent._modules.items():
            if child is not None:
                places.setdefault(child, []).append((parent, name))
    return places


def _put(places: dict[nn.Module, list[tuple[nn.Module, str]]], old: nn.Module, new: nn.Module) -> None:
    for parent, name in places.get(old, []):
        if parent is not new:
            parent._modules[name] = new


def _set_native_paths(model: nn.Module) -> None:
    """While torch's transformer layers hold adapters, keep them from the native path that reads the weights."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            switch, off = "activation_relu_or_gelu", 0
        elif isinstance(module, nn.TransformerEncoder):
            switch, off = "use_nested_tensor", False
        else:
            continue
        if next(wrappers(module), None) is not None:
            module.__dict__.setdefault("_before_adapters", getattr(module, switch))
            setattr(module, switch, off)
        elif "_before_adapters" in module.__dict__:
            setattr(module, switch, module.__dict__.pop("_before_adapters"))


def require_grad(model: nn.Module, name: str, wanted: bool) -> None:
    """Let one adapter train, or not, whether it is active or not."""
    for wrapper in wrappers(model):
        if isinstance(wrapper, LoraLayer) and name in wrapper.adapters:
            for parameter in wrapper.parameters_of(name):
                parameter.requires_grad_(wanted)
        elif isinstance(wrapper, ModulesToSaveWrapper) and name in wrapper.modules_to_save:
            for parameter in wrapper.modules_to_save[name].parameters():
                if parameter.is_floating_point():
                    parameter.requires_grad_(wanted)


def names_of(model: nn.Module) -> list[str]:
    """Names of all adapters, in the order in which they came."""
    names: dict[str, None] = {}
    for wrapper in wrappers(model):
        names |= dict.fromkeys(held(wrapper))
    return list(names)


def activate(model: nn.Module, names: str | Sequence[str], *, inference_mode: bool = False) -> None:
    """Make exactly these adapters count and, unless `inference_mode`, train, with the biases that they ask for."""
    names = [names] if isinstance(names, str) else list(names)
    for wrapper in wrappers(model):
        if isinstance(wrapper, ModulesToSaveWrapper):
            wrapper.check_active(names)
    for wrapper in wrappers(model):
        wrapper.set_adapter(names, inference_mode)
    configs = _configs(model)
    for name in sorted(configs, key=lambda name: name in names):
        for _, parameter in trained_biases(model, name, configs[name]):
            parameter.requires_grad_(name in names and not inference_mode)
