"""Running a model to see what it does: on an empty picture, without a trace, catching what modules get and give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def empty_picture(model: nn.Module, size: tuple[int, int]) -> Tensor:
    """One black picture where the model is and in its type."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(0))
    return torch.zeros(1, 3, *size, device=like.device, dtype=like.dtype)


@contextmanager
def trying_out(model: nn.Module) -> Generator[None]:
    """Inside, the model does not learn, drop, count or record; afterwards it is as it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def watch_output(module: nn.Module, note: Callable[[Tensor], object]) -> Generator[None]:
    """Inside, tell `note` what a module gives in this thread; of a tuple, the first."""
    mine = threading.get_ident()

    def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        if threading.get_ident() == mine and isinstance(output, Tensor):
            note(output)

    handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watch_input(module: nn.Module, note: Callable[[Tensor], object]) -> Generator[None]:
    """Inside, tell `note` what a module gets first in this thread."""
    mine = threading.get_ident()

    def before(_module: nn.Module, inputs: Any) -> None:
        if threading.get_ident() == mine and inputs and isinstance(inputs[0], Tensor):
            note(inputs[0])

    handle = module.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
