"""What could be adapted in a model, what usually is, and what that would cost."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from lumora.errors import LumoraError
from lumora.lora import files
from lumora.lora.config import LoraConfig
from lumora.lora.layers import kind_of
from lumora.lora.model import get_peft_model
from lumora.lora.status import count_parameters
from lumora.lora.targets import ALL_LINEAR, base_modules, default_targets
from lumora.models.groups import collapse

_NO_TARGETS = "no usual targets are known for this architecture, and it has no linear layers; name modules of the table"


@dataclass(frozen=True)
class ModuleGroup:
    """Modules of one kind at the same place of different blocks."""

    path: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]
    """The different shapes of their weights, in the model's order."""
    count: int
    parameters: int
    targeted: int
    """How many of them are adapted in `ModelSurvey.lora`."""


@dataclass(frozen=True)
class LoraCost:
    """What LoRA trains and saves at one rank."""

    rank: int
    target_modules: list[str] | str
    usual: bool
    """Whether these are the architecture's usual targets; if not, they are all linear layers but the head."""
    targets: int
    trainable: int
    percent: float
    """Of all parameters, the adapter's own among them."""
    file_bytes: int
    """The size of the adapter's tensors."""
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ModelSurvey:
    """A model as LoRA sees it."""

    architecture: str
    parameters: int
    groups: tuple[ModuleGroup, ...]
    lora: LoraCost | None
    problem: str | None
    """Why there is no `lora`."""


def survey(model: nn.Module, rank: int = 8) -> ModelSurvey:
    """Look at a model. An adapter is put in and taken out again; the model may be on the meta device.

    >>> lines = survey(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), rank=2)
    >>> [(group.path, group.kind, group.parameters) for group in lines.groups]
    [('0', 'Linear', 20), ('2', 'Linear', 10)]
    """
    adaptable = list(_adaptable(model))
    parameters = count_parameters(model)[1]
    cost, targeted, problem = None, set[str](), None
    try:
        cost, targeted = _cost(model, rank)
    except LumoraError as error:
        problem = str(error) if default_targets(model) is not None else _NO_TARGETS
    return ModelSurvey(type(model).__name__, parameters, _groups(adaptable, targeted), cost, problem)


def _adaptable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module that can be adapted; what belongs to an attention counts with it."""
    modules = dict(base_modules(model))
    for path, module in modules.items():
        around = modules.get(path.rpartition(".")[0])
        if kind_of(module) is not None and not isinstance(around, nn.MultiheadAttention):
            yield path, module


def _groups(adaptable: list[tuple[str, nn.Module]], targeted: set[str]) -> tuple[ModuleGroup, ...]:
    members: dict[tuple[str, str], list[tuple[str, nn.Module]]] = {}
    for path, module in adaptable:
        members.setdefault((collapse(path), type(module).__name__), []).append((path, module))
    return tuple(
        ModuleGroup(
            path=path,
            kind=kind,
            shapes=tuple(dict.fromkeys(_weight_shape(module) for _, module in group)),
            count=len(group),
            parameters=sum(count_parameters(module)[1] for _, module in group),
            targeted=sum(p in targeted for p, _ in group),
        )
        for (path, kind), group in members.items()
    )


def _weight_shape(module: nn.Module) -> tuple[int, ...]:
    """The shape of a module's own weight: the packed or the query projection of an attention."""
    own = dict(module.named_parameters(recurse=False))
    name = next((n for n in ("weight", "in_proj_weight", "q_proj_weight") if n in own), None)
    return tuple(own[name].shape) if name else ()


def _cost(model: nn.Module, rank: int) -> tuple[LoraCost, set[str]]:
    """The cost, and the paths of the modules it is about."""
    usual = default_targets(model) is not None
    trained = [p for p in model.parameters() if p.requires_grad]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = LoraConfig(r=rank, target_modules=None if usual else ALL_LINEAR)
        adapted = get_peft_model(model, config, low_cpu_mem_usage=True)
    trainable, total = adapted.get_nb_trainable_parameters()
    tensors = files.adapter_state_dict(adapted, "default").values()
    chosen = adapted.peft_config["default"].target_modules
    targeted = set(adapted.targeted_module_names)
    adapted.unload()
    for parameter in trained:
        parameter.requires_grad_(True)
    cost = LoraCost(
        rank=rank,
        target_modules=ALL_LINEAR if not usual else chosen if isinstance(chosen, str) else sorted(chosen or ()),
        usual=usual,
        targets=len(targeted),
        trainable=trainable,
        percent=100 * trainable / total,
        file_bytes=sum(t.numel() * t.element_size() for t in tensors),
        notes=tuple(str(warning.message) for warning in caught),
    )
    return cost, targeted
