"""Tiny models with every layer kind, and the two libraries side by side."""

from __future__ import annotations

import copy
import importlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import peft
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import lumora.peft

LIBRARIES: dict[str, ModuleType] = {"peft": peft, "lumora": lumora.peft}
TARGETS = ("one.layer", "two.layer")


def module_of(library: ModuleType, path: str) -> ModuleType:
    return importlib.import_module(f"{library.__name__}.{path}")


def other(library: ModuleType) -> ModuleType:
    return lumora.peft if library is peft else peft


@dataclass(frozen=True)
class Kind:
    """How to make a layer of one kind and an input for it, and how to run it."""

    make: Callable[[], nn.Module]
    sample: Callable[[], Tensor]
    run: Callable[[nn.Module, Tensor], Tensor] = lambda layer, x: layer(x)
    width: int = 4


def _pooled(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x).flatten(2).mean(2)


KINDS: dict[str, Kind] = {
    "Linear": Kind(lambda: nn.Linear(6, 4), lambda: torch.randn(3, 6)),
    "Conv1d": Kind(lambda: nn.Conv1d(3, 4, 3, stride=2, padding=1), lambda: torch.randn(3, 3, 9), _pooled),
    "Conv2d": Kind(lambda: nn.Conv2d(3, 4, (3, 2), padding=1), lambda: torch.randn(3, 3, 5, 5), _pooled),
    "Conv3d": Kind(lambda: nn.Conv3d(3, 4, 2), lambda: torch.randn(3, 3, 4, 4, 4), _pooled),
    "Embedding": Kind(lambda: nn.Embedding(7, 4), lambda: torch.randint(0, 7, (3, 5)), lambda m, x: m(x).mean(1)),
    "MultiheadAttention": Kind(
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        lambda: torch.randn(3, 5, 8),
        lambda m, x: m(x, x, x)[0].mean(1),
        width=8,
    ),
    "Conv1D": Kind(lambda: Conv1D(4, 6), lambda: torch.randn(3, 6)),
}


class Tiny(nn.Module):
    """Two layers of one kind side by side, a norm and a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = KINDS[kind]
        self.one = nn.ModuleDict({"layer": self.kind.make()})
        self.two = nn.ModuleDict({"layer": self.kind.make()})
        self.norm = nn.BatchNorm1d(self.kind.width)
        self.head = nn.Linear(self.kind.width, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.kind.run(self.one["layer"], x) - 0.5 * self.kind.run(self.two["layer"], x)
        return self.head(self.norm(h))


def tiny(kind: str, seed: int = 0) -> Tiny:
    torch.manual_seed(seed)
    model = Tiny(kind)
    for parameter in model.parameters():  # biases of attention start at zero, which would hide mistakes
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval()


def sample_for(kind: str) -> Tensor:
    torch.manual_seed(99)
    return KINDS[kind].sample()


def adapted(library: ModuleType, base: nn.Module, name: str = "default", seed: int = 1, **config: Any) -> Any:
    """A model with a fresh adapter from one of the libraries."""
    torch.manual_seed(seed)
    with quiet():
        return library.get_peft_model(base, library.LoraConfig(**config), adapter_name=name).eval()


def perturb(model: nn.Module, seed: int = 5) -> None:
    """Move everything that adapters hold, and the biases they train, away from where it started."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            ours = any(part in name for part in (".lora_", ".modules_to_save."))
            if ours or parameter.requires_grad:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
            # peft adds the update of an attention's output projection twice
            if ".out_proj.lora_B." in name or ".out_proj.lora_magnitude" in name:
                parameter.zero_()


def outputs(model: Any, x: Tensor, names: tuple[str, ...] = ("default",)) -> list[Tensor]:
    result: list[Tensor] = []
    with torch.no_grad():
        for name in names:
            model.set_adapter(name)
            model.eval()
            result.append(model(x))
    return result


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    tensors = load_file(folder / "adapter_model.safetensors")
    # With bias="all" peft writes the biases of saved modules three times, two of them where nobody looks for them.
    unread = [k for k in tensors if ".modules_to_save." in k or ".original_module." in k]
    config = json.loads((folder / "adapter_config.json").read_text())
    assert not unread or (config["bias"] == "all" and all(".bias" in k for k in unread))
    return config, {k: v for k, v in tensors.items() if k not in unread}


def assert_same_files(first: Path, second: Path) -> None:
    """The same keys, shapes and values, and the same configuration."""
    (config1, tensors1), (config2, tensors2) = read_folder(first), read_folder(second)
    assert comparable(config1) == comparable(config2)
    assert sorted((k, *v.shape) for k, v in tensors1.items()) == sorted((k, *v.shape) for k, v in tensors2.items())
    for key, value in tensors1.items():
        assert torch.equal(value, tensors2[key]), key


def comparable(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration's fields, our own remarks aside; lists that stand for sets in one order."""
    config = copy.deepcopy(config)
    config.pop("lumora", None)
    config.pop("peft_version")
    for field in ("target_modules", "exclude_modules"):
        if isinstance(config[field], list):
            config[field] = sorted(config[field])
    return config


class quiet(warnings.catch_warnings):  # noqa: N801
    """No warnings inside: both libraries have much to say about tiny layers."""

    def __enter__(self) -> None:  # type: ignore[override]
        super().__enter__()
        warnings.simplefilter("ignore")
