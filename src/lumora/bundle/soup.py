"""Soups: one bundle out of several with the same labels, by averaging what they have learnt.

Adapters are added exactly, each with its weight: the update of every layer is the mean of theirs, for the ranks
together, or cut down to fewer. Heads, all that was trained as a whole and statistics of batch norms are averaged number
by number. Nothing says that a soup is good but a measurement.
"""

from __future__ import annotations

import dataclasses
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lumora.bundle import names
from lumora.bundle.about import About, installed_versions
from lumora.bundle.elsewhere import check_in_torch
from lumora.bundle.locating import bundle_folder, read_about_in
from lumora.bundle.reading import check_whole, put_in, put_together
from lumora.bundle.verify import written_and_verified
from lumora.errors import BundleError, LumoraError
from lumora.lora import PeftModel, files, get_peft_model
from lumora.lora.inject import wrappers
from lumora.lora.saved import ModulesToSaveWrapper
from lumora.paths import at_home

_ALIKE = {
    "task": "tasks",
    "method": "methods",
    "labels": "labels",
    "base": "bases",
    "size": "sizes of pictures",
    "preprocessing": "preprocessing",
}
_SOUP = "soup"


def soup(
    bundles: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    weights: Sequence[float] | None = None,
    rank: int | None = None,
    base: str | nn.Module | None = None,
) -> Path:
    """Write a bundle that is the mean of several; it takes its place only once it was verified.

    Args:
        bundles: folders, or names of repositories on the Hub: of one task, with the same labels, on the same base.
        out: the folder of the new bundle.
        weights: how much each counts; all alike if not said. They are divided by their sum.
        rank: cut every layer's update down to this rank, by its largest singular values. If not said, the ranks add up
            and nothing is lost.
        base: where the base lies now, or the base itself as it was before training.
    """
    homes = [bundle_folder(bundle) for bundle in bundles]
    abouts = [read_about_in(home) for home in homes]
    for bundle, about in zip(bundles, abouts, strict=True):
        check_in_torch(about, bundle)
    shares = shares_of(weights, len(homes))
    _check_alike(bundles, abouts, rank)
    for home in homes:
        check_whole(home)
    about = _about(abouts, [_name(bundle) for bundle in bundles], shares, rank)
    target = at_home(out)
    if about.method == "lora":
        model = _mixed_adapters(homes, shares, rank, base)
        written_and_verified(target, model, about, base=base)
    else:
        model = put_together(homes[0], base=base).model
        tensors = _mixed_tensors(homes, shares)
        put_in(model, tensors, whole=about.method == "full")
        written_and_verified(target, model, about, trained=tensors, base=base)
    return target


def shares_of(weights: Sequence[float] | None, count: int) -> list[float]:
    """How much of the whole each of so many bundles is."""
    if count < 2:
        raise BundleError("A soup is made of two bundles or more.")
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(given) != count:
        raise BundleError(f"There are {count} bundles and {len(given)} weights; give one weight for each.")
    if min(given) < 0 or not 0 < sum(given) < math.inf:
        raise BundleError(f"The weights are {given}; they must be numbers, must not be negative, and not all 0.")
    return [weight / sum(given) for weight in given]


def _check_alike(bundles: Sequence[str | os.PathLike[str]], abouts: Sequence[About], rank: int | None) -> None:
    """Raise unless a mean of them makes sense."""
    for field, words in _ALIKE.items():
        for bundle, about in zip(bundles[1:], abouts[1:], strict=True):
            one, other = (_compared(each, field) for each in (abouts[0], about))
            if one != other:
                raise BundleError(
                    f"{bundles[0]} and {bundle} have other {words} ({_short(one)} and {_short(other)}); a soup is made "
                    "of bundles that differ in what they have learnt alone."
                )
    if rank is not None and abouts[0].method != "lora":
        raise BundleError("rank is of adapters, and these bundles have none; leave it out.")


def _compared(about: About, field: str) -> object:
    if field == "labels":
        return about.labels.names
    if field == "base":
        base = about.base
        return base.name, base.fingerprint, base.head, base.width, base.heads
    return getattr(about, field)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _about(abouts: Sequence[About], bundles: Sequence[str], shares: Sequence[float], rank: int | None) -> About:
    """What is said of the soup: nothing was measured, and the data are read and divided as for all of them."""
    thresholds = [about.threshold for about in abouts if about.threshold is not None]
    all_say = len(thresholds) == len(abouts)
    mean = sum(t * s for t, s in zip(thresholds, shares, strict=True)) if all_say else None
    first, *others = (_data(about) for about in abouts)
    data = {key: value for key, value in first.items() if all(key in o and o[key] == value for o in others)}
    return dataclasses.replace(
        abouts[0],
        threshold=mean,
        metrics={},
        per_class={},
        recipe={
            **({"data": data} if data else {}),
            _SOUP: {"bundles": list(bundles), "weights": list(shares), "rank": rank},
        },
        recipe_hash="",
        versions=installed_versions(),
    )


def _data(about: About) -> dict[str, Any]:
    """What the recipe says of its data, if it says anything."""
    said = about.recipe.get("data")
    return dict(cast("Mapping[str, Any]", said)) if isinstance(said, Mapping) else {}


def _name(bundle: str | os.PathLike[str]) -> str:
    path = Path(bundle)
    return f"{path.parent.name}/{path.name}" if path.name == "bundle" else str(bundle)


# --- adapters ---------------------------------------------------------------------------------------------------------


def _mixed_adapters(
    homes: Sequence[Path], shares: Sequence[float], rank: int | None, base: str | nn.Module | None
) -> PeftModel:
    """The base with one adapter: the mean of those in the bundles."""
    _check_mixable(homes)
    with tempfile.TemporaryDirectory() as folder:
        places = [_for_whole_base(home, Path(folder, str(number)), base) for number, home in enumerate(homes)]
        model = put_together(places[0], base=base).model
        assert isinstance(model, PeftModel)
        _mix(model, places, shares, rank)
    return model.eval()


def _check_mixable(homes: Sequence[Path]) -> None:
    """Raise where adapters have changed the base itself, which a model holds once, in a way that has no mean."""
    configs = [files.read_config(home) for home in homes]
    if with_bias := [home for home, config in zip(homes, configs, strict=True) if config.bias != "none"]:
        raise BundleError(
            f'These bundles cannot be mixed: {with_bias[0]} has trained biases of the base (bias="lora_only" or '
            '"all"), of which a model holds one set only.'
        )
    saved = {config.batch_norm: home for home, config in zip(homes, configs, strict=True)}
    if len(saved) > 1:
        raise BundleError(
            f"These bundles cannot be mixed: {saved['saved']} has statistics of the base's batch norms from its own "
            f'training (batch_norm="saved"), and {saved["frozen"]} has the base\'s; mix bundles that are alike in this.'
        )


def _for_whole_base(home: Path, place: Path, base: str | nn.Module | None) -> Path:
    """A folder with the bundle's adapter for the base as it is.

    PiSSA and OLoRA begin by taking part of the base into the adapter. What was learnt since then is an ordinary adapter
    of twice the rank.
    """
    config = files.read_config(home)
    if not config.moves_base:
        return home
    shutil.copytree(home, place)
    files.write_config(dataclasses.replace(config, init_lora_weights=True), place)
    model = put_together(place, base=base).model
    assert isinstance(model, PeftModel)
    adapted = get_peft_model(model.unload(), config)
    adapted.save_pretrained(place / "start")
    adapted.load_adapter(home, files.DEFAULT)
    adapted.save_pretrained(place, path_initial_model_for_weight_conversion=str(place / "start"))
    return place


def _mix(model: PeftModel, homes: Sequence[Path], shares: Sequence[float], rank: int | None) -> None:
    """Leave one adapter in a model that holds the first: the mean of all."""
    all_names = [model.active_adapters[0], *(f"{_SOUP}_{number}" for number in range(1, len(homes)))]
    norms = list(files.frozen_norms(model.get_base_model()))
    try:
        statistics = [_statistics(norms)]
        for name, home in zip(all_names[1:], homes[1:], strict=True):
            model.load_adapter(home, name)
            statistics.append(_statistics(norms))
        _put_statistics(norms, _mean(statistics, shares))
        _mix_modules(model, all_names, shares)
        mixed = f"{_SOUP}_whole" if rank is not None else _SOUP
        model.add_weighted_adapter(all_names, list(shares), mixed, combination_type="cat")
        if rank is not None:
            model.compress_adapter(mixed, _SOUP, rank=rank)
            all_names.append(mixed)
        model.set_adapter(_SOUP)
        for name in all_names:
            model.delete_adapter(name)
    except LumoraError as error:
        raise BundleError(f"These bundles cannot be mixed: {error}") from error


def _statistics(norms: Sequence[nn.Module]) -> dict[str, Tensor]:
    """What batch norms of the base have seen; an adapter that brings its own puts them there when it is loaded."""
    return {f"{i}.{name}": value.clone() for i, norm in enumerate(norms) for name, value in norm.named_buffers()}


def _put_statistics(norms: Sequence[nn.Module], statistics: Mapping[str, Tensor]) -> None:
    for i, norm in enumerate(norms):
        for name, value in norm.named_buffers():
            value.copy_(statistics[f"{i}.{name}"])


@torch.no_grad()
def _mix_modules(model: PeftModel, adapters: Sequence[str], shares: Sequence[float]) -> None:
    """What every adapter has trained whole, averaged into the first one's; the others lose theirs."""
    for wrapper in list(wrappers(model)):
        if not isinstance(wrapper, ModulesToSaveWrapper):
            continue
        have = [name for name in adapters if name in wrapper.modules_to_save]
        if have and have != list(adapters):
            raise BundleError("They have not trained the same modules whole (modules_to_save).")
        if have:
            states = [wrapper.modules_to_save[name].state_dict() for name in have]
            wrapper.modules_to_save[have[0]].load_state_dict(_mean(states, shares))
            for name in have[1:]:
                wrapper.remove(name)


# --- tensors ----------------------------------------------------------------------------------------------------------


def _mixed_tensors(homes: Sequence[Path], shares: Sequence[float]) -> dict[str, Tensor]:
    states = [files.read_tensors_of_file(home / names.WEIGHTS) for home in homes]
    for home, state in zip(homes[1:], states[1:], strict=True):
        if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in states[0].items()}:
            raise BundleError(f"{home} holds other tensors than {homes[0]}; they have not trained the same modules.")
    return _mean(states, shares)


def _mean(states: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The weighted mean of tensors; of whole numbers, such as counts of batches, the first one's."""

    def mixed(name: str, first: Tensor) -> Tensor:
        if not first.is_floating_point():
            return first
        total = sum(share * state[name].double() for share, state in zip(shares, states, strict=True))
        assert isinstance(total, Tensor)
        return total.to(first.dtype)

    return {name: mixed(name, first) for name, first in states[0].items()}
