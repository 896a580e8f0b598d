"""Beginning where an earlier training ended: adapters, head and all else that is trained are taken from its bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lumora.bundle import load
from lumora.errors import BundleError
from lumora.lora import PeftModel, files
from lumora.lora.names import is_inside_any
from lumora.training.inheriting import check_still_alike, refuse_others
from lumora.training.ready import Ready
from lumora.training.setup import Prepared

_LISTED = 3


def start_from_bundle(prepared: Prepared, given: Ready | None, told: Callable[[str], None]) -> None:
    """Put what the bundle of `train.start_from` has learnt into a model that has not begun; an error if it is another.

    Costs a second model for the moment.
    """
    bundle = prepared.recipe.train.start_from
    if bundle is None:
        return
    theirs, ours = check_still_alike(bundle, prepared.recipe, prepared.source).base, prepared.base
    if theirs.fingerprint != ours.fingerprint and theirs.name != ours.name:  # else it is told when it is loaded
        refuse_others(bundle, {"base": (theirs.name, ours.name)})
    base = prepared.recipe.base.name if given is None else given.copy()
    loaded = load(bundle, base=base, task=prepared.source.task).model
    own, learnt = _learnt(prepared, prepared.model), _learnt(prepared, loaded)
    _check_alike(own, learnt, bundle)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(learnt[name])
    told(f"Adapters and head begin as they are in {bundle}, which was trained before.")


def _learnt(prepared: Prepared, model: nn.Module) -> Mapping[str, Tensor]:
    """What a training of this kind keeps of a model, under names that are the same in every such model."""
    if isinstance(model, PeftModel):
        return files.adapter_state_dict(model, files.DEFAULT)
    state: dict[str, Tensor] = model.state_dict()
    if prepared.recipe.train.method != "head":
        return state
    return {name: tensor for name, tensor in state.items() if is_inside_any(name, prepared.base.heads)}


def _check_alike(own: Mapping[str, Tensor], learnt: Mapping[str, Tensor], bundle: str) -> None:
    """Refuse a bundle whose tensors are others: other targets, another rank."""
    problems = [f"{name} is in one of them only" for name in sorted(own.keys() ^ learnt.keys())]
    problems += [
        f"{name} is {tuple(learnt[name].shape)} in the bundle and {tuple(own[name].shape)} here"
        for name in own
        if name in learnt and own[name].shape != learnt[name].shape
    ]
    if problems:
        more = f"\n- and {len(problems) - _LISTED:,} more" if len(problems) > _LISTED else ""
        raise BundleError(
            f"This training cannot begin from {bundle} (train.start_from), whose adapters or head are others:\n"
            + "\n".join(f"- {problem}" for problem in problems[:_LISTED])
            + f"{more}\nGive the keys of the section lora the values that they have in the recipe of the bundle's run."
        )
