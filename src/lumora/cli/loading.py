"""Bundles for commands that use their models."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from lumora.errors import InputError

if TYPE_CHECKING:
    import torch

    from lumora.data import Limits
    from lumora.predict import Predictor, Settings


def predictor(
    bundle: str,
    device: str | None = None,
    base: str | None = None,
    limits: Limits | None = None,
    revision: str | None = None,
    allow_other_base: bool = False,
    settings: Settings | None = None,
) -> Predictor:
    """A bundle, ready to predict; a device that is not there is a misuse, and so is what the bundle cannot do."""
    from lumora.bundle import load
    from lumora.predict import Predictor

    where = place(device)
    loaded = load(bundle, base=base, device=where, allow_other_base=allow_other_base, revision=revision)
    with misuses():
        return Predictor(loaded, limits=limits, settings=settings)


def predictors(
    bundles: Sequence[str],
    device: str | None,
    base: str | None,
    limits: Limits | None,
    revision: str | None,
    settings: Settings,
) -> list[Predictor]:
    """Several bundles, which share a base where they can."""
    from lumora.predict import load_several

    where = place(device)
    with misuses():
        return load_several(bundles, device=where, base=base, limits=limits, revision=revision, settings=settings)


@contextmanager
def misuses() -> Generator[None]:
    """What a bundle cannot do, asked for by an option, is a misuse."""
    try:
        yield
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def place(device: str | None) -> torch.device:
    """The device of a name, or the best that there is; one that is not there is a misuse."""
    import torch

    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise typer.BadParameter(f"{device!r} cannot be used here: {reason}", param_hint="--device") from error
