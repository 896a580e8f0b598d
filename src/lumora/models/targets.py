"""What a recipe adapts when nothing is said: everything that mixes channels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lumora.lora.layers import Conv, Conv1D, Linear, LoraLayer, MultiheadAttention, kind_of
from lumora.lora.names import exactly, is_inside_any, matches
from lumora.lora.targets import base_modules
from lumora.models.watching import empty_picture, trying_out

_KINDS = (Linear, Conv1D, Conv, MultiheadAttention)


def every_layer(
    model: nn.Module, leave_out: Collection[str] = (), among: Collection[nn.Module] | None = None
) -> list[str] | str:
    """`target_modules` for every linear layer and every ungrouped convolution outside the paths in `leave_out`.

    With `among`, only for these modules. Names by their endings where these mean nothing else, or whole paths, or one
    regular expression.

    >>> every_layer(nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 2)), ["2"])
    ['0']
    """
    modules = dict(base_modules(model))
    chosen = [p for p, m in modules.items() if _mixes(m) and (among is None or m in among)]
    chosen = [p for p in chosen if not is_inside_any(p, leave_out)]
    # An attention takes its output projection with it.
    chosen = [p for p in chosen if not isinstance(modules.get(p.rpartition(".")[0]), nn.MultiheadAttention)]
    endings = {path.rpartition(".")[2] for path in chosen}
    if [path for path in modules if matches(path, endings)] == chosen:
        return sorted(endings)
    found = exactly(chosen, modules)
    return found if isinstance(found, str) else sorted(found)


def reached(model: nn.Module, size: tuple[int, int]) -> set[nn.Module] | None:
    """The modules whose own weights change what the model gives for a picture; None if that cannot be seen.

    Costs one forward pass that remembers what it did.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        with trying_out(model), torch.enable_grad():
            leaves = _leaves(pytree.tree_leaves(_plain(model(empty_picture(model, size)))))
    except Exception:  # whatever a model of anybody's does with an empty picture
        return None
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return {m for m in model.modules() if any(id(p) in leaves for p in m.parameters(recurse=False))}


def _plain(outputs: Any) -> Any:
    return dict(outputs) if isinstance(outputs, Mapping) else outputs


def _leaves(outputs: Iterable[Any]) -> set[int]:
    """The identities of the tensors that outputs were computed from."""
    waiting = [output.grad_fn for output in outputs if isinstance(output, Tensor) and output.grad_fn is not None]
    seen, leaves = set[Any](waiting), set[int]()
    while waiting:
        node = waiting.pop()
        if (variable := getattr(node, "variable", None)) is not None:
            leaves.add(id(variable))
        after = {following for following, _ in node.next_functions if following is not None} - seen
        seen |= after
        waiting += after
    return leaves


def _mixes(module: nn.Module) -> bool:
    kind = type(module) if isinstance(module, LoraLayer) else kind_of(module)
    base = module.base_layer if isinstance(module, LoraLayer) else module
    return kind is not None and issubclass(kind, _KINDS) and getattr(base, "groups", 1) == 1
