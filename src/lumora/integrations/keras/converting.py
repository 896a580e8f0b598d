"""A bundle of one framework, written again as one of the other."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from lumora.bundle import BaseReference, Loaded, load, written_and_verified
from lumora.bundle.about import installed_versions
from lumora.errors import BundleError
from lumora.integrations.keras.applying import is_adapted
from lumora.integrations.keras.bases import keras_versions, reference_to
from lumora.integrations.keras.bundles import save_bundle
from lumora.integrations.keras.crossing import from_torch, with_whole_heads
from lumora.integrations.keras.in_torch import InTorch
from lumora.models import load_base


def convert_bundle(
    bundle: str | os.PathLike[str], out: str | os.PathLike[str], *, to: str | None = None, base: Any = None
) -> None:
    """Write a Keras bundle as a torch one, or a torch bundle as a Keras one, verified as any other.

    Knows the models that `to_torch` and `from_torch` know. What was measured is taken over; measure again where a
    SegFormer computes with another GELU.

    Args:
        bundle: a folder, or the name of a repository on the Hub.
        out: the folder of the new bundle.
        to: the name of the new bundle's base. A torch bundle needs one, such as "google/vit-base-patch16-224". Without
            `keras:` and a file or preset, whoever loads a Keras bundle gives the base.
        base: the base of `bundle`, where it has no name or lies elsewhere.
    """
    loaded = load(bundle, base=base)
    if isinstance(loaded.model, InTorch):
        _write_in_torch(loaded, loaded.model, out, to)
    else:
        _write_in_keras(loaded, out, to)


def _write_in_torch(loaded: Loaded, model: InTorch, out: str | os.PathLike[str], to: str | None) -> None:
    if to is None:
        raise BundleError("A torch bundle needs the name of its base: to='google/vit-base-patch16-224', or a folder.")
    known = load_base(to, task=loaded.about.task, labels=loaded.about.labels.names)
    about = replace(loaded.about, base=BaseReference.of(known), versions=installed_versions())
    # The whole head goes into the bundle, whatever was trained of it: a base that is loaded again has a fresh one.
    written_and_verified(out, with_whole_heads(model.keras_model, known.heads), about)


def _write_in_keras(loaded: Loaded, out: str | os.PathLike[str], to: str | None) -> None:
    model = from_torch(loaded.model, side=loaded.about.size[0])
    about = replace(
        loaded.about,
        base=reference_to(model, to),
        method="lora" if is_adapted(model) else "full",
        versions=keras_versions(),
    )
    save_bundle(out, model, about)
