"""Bundles for commands that use their models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lumora.data import Limits
    from lumora.predict import Predictor


def predictor(
    bundle: str,
    device: str | None = None,
    base: str | None = None,
    limits: Limits | None = None,
    revision: str | None = None,
    allow_other_base: bool = False,
) -> Predictor:
    """A bundle, ready to predict; a device that is not there is a misuse."""
    import torch

    from lumora.predict import load

    try:
        place = None if device is None else torch.zeros(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise typer.BadParameter(f"{device!r} cannot be used here: {reason}", param_hint="--device") from error
    return load(bundle, device=place, base=base, limits=limits, revision=revision, allow_other_base=allow_other_base)
