"""What `benchmarks/serving.py` compares with: two servers as people write them, each a process of its own.

    python benchmarks/serving_peers.py peft BUNDLES PORT      # peft, one base, the adapter switched for every request
    python benchmarks/serving_peers.py plain BUNDLES PORT     # FastAPI, a model for each bundle, no batches

Both take a picture as the body of `POST /predict/{adapter}`, decode it with the bundle's own preprocessing in a thread,
and compute one picture at a time.
"""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from torch import Tensor

import lumora
from lumora.bundle import About, read_about
from lumora.data import read_picture
from lumora.models import load_base
from lumora.tasks.base import logits_of

Compute = Callable[[str, Tensor], Tensor]
"""The probabilities of a picture, by the name of an adapter."""


def switching(folders: list[Path]) -> Compute:
    """Real peft: all adapters in one model, `set_adapter` before every picture."""
    import peft

    about = read_about(folders[0])
    base = load_base(about.base.name, task=about.task, labels=about.labels.names, width=about.base.width)
    model: Any = peft.PeftModel.from_pretrained(base.module, str(folders[0]), adapter_name=folders[0].name)
    for folder in folders[1:]:
        model.load_adapter(str(folder), folder.name)
    model.eval()
    now = ""

    def compute(name: str, pixels: Tensor) -> Tensor:
        nonlocal now
        if name != now:  # nobody switches to what is active already
            model.set_adapter(name)
            now = name
        with torch.inference_mode():
            return logits_of(model(pixels))[0].softmax(0)

    return compute


def separate(folders: list[Path]) -> Compute:
    """A model for each bundle."""
    models = {folder.name: lumora.load(folder, device="cpu").model for folder in folders}

    def compute(name: str, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return logits_of(models[name](pixels))[0].softmax(0)

    return compute


def app(compute: Compute, about: About) -> FastAPI:
    """The server around either."""
    served, turn, preprocessing = FastAPI(), asyncio.Lock(), about.at_size

    @served.post("/predict/{adapter}")
    async def predict(adapter: str, request: Request) -> dict[str, float]:
        body = await request.body()
        pixels = await asyncio.to_thread(lambda: preprocessing(read_picture(body))[None])
        async with turn:  # one model, one picture
            probabilities = await asyncio.to_thread(compute, adapter, pixels)
        return dict(zip(about.labels.names, probabilities.tolist(), strict=True))

    return served


if __name__ == "__main__":
    kind, home, port = sys.argv[1:]
    warnings.simplefilter("ignore")
    bundles = sorted(path for path in Path(home).iterdir() if path.is_dir())
    chosen = {"peft": switching, "plain": separate}[kind](bundles)
    uvicorn.run(app(chosen, read_about(bundles[0])), host="127.0.0.1", port=int(port), log_level="error")
