"""The same data and epochs, learnt in several ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumora.bundle import names
from lumora.training.events import Listener
from lumora.training.running import Run, finetune

METHODS = {
    "head": "head only",
    "lora": "LoRA",
    "full": "full fine-tuning",
    "scratch": "from scratch",
}
"""Values of `train.method`, and what people call them."""


@dataclass(frozen=True)
class Way:
    """One way of learning, and what it came to."""

    method: str
    run: Run
    weights_bytes: int
    """Of the file that holds what was learnt; 0 where the run was asked to stop."""


def learn(data: Any, out: Path, method: str, settings: Mapping[str, Any], listeners: Sequence[Listener] = ()) -> Way:
    """Learn in one way, with what is usual for it; settings of adapters count for them alone."""
    own = {key: value for key, value in settings.items() if method == "lora" or not key.startswith("lora.")}
    run = finetune(data, out=out, settings={**own, "train.method": method}, listeners=listeners)
    file = None if run.bundle is None else run.bundle / (names.ADAPTER if method == "lora" else names.WEIGHTS)
    return Way(method, run, 0 if file is None else file.stat().st_size)
