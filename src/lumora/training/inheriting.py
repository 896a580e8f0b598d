"""What a training that begins from a bundle takes over where nothing else is asked for: base, head and adapters."""

from __future__ import annotations

from collections.abc import Mapping

from lumora.bundle import About, read_about
from lumora.data import Source
from lumora.data.labels import Labels, listed
from lumora.errors import RecipeError
from lumora.training.recipe import Recipe, asked_of, parse_asked
from lumora.training.schema import asked as asking
from lumora.training.schema.asked import Values

_DECIDES_OTHERS = ("base.drop_path", "lora.start")
"""Keys of these sections that say nothing of what the bundle's tensors are."""


def inherited(asked: Recipe, source: Source) -> Recipe:
    """What the bundle of `train.start_from` says of the keys that nobody has asked for; an error if it is of others."""
    bundle = asked.train.start_from
    if bundle is None:
        return Recipe()
    about, wished = read_about(bundle), asked_of(asked)
    pairs = {
        "task": (about.task, source.task),
        "labels": _told_apart(about.labels, source.labels),
        "what is trained": (about.method, wished.get("train.method", about.method)),
    }
    refuse_others(bundle, pairs)
    return parse_asked({key: value for key, value in _of(about).items() if key not in wished})


def refuse_others(bundle: str, pairs: Mapping[str, tuple[str, str]]) -> None:
    """An error that tells everything in which the bundle, named first, and the training are not the same."""
    problems = [f"{what}: {there} in the bundle, {here} here" for what, (there, here) in pairs.items() if there != here]
    if problems:
        raise RecipeError(
            f"This training cannot begin from {bundle} (train.start_from):\n"
            + "\n".join(f"- {problem}" for problem in problems)
            + "\nLeave these keys to be chosen, take the recipe of the bundle's own run, or leave train.start_from out."
        )


def _told_apart(there: Labels, here: Labels) -> tuple[str, str]:
    pair = listed(there.names), listed(here.names)
    return pair if there.names == here.names or pair[0] != pair[1] else ("others", pair[1])


def _of(about: About) -> Values:
    sections = {name: about.recipe[name] for name in ("base", "lora") if name in about.recipe}
    values, _ = asking.checked(sections, texts=False)  # a newer version's keys are left out
    values |= {"base.name": asking.UNASKED if about.base.is_nameless else about.base.name, "train.method": about.method}
    return {key: value for key, value in values.items() if key not in _DECIDES_OTHERS}
