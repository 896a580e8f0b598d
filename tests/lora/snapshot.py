"""Everything that an operation which fails, or only looks, must leave as it was."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_DICTS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Values, identities, gradients, modes and hooks of everything in a model, and the random state."""
    modules = dict(model.named_modules(remove_duplicate=False))
    tensors = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    return {
        "modules": {n: id(m) for n, m in modules.items()},
        "classes": {n: type(m) for n, m in modules.items()},
        "attributes": {n: sorted(vars(m)) for n, m in modules.items()},
        "modes": {n: m.training for n, m in modules.items()},
        "hooks": {n: [dict(getattr(m, d)) for d in _DICTS] for n, m in modules.items()},
        "tensors": {n: (id(t), t.data_ptr(), t.dtype) for n, t in tensors.items()},
        "values": {n: t.detach().clone() for n, t in tensors.items()},
        "requires_grad": {n: t.requires_grad for n, t in tensors.items()},
        "gradients": {n: (id(t.grad), None if t.grad is None else t.grad.clone()) for n, t in tensors.items()},
        "random": torch.get_rng_state(),
    }


def assert_same(before: Any, after: Any, where: str = "") -> None:
    """Compare two snapshots and say where they differ."""
    if isinstance(before, dict):
        assert list(before) == list(after), f"{where}: {set(before) ^ set(after)}"
        for key in before:
            assert_same(before[key], after[key], f"{where}/{key}")
    elif isinstance(before, (list, tuple)):
        assert len(before) == len(after), where
        for i, (x, y) in enumerate(zip(before, after, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(before, torch.Tensor):
        assert torch.equal(before, after), where
    else:
        assert before == after, where


@contextmanager
def unchanged(model: nn.Module, *, random: bool = True) -> Generator[None]:
    """Inside, nothing about the model may change; with `random`, nor torch's random state."""
    before = snapshot(model)
    yield
    after = snapshot(model)
    if not random:
        del before["random"], after["random"]
    assert_same(before, after)
