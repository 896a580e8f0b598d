"""The `README.md` that is written beside an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from lumora.lora import inject
from lumora.lora.config import LoraConfig

MARK = "<!-- written by lumora; edit freely after removing this line -->"


def card(root: nn.Module, name: str, notes: Mapping[str, Any]) -> str:
    """A card that says what the adapter is for, how large it is and how to load it."""
    config: LoraConfig = root.peft_config[name]  # type: ignore[index]
    base = config.base_model_name_or_path
    layers = [layer for layer in inject.lora_layers(root) if name in layer.adapters]
    parameters = sum(p.numel() for layer in layers for p in layer.parameters_of(name))
    front = [
        "---",
        *([f"base_model: {base}"] if base and _is_repository(base) else []),
        "library_name: peft",
        "tags:",
        "- lora",
        "- lumora",
        "---",
    ]
    targets = config.target_modules
    wanted = targets if isinstance(targets, str) else ", ".join(sorted(targets or ()))
    lines = [
        *front,
        MARK,
        "",
        f"# LoRA adapter for {base or type(root).__name__}",
        "",
        f"{len(layers)} layers adapted, {parameters:,} parameters, rank {config.r}, alpha {config.lora_alpha:g}.",
        "",
        f"- targets: `{wanted}`",
        f"- trained whole and saved: {', '.join(f'`{n}`' for n in config.modules_to_save or ()) or 'nothing'}",
        *(f"- {note}" for note in notes.values()),
        "",
        "```python",
        "from lumora import PeftModel",
        "",
        f"base = ...  # {base or type(root).__name__}",
        'model = PeftModel.from_pretrained(base, "path/or/repository")',
        "```",
        "",
    ]
    return "\n".join(lines)


def _is_repository(base: str) -> bool:
    """Whether a base's name may be one on the Hub, which refuses cards that name a folder."""
    return re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) is not None and not Path(base).exists()
