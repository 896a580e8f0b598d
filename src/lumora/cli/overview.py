"""What was found and chosen, in a few lines before a training begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lumora.data.labels import listed

if TYPE_CHECKING:
    from lumora.training.events import Opened
    from lumora.training.recipe import Recipe

_LABELS_SHOWN = 6


def lines(opened: Opened) -> Iterator[str]:
    """The data, the base, what is trained, for how long, where it goes, and how to say otherwise."""
    recipe, source = opened.recipe, opened.source
    splits = {"train": "to learn from", "validation": "for validation", "test": "for a test"}
    counts = [f"{len(samples):,} {splits.get(name, name)}" for name, samples in source.splits.items()]
    yield _line("data", f"{recipe.data.path or 'at hand'} ({source.layout}): {source.task}")
    yield _line("", f"pictures: {', '.join(counts)}")
    yield _line("", f"{len(source.labels):,} labels: {listed(source.labels.names, _LABELS_SHOWN)}")
    yield _line("base", recipe.base.name or "")
    yield _line("method", _method(recipe))
    yield _line("epochs", _epochs(recipe) + _why(opened, "train.epochs"))
    yield _line("run", f"{opened.folder}{_why(opened, 'run.out')}")
    yield _line("", f"{opened.folder}/recipe.yaml has every choice; `lumora train --help-all` says how to make others.")
    if weights := _why(opened, "loss.class_weights"):
        yield _line("", f"loss.class_weights={recipe.loss.class_weights}{weights}")


def _method(recipe: Recipe) -> str:
    others = {
        "full": "full: all weights",
        "head": "head: the head alone",
        "scratch": "scratch: all weights, from random ones",
    }
    magnitudes = ", with magnitudes (DoRA)," if recipe.lora.dora else ""
    return others.get(str(recipe.train.method), f"lora: adapters of rank {recipe.lora.r}{magnitudes} and the head")


def _epochs(recipe: Recipe) -> str:
    train = recipe.train
    limit = "" if train.max_time is None else f", at most {train.max_time:g} s"
    return f"{train.epochs:,}, with {train.batch_size:,} pictures a step{limit}"


def _why(opened: Opened, key: str) -> str:
    """The reason for a value that was found from data, base or machine."""
    origin = opened.origins.get(key)
    return f" ({origin.why})" if origin is not None and origin.how == "detected" else ""


def _line(name: str, text: str) -> str:
    return f"{name:<8} {text}"
