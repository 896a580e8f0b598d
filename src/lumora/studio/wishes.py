"""What is asked of a training on the page, as settings of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lumora.errors import RecipeError
from lumora.training.recipe import parse_asked
from lumora.training.schema.asked import split_settings

CHOSEN = "chosen for you"
"""Stands for a choice that is left to Lumora."""
METHODS = {
    "Adapters and a head (LoRA)": "lora",
    "The head alone": "head",
    "All weights": "full",
}


@dataclass(frozen=True)
class Wishes:
    """The form, as it was filled in; what is empty is chosen by Lumora."""

    base: str | None = None
    method: str | None = None
    epochs: str | None = None
    rank: str | None = None
    batch_size: str | None = None
    rate: str | None = None
    size: str | None = None
    max_time: str | None = None
    start_from: str | None = None
    more: str | None = None
    """Lines such as `lora.dropout=0.1`."""


def settings_of(wishes: Wishes) -> dict[str, str]:
    """The settings that were asked for, as texts; an error tells everything that cannot be.

    >>> settings_of(Wishes(epochs="3", method="The head alone", more="train.seed=1"))
    {'train.method': 'head', 'train.epochs': '3', 'train.seed': '1'}
    """
    method = None if not wishes.method or wishes.method == CHOSEN else METHODS[wishes.method]
    asked = {
        "base.name": _text(wishes.base),
        "train.method": method,
        "train.epochs": _text(wishes.epochs),
        "lora.r": _text(wishes.rank),
        "train.batch_size": _text(wishes.batch_size),
        "train.rate": _text(wishes.rate),
        "pictures.size": _text(wishes.size),
        "train.max_time": _text(wishes.max_time),
        "train.start_from": _text(wishes.start_from),
    }
    given = {key: value for key, value in asked.items() if value is not None}
    typed = split_settings(_lines(wishes.more))
    if both := sorted(given.keys() & typed.keys()):
        raise RecipeError(f"{both[0]} is said twice: in a field of its own and among the other settings.")
    settings = {**given, **typed}
    parse_asked(settings)  # tells what cannot be
    return settings


def _lines(text: str | None) -> Sequence[str]:
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


def _text(value: str | None) -> str | None:
    text = (value or "").strip()
    return None if not text or text == CHOSEN else text
