"""The same data and epochs, learnt in several ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    """Of the file that holds what was learnt."""


def compare(
    data: Any,
    out: Path,
    settings: Mapping[str, Any],
    *,
    methods: tuple[str, ...] = tuple(METHODS),
    listeners: Callable[[str], tuple[Listener, ...]] = lambda method: (),
) -> Iterator[Way]:
    """Learn in each way, one after the other, with what is usual for it; runs lie in `out`, by the way's name.

    `settings` that concern adapters count for them alone.
    """
    for method in methods:
        own = {key: value for key, value in settings.items() if method == "lora" or not key.startswith("lora.")}
        run = finetune(data, out=out / method, settings={**own, "train.method": method}, listeners=listeners(method))
        assert run.bundle is not None
        file = run.bundle / (names.ADAPTER if method == "lora" else names.WEIGHTS)
        yield Way(method, run, file.stat().st_size)
