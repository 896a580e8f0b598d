"""What a training that begins from a bundle takes over where nothing else is asked for: base, head and adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lumora.bundle import About, read_about
from lumora.bundle.elsewhere import check_in_torch
from lumora.bundle.reading import name_to_load
from lumora.data import Source
from lumora.data.labels import Labels, listed
from lumora.errors import RecipeError
from lumora.lora import LoraConfig, files
from lumora.training.recipe import Recipe, asked_of, parse_asked
from lumora.training.schema import asked as asking
from lumora.training.schema.asked import Values
from lumora.training.schema.telling import told

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
_ASIDE = ("base.name", "base.drop_path")
"""Keys of these sections that are asked elsewhere, or say nothing of what the bundle's tensors are."""
_OF_LAYERS = {"lora.targets": "target_modules", "lora.exclude": "exclude_modules"}
"""What a recipe may say in other words; a bundle that no training has written has the configuration's alone."""


def inherited(asked: Recipe, source: Source) -> Recipe:
    """What the bundle of `train.start_from` says of the keys that nobody has asked for; an error if it is of others."""
    bundle = asked.train.start_from
    if bundle is None:
        return Recipe()
    about, wished = read_about(bundle), asked_of(asked)
    check_in_torch(about, bundle)
    config = _config_of(bundle, about)
    _check_alike(bundle, about, config, wished, source)
    values = _of(about, config)
    if "base.name" not in wished:
        values["base.name"] = name_to_load(about, Path(bundle))
    return parse_asked({key: value for key, value in values.items() if key not in wished})


def check_still_alike(bundle: str, recipe: Recipe, source: Source) -> About:
    """What a bundle says of itself; an error if it is not what the recipe was chosen for, nor are the data."""
    about = read_about(bundle)
    _check_alike(bundle, about, _config_of(bundle, about), asked_of(recipe), source)
    return about


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


def _check_alike(
    bundle: str, about: About, config: LoraConfig | None, wished: Mapping[str, object], source: Source
) -> None:
    method = wished.get("train.method", about.method)
    pairs = {
        "task": (about.task, source.task),
        "labels": _told_apart(about.labels, source.labels),
        "what is trained": (about.method, str(method)),
    }
    if config is not None and method == about.method:
        pairs |= {key: (told(there), told(here)) for key, there, here in _decisive(config, wished)}
    refuse_others(bundle, pairs)


def _decisive(config: LoraConfig, wished: Mapping[str, object]) -> Iterator[tuple[str, object, object]]:
    """What decides what the tensors mean: key, value of the bundle, value that is wished."""
    for key, there in _values(config, _IN_CONFIG).items():
        here = wished.get(key, there)
        # All others begin with the base as it is, and where they begin is forgotten here.
        if key != "lora.start" or config.moves_base or LoraConfig(init_lora_weights=here).moves_base:  # type: ignore[arg-type]
            yield key, there or None, here or None  # an empty pattern is none


def _config_of(bundle: str, about: About) -> LoraConfig | None:
    return files.read_config(Path(bundle).expanduser()) if about.method == "lora" else None


def _of(about: About, config: LoraConfig | None) -> Values:
    sections = {name: about.recipe[name] for name in ("base", "lora") if name in about.recipe}
    values, _ = asking.checked(sections, texts=False)  # a newer version's keys are left out
    if config is not None:
        values = _values(config, _OF_LAYERS) | values | _values(config, _IN_CONFIG)
        if not config.moves_base:
            del values["lora.start"]
    values = {key: value for key, value in values.items() if key not in _ASIDE}
    own = {"base.head": about.base.head, "base.width": about.base.width, "train.method": about.method}
    return {**values, **own}


def _values(config: LoraConfig, fields: Mapping[str, str]) -> Values:
    """What an adapter's configuration says, as a recipe's values."""
    given = {key: getattr(config, field) for key, field in fields.items()}
    return asking.checked({k: sorted(v) if isinstance(v, set) else v for k, v in given.items()}, texts=False)[0]
