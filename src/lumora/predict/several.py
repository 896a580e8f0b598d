"""Several bundles put to work beside each other; those that were made on one base share it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from lumora.bundle import About, Loaded
from lumora.bundle import load as load_bundle
from lumora.bundle.locating import bundle_folder, read_about_in
from lumora.bundle.reading import check_whole
from lumora.data.reading import Limits
from lumora.errors import BundleError, LumoraError
from lumora.lora import LoraConfig, PeftModel
from lumora.lora.files import read_config
from lumora.lora.hub import HubOptions
from lumora.predict.predictor import Predictor
from lumora.predict.settings import Settings


def load_several(
    bundles: Sequence[str | os.PathLike[str]],
    *,
    device: str | torch.device | None = None,
    base: str | nn.Module | None = None,
    allow_other_base: bool = False,
    limits: Limits | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    settings: Settings | None = None,
) -> list[Predictor]:
    """A predictor for each bundle; they predict what they predict alone.

    Bundles of adapters on the same base with the same number of labels hold it once in memory; each costs its adapters
    and its head. Any other bundle brings its own model, and so does one whose training changed the base itself, such as
    its biases.

    Args:
        bundles: folders, or names of repositories on the Hub.
        device: as for `lumora.load`, as are all others.
        base: where the base of all of them lies now.
        allow_other_base: go on where the base's weights are others than in training.
        limits: larger pictures are refused before they are decoded.
        revision: of all of them, which must be repositories then.
        token: for private repositories.
        settings: how they predict.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    homes = [bundle_folder(bundle, HubOptions(revision, token)) for bundle in bundles]
    found: list[tuple[Loaded, str | None]] = []
    for number, home in enumerate(homes):
        about = read_about_in(home)
        shared = next((loaded for loaded, _ in found if _fits(about, home, loaded)), None)
        if shared is None:
            loaded = load_bundle(home, base=base, device=device, allow_other_base=allow_other_base)
            active = loaded.model.active_adapters[0] if isinstance(loaded.model, PeftModel) else None
            found.append((loaded, active))
        else:
            found.append((_added(shared, about, home, f"bundle_{number}", device), f"bundle_{number}"))
    return [Predictor(loaded, limits=limits, settings=settings, adapter=adapter) for loaded, adapter in found]


def _fits(about: About, home: Path, loaded: Loaded) -> bool:
    """Whether a bundle's adapters can be put beside those of a loaded one, and neither changes what the other says."""
    one, other = about.base, loaded.about.base
    if not isinstance(loaded.model, PeftModel) or about.method != "lora" or one.fingerprint is None:
        return False
    same = ("name", "fingerprint", "head", "width", "library", "heads")
    alike = all(getattr(one, name) == getattr(other, name) for name in same)
    if not alike or about.task != loaded.about.task or len(about.labels) != len(loaded.about.labels):
        return False
    return all(map(_leaves_base_alone, (*loaded.model.peft_config.values(), read_config(home))))


def _leaves_base_alone(config: LoraConfig) -> bool:
    return config.bias == "none" and config.batch_norm == "frozen" and not config.moves_base


def _added(shared: Loaded, about: About, home: Path, name: str, device: str | torch.device) -> Loaded:
    """The same model with one adapter more."""
    model = shared.model
    assert isinstance(model, PeftModel)
    check_whole(home)
    try:
        model.load_adapter(home, name)
    except LumoraError as error:
        raise BundleError(f"The bundle {home} cannot be put on the base of the one before it: {error}") from error
    model.to(device).eval()
    return Loaded(model, about, shared.base)
