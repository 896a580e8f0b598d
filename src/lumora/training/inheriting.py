"""What a training that begins from a bundle takes over where nothing else is asked for: base, head and adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from lumora.bundle import About, read_about
from lumora.bundle.elsewhere import check_in_torch
from lumora.bundle.reading import name_to_load
from lumora.data import Source
from lumora.data.labels import Labels, listed
from lumora.errors import RecipeError
from lumora.lora import LoraConfig, files
from lumora.lora.config import moves_base
from lumora.lora.names import ends_with, is_inside_any
from lumora.paths import at_home
from lumora.training.recipe import Recipe, asked_of, parse_asked
from lumora.training.schema import asked as asking
from lumora.training.schema.asked import Values
from lumora.training.schema.telling import raise_all, told

_IN_CONFIG = {
    "lora.r": "r",
    "lora.alpha": "lora_alpha",
    "lora.rslora": "use_rslora",
    "lora.dora": "use_dora",
    "lora.rank_pattern": "rank_pattern",
    "lora.alpha_pattern": "alpha_pattern",
    "lora.bias": "bias",
    "lora.start": "init_lora_weights",
}
"""What decides what an adapter's tensors mean, and must be the same."""
_PATTERNS = ("lora.rank_pattern", "lora.alpha_pattern")
_ELSEWHERE = ("lora.r", "lora.alpha")
"""What holds for the layers that no pattern names."""
_ASIDE = ("base.name", "base.drop_path", "lora.start")
"""Keys of these sections that are asked elsewhere, or say nothing of what the bundle's tensors are."""
_OF_LAYERS = {"lora.targets": "target_modules", "lora.exclude": "exclude_modules"}
"""What a recipe says in other words; a bundle that no recipe has made has the configuration's alone."""


def inherited(asked: Recipe, source: Source) -> Recipe:
    """What the bundle of `train.start_from` says of the keys that nobody has asked for; an error if it is of others."""
    bundle = asked.train.start_from
    if bundle is None:
        return Recipe()
    about, wished = read_about(bundle), asked_of(asked)
    check_in_torch(about, bundle)
    config = _config_of(bundle, about)
    _check_alike(bundle, about, config, wished, source)
    said = _of_recipe(about)
    values = {**said, **_of_bundle(about, config, said)}
    if "base.name" not in wished:
        values["base.name"] = name_to_load(about, Path(bundle))
    return parse_asked({key: value for key, value in values.items() if key not in wished})


def check_still_alike(bundle: str, recipe: Recipe, source: Source) -> About:
    """What a bundle says of itself; an error if it is not what the recipe was chosen for, nor are the data."""
    about = read_about(bundle)
    _check_alike(bundle, about, _config_of(bundle, about), asked_of(recipe), source)
    return about


def refuse_others(bundle: str, others: Mapping[str, tuple[str, str]]) -> NoReturn:
    """An error that tells everything in which the bundle, named first, and the training are not the same."""
    problems = [f"{what}: {there} in the bundle, {here} here" for what, (there, here) in others.items()]
    raise RecipeError(
        f"This training cannot begin from {bundle} (train.start_from):\n"
        + "\n".join(f"- {problem}" for problem in problems)
        + "\nLeave these keys to be chosen, take the recipe of the bundle's own run, or leave train.start_from out."
    )


def _told_apart(there: Labels, here: Labels) -> tuple[str, str]:
    pair = listed(there.names), listed(here.names)
    return pair if there.names == here.names or pair[0] != pair[1] else ("others", pair[1])


def _check_alike(
    bundle: str, about: About, config: LoraConfig | None, wished: Mapping[str, object], source: Source
) -> None:
    method = wished.get("train.method", about.method)
    pairs = {
        "task": (about.task, source.task),
        "labels": _told_apart(about.labels, source.labels),
        "what is trained": (about.method, str(method)),
    }
    others = {what: pair for what, pair in pairs.items() if pair[0] != pair[1]}
    if config is not None and method == about.method:
        others |= {key: (told(there), told(here)) for key, there, here in _other_values(about, config, wished)}
    if others:
        refuse_others(bundle, others)


def _other_values(
    about: About, config: LoraConfig, wished: Mapping[str, object]
) -> Iterator[tuple[str, object, object]]:
    """Where what decides the meaning of tensors is not the same: key, value of the bundle, value that is wished."""
    values, said = _values(config, _IN_CONFIG), _of_recipe(about)
    # The configuration has today's names of the layers, the recipe those that were asked for.
    named_otherwise = _PATTERNS if all(said.get(key) == values[key] for key in _ELSEWHERE) else ()
    for key, there in values.items():
        here = wished.get(key, there)
        if key in named_otherwise and here == said.get(key, {}):
            continue
        # Where others than these begin is forgotten: the base is as it is for them.
        counts = key != "lora.start" or moves_base(there) or moves_base(here)
        if counts and here != there and (here or there):  # an empty pattern is none
            yield key, there, here


def _config_of(bundle: str, about: About) -> LoraConfig | None:
    return files.read_config(at_home(bundle)) if about.method == "lora" else None


def _of_recipe(about: About) -> Values:
    """What the recipe says that has made the bundle, if one has; a newer version's keys and values are left out."""
    sections = {name: about.recipe[name] for name in ("base", "lora") if name in about.recipe}
    values, _ = asking.checked(sections, texts=False)
    return {key: value for key, value in values.items() if key not in _ASIDE and value is not asking.UNASKED}


def _of_bundle(about: About, config: LoraConfig | None, said: Values) -> Values:
    """What the bundle itself says, which holds whatever has made it; of its layers, what its recipe has not said."""
    values: Values = {"base.head": about.base.head, "base.width": about.base.width, "train.method": about.method}
    if config is None:
        return values
    values |= _values(config, _IN_CONFIG)
    if not config.moves_base:
        del values["lora.start"]
    values |= _values(config, {key: field for key, field in _OF_LAYERS.items() if key not in said})
    if "lora.norms" not in said:
        values["lora.norms"] = not all(_of_head(name, about.base.heads) for name in config.modules_to_save or ())
    return values


def _of_head(name: str, heads: Sequence[str]) -> bool:
    """Whether an entry of `modules_to_save`, a path or the end of one, means a head or what lies in it."""
    return is_inside_any(name, heads) or any(ends_with(head, name) for head in heads)


def _values(config: LoraConfig, fields: Mapping[str, str]) -> Values:
    """What an adapter's configuration says, as a recipe's values; an error if no recipe can say it."""
    given = {key: getattr(config, field) for key, field in fields.items()}
    listed = {key: sorted(value) or None if isinstance(value, set) else value for key, value in given.items()}
    values, problems = asking.checked(listed, texts=False)
    raise_all(problems, "adapter of the bundle in train.start_from")
    return values
