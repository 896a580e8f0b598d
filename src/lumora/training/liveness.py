"""Adapters that do nothing, noticed before the training: one real picture goes forward and backward."""

from __future__ import annotations

from collections.abc import Callable

from lumora.data.labels import listed
from lumora.errors import TrainingError
from lumora.lora import PeftModel
from lumora.tasks.memory import is_about_memory
from lumora.training.setup import Prepared


def prove_adapters(prepared: Prepared, told: Callable[[str], None]) -> None:
    """Name adapters that the model does not call, or that get no gradient; an error if none of them learns.

    Costs about three steps with one picture, and as much memory as one.
    """
    model = prepared.model
    if not isinstance(model, PeftModel):
        return
    item = prepared.work.loader.pictures[0]
    try:
        report = model.verify(item["pixel_values"][None].to(prepared.work.stepper.device))
    except RuntimeError as error:
        if is_about_memory(error):
            return  # steps take smaller parts then, and say so
        raise
    adapted = set(model.targeted_module_names)
    dead = [path for path in (*report.not_reached, *report.without_gradient) if path in adapted]
    why = _why(report.not_reached, report.without_gradient)
    if dead and len(dead) == len(adapted):
        raise TrainingError(
            f"None of the {len(dead)} adapters would learn anything: {why}. Name other layers in lora.targets "
            "(`lumora inspect` lists them). Is the base run in an inference mode?"
        )
    if dead:
        told(
            f"{len(dead)} of {len(adapted)} adapters do nothing: {why}. They only take room; leave them out with "
            "lora.exclude."
        )
    for path, difference in report.merge_differs.items():
        told(f"The adapter of {path} gives something else once it is merged (off by {difference:.1e}): do not merge.")


def _why(not_reached: list[str], without_gradient: list[str]) -> str:
    reasons = [f"the model does not call {listed(not_reached)}"] if not_reached else []
    reasons += [f"no gradient comes to {listed(without_gradient)}"] if without_gradient else []
    return "; ".join(reasons)
