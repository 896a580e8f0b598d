"""Small bases, adapters on them, and folders to damage."""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lumora import LoraConfig, LumoraError, PeftModel, get_peft_model

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"


def base() -> nn.Sequential:
    """A model with a layer to adapt, one to leave alone and a head; every time with the same values."""
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(OrderedDict(body=nn.Linear(6, 5), act=nn.ReLU(), head=nn.Linear(5, 3)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def adapted(**changes: Any) -> PeftModel:
    """The base with an adapter in `body` whose values are not those it starts with, and a trained head."""
    config: dict[str, Any] = {"r": 2, "lora_alpha": 3, "target_modules": ["body"], "modules_to_save": ["head"]}
    model = get_peft_model(base(), LoraConfig(**config | changes))
    fill(model, 2)
    return model


def fill(model: nn.Module, seed: int) -> None:
    """Give everything trainable a value of its own."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


def pixels() -> Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(3))


def tensors_of(model: nn.Module, name: str = "default") -> dict[str, Tensor]:
    """What an adapter consists of, found by the names that PEFT gives its parameters."""
    marks = (".lora_A.", ".lora_B.", ".modules_to_save.")
    return {
        key: value.clone()
        for key, value in model.state_dict().items()
        if any(f"{mark}{name}." in key for mark in marks)
    }


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of tensors have the same keys and the same bits."""
    return one.keys() == other.keys() and all(
        value.dtype == other[key].dtype and value.numpy().tobytes() == other[key].numpy().tobytes()
        for key, value in one.items()
    )


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def appearance(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that a failure must leave alone."""
    return {
        "modules": [(path, id(m), m.training, len(m._forward_hooks)) for path, m in model.named_modules()],
        "values": {key: value.detach().numpy().tobytes() for key, value in model.state_dict().items()},
        "learning": {path: p.requires_grad for path, p in model.named_parameters()},
        "configurations": list(getattr(model, "peft_config", {})),
        "active": getattr(model, "active_adapters", None),
    }


@contextmanager
def refused(model: nn.Module, match: str | None = None, kind: type[LumoraError] = LumoraError) -> Iterator[None]:
    """Inside, an error of ours is raised, and the model stays exactly as it was."""
    before = appearance(model)
    with pytest.raises(kind, match=match):
        yield
    assert appearance(model) == before


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def raw_safetensors(header: Any, body: bytes = b"", declared: int | None = None) -> bytes:
    """The bytes of a safetensors file, right or wrong: the header's length, the header, the tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if declared is None else declared) + text + body
