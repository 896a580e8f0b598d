"""What a training would change in a model, and how large that is: from the structure alone, without weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from lumora.data import Source
from lumora.errors import LumoraWarning
from lumora.lora import PeftModel, files
from lumora.lora.names import is_inside_any
from lumora.lora.status import count_parameters
from lumora.models import Base, load_base
from lumora.models.adapters import TensorGroup, groups_of
from lumora.training.recipe import Recipe, parse_asked
from lumora.training.setup import to_train, trainable
from lumora.training.trained import changing_tensors, trained_parameters

_OF_A_COUNTER = 4
"""Bytes in which the optimizer counts the steps of a parameter."""
_OF_AN_AVERAGE = 4
"""Bytes of a number in the moving average."""


@dataclass(frozen=True)
class Changes:
    """What is trained, by kinds and places, and what is saved of it."""

    groups: tuple[TensorGroup, ...]
    trained: int
    """Parameters."""
    parameters: int
    """All of them, the adapter's own among them."""
    bundle_bytes: int
    """Of the bundle's tensors: adapters, head, and what else is trained; with everything trained, the whole model."""
    checkpoint_bytes: int
    """Of all that one checkpoint holds."""
    notes: tuple[str, ...] = ()

    @property
    def percent(self) -> float:
        """How much of all parameters is trained."""
        return 100 * self.trained / self.parameters


def structure(recipe: Recipe, source: Source) -> Base:
    """The base without its weights."""
    base = recipe.base
    assert base.name is not None
    assert base.width is not None
    return load_base(
        base.name,
        task=source.task,
        labels=source.labels.names,
        head=base.head or "auto",
        width=base.width,
        drop_path=base.drop_path or 0.0,
        meta=True,
    )


def changes(base: Base, recipe: Recipe) -> Changes:
    """What a training by this recipe would change in this base, which is changed alike."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # How adapters begin changes neither their number nor their size, and some starts look at the weights.
        model = trainable(base, parse_asked({"lora.start": True}, onto=recipe))
    (to_train(model, base, recipe) or model.train)()
    tensors = _saved(model, base, recipe)
    trained, parameters = count_parameters(model)
    return Changes(
        groups=groups_of(_by_part(tensors) if recipe.train.method in ("full", "scratch") else tensors),
        trained=trained,
        parameters=parameters,
        bundle_bytes=_bytes(tensors),
        checkpoint_bytes=_checkpoint_bytes(model, recipe),
        notes=tuple(str(w.message) for w in caught if issubclass(w.category, LumoraWarning)),
    )


def _saved(model: nn.Module, base: Base, recipe: Recipe) -> Mapping[str, Tensor]:
    """The tensors of a bundle, under the names that they have in the base."""
    if isinstance(model, PeftModel):
        return files.adapter_state_dict(model, files.DEFAULT)
    state: dict[str, Tensor] = model.state_dict()
    if recipe.train.method != "head":
        return state
    return {name: tensor for name, tensor in state.items() if is_inside_any(name, base.heads)}


def _by_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names of the model's largest parts: where everything is trained, more would say nothing."""
    return {f"{name.partition('.')[0]}.{i}": tensor for i, (name, tensor) in enumerate(tensors.items())}


def _checkpoint_bytes(model: nn.Module, recipe: Recipe) -> int:
    """What changes, twice (now, and when it was best), the optimizer's two memories, and the average."""
    parameters = trained_parameters(model)
    learning = _bytes(parameters) * 2 + _OF_A_COUNTER * len(parameters)
    average = sum(p.numel() for p in parameters.values()) * _OF_AN_AVERAGE if recipe.train.ema else 0
    return 2 * _bytes(changing_tensors(model)) + learning + average


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
