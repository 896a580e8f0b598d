"""What a training that begins from a bundle takes over where nothing else is asked for: base, head and adapters."""

from __future__ import annotations

from lumora.bundle import About, read_about
from lumora.data import Source
from lumora.training.recipe import Recipe, asked_of, parse_asked
from lumora.training.schema import asked as asking
from lumora.training.schema.asked import Values

_DECIDES_OTHERS = ("base.drop_path", "lora.start")
"""Keys of these sections that say nothing of what the bundle's tensors are."""


def inherited(asked: Recipe, source: Source) -> Recipe:
    """What the bundle of `train.start_from` says of the keys that nobody has asked for.

    Of a bundle with another task or method nothing is taken over; starting tells all that is another.
    """
    bundle = asked.train.start_from
    if bundle is None:
        return Recipe()
    about, wished = read_about(bundle), asked_of(asked)
    if about.task != source.task or about.method != wished.get("train.method", about.method):
        return Recipe()
    return parse_asked({key: value for key, value in _of(about).items() if key not in wished})


def _of(about: About) -> Values:
    sections = {name: about.recipe[name] for name in ("base", "lora") if name in about.recipe}
    values, _ = asking.checked(sections, texts=False)  # a newer version's keys are left out
    values |= {"base.name": asking.UNASKED if about.base.is_nameless else about.base.name, "train.method": about.method}
    return {key: value for key, value in values.items() if key not in _DECIDES_OTHERS}
