"""The head alone, before the rest: on what the base sees of each picture, computed once.

A fresh head sends noise into the adapters in the first steps. Trained alone first it does not, and that costs little:
the base is run once over the pictures, and then never again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lumora.data import Loader, Pictures
from lumora.data.transforms import Compose, Resize, generator_for
from lumora.lora import PeftModel
from lumora.tasks.views import Normalised, evaluation_view
from lumora.training.schedule import factor
from lumora.training.setup import Prepared
from lumora.training.surveying import machine_facts

_SHARE_OF_MEMORY = 4
_WARMUP = 0.1

Remembered = tuple[list[Any], Tensor]
"""What the head got for each picture, and the targets."""


def train_head_first(prepared: Prepared, told: Callable[[str], None]) -> None:
    """Train the head for `train.head_first` epochs; its weights alone change. Says so where it cannot be done."""
    epochs = prepared.recipe.train.head_first or 0
    if not epochs:
        return
    head = _head(prepared)
    if head is None:
        told("train.head_first was left out: this model has no head that could be trained by itself.")
        return
    remembered = _remember(prepared, head)
    if remembered is None:
        told("train.head_first was left out: what the base sees of all pictures takes more memory than there is.")
        return
    losses = _train(prepared, head, remembered, epochs)
    told(f"The head was trained alone for {epochs} epochs; its loss fell from {losses[0]:.3f} to {losses[-1]:.3f}.")


def _head(prepared: Prepared) -> nn.Module | None:
    """The head, if it is one module and what the model gives is what that gives."""
    base, model = prepared.base, prepared.model
    root = model.get_base_model() if isinstance(model, PeftModel) else model
    return root.get_submodule(base.heads[0]) if len(base.heads) == 1 else None


def _remember(prepared: Prepared, head: nn.Module) -> Remembered | None:
    """What the head gets for each picture that is learnt from; None where that does not fit into memory."""
    model, stepper = prepared.model, prepared.work.stepper
    inputs: list[Any] = []
    targets: list[Tensor] = []
    room = machine_facts(torch.device("cpu")).memory // _SHARE_OF_MEMORY
    caught: list[Any] = []
    hook = head.register_forward_pre_hook(lambda _, args: caught.append(args))
    model.eval()
    try:
        with torch.no_grad():
            for batch in _plain_view(prepared):
                with stepper.in_precision():
                    model(batch["pixel_values"])
                args, count = caught.pop(), len(batch["labels"])
                parts = [pytree.tree_map_only(Tensor, lambda t, i=i: t[i].float().cpu(), args) for i in range(count)]
                inputs += parts
                targets.append(batch["labels"].cpu())
                if _bytes(parts[0]) * len(prepared.work.loader.pictures) > room:
                    return None
    finally:
        hook.remove()
    return inputs, torch.cat(targets)


def _plain_view(prepared: Prepared) -> Iterator[dict[str, Any]]:
    """All pictures that are learnt from, unchanged but for their size."""
    work, about = prepared.work, prepared.about_nothing()
    if prepared.source.task == "segmentation":
        view = Compose((Resize(about.size), Normalised(about.preprocessing)))
    else:
        view = evaluation_view(about.at_size)
    old = work.loader.pictures
    pictures = Pictures(old.samples, view, old.seed, old.cache, classes=len(prepared.source.labels))
    yield from Loader(pictures, work.stepper.micro_batch or 32, shuffle=False, device=work.stepper.device)


def _train(prepared: Prepared, head: nn.Module, remembered: Remembered, epochs: int) -> list[float]:
    """Train on what was remembered; return the mean loss of each epoch."""
    inputs, targets = remembered
    train, device = prepared.recipe.train, prepared.work.stepper.device
    assert train.batch_size is not None and train.head_rate is not None and train.seed is not None
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, weight_decay=train.weight_decay or 0)
    steps_in_epoch = -(-len(inputs) // train.batch_size)
    head.train()
    means: list[float] = []
    for epoch in range(epochs):
        order = torch.randperm(len(inputs), generator=generator_for(train.seed, epoch, "head")).split(train.batch_size)
        total = 0.0
        for number, chosen in enumerate(order):
            step = epoch * steps_in_epoch + number
            torch.manual_seed(generator_for(train.seed, step, "head step").initial_seed())
            for group in optimizer.param_groups:
                group["lr"] = train.head_rate * factor(step, epochs * steps_in_epoch, _WARMUP, "cosine")
            args = _together([inputs[i] for i in chosen.tolist()], device)
            loss = prepared.work.task.loss(head(*args), targets[chosen].to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(chosen)
        means.append(total / len(inputs))
    return means


def _together(items: list[Any], device: torch.device) -> Any:
    """What the head gets for several pictures, from what it gets for each."""

    def stacked(*parts: Any) -> Any:
        return torch.stack(parts).to(device) if isinstance(parts[0], Tensor) else parts[0]

    return pytree.tree_map(stacked, *items)


def _bytes(item: Any) -> int:
    return sum(leaf.nbytes for leaf in pytree.tree_leaves(item) if isinstance(leaf, Tensor))
