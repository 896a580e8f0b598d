"""Loading a bundle: read and checked completely, on a base that is the very one it was made for."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from lumora.bundle import names
from lumora.bundle.about import About
from lumora.bundle.elsewhere import reader_of
from lumora.bundle.locating import about_folder, bundle_folder, files_of, read_about_in
from lumora.data.durable import check_folder
from lumora.data.sample import TaskName
from lumora.errors import AdapterFileError, BundleError, LumoraError
from lumora.lora import PeftModel, files, hub
from lumora.lora.names import is_inside_any
from lumora.models import Base, load_base

_LISTED = 5


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that was put together from a bundle, in eval mode."""

    model: nn.Module
    about: About
    base: Base
    """Its `module` is the model itself, or what is inside it."""


def read_about(
    folder: str | os.PathLike[str], *, revision: str | None = None, token: str | bool | None = None
) -> About:
    """What a bundle, in a folder or a repository, says of itself; no model is built, and no weights are fetched."""
    return read_about_in(about_folder(folder, hub.HubOptions(revision, token)))


def load(
    folder: str | os.PathLike[str],
    *,
    base: str | nn.Module | None = None,
    device: str | torch.device = "cpu",
    allow_other_base: bool = False,
    task: TaskName | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Loaded:
    """Load a bundle's model, or refuse it with the reason.

    Args:
        folder: the bundle's folder, or the name of its repository on the Hub.
        base: where the base lies now, or the base itself as it was before training (a copy of it is adapted). Needed
            for a base that cannot be loaded by name, or only by running code.
        device: where the model is put.
        allow_other_base: go on where the base's weights are others than in training.
        task: refuse a bundle for any other.
        revision: of a repository, the branch, tag or commit.
        token: for a private repository; the one that you have logged in with if not said.
    """
    home = bundle_folder(folder, hub.HubOptions(revision, token))
    check_whole(home)
    return put_together(home, base=base, device=device, allow_other_base=allow_other_base, task=task)


def check_whole(folder: Path) -> None:
    """Raise if files of a bundle are missing or damaged; those for people alone may be edited."""
    problems = [p for p in check_folder(folder) if not p.startswith(names.FOR_PEOPLE)]
    if problems:
        raise BundleError(
            f"The bundle {folder} is not as it was written; nothing was loaded. Copy or download it again.\n"
            + "\n".join(f"  - {problem}" for problem in problems)
        )


def put_together(
    home: Path,
    *,
    base: str | nn.Module | None,
    device: str | torch.device = "cpu",
    allow_other_base: bool = False,
    task: TaskName | None = None,
) -> Loaded:
    """The same for files that are known to be whole."""
    about = read_about_in(home)
    if task is not None and about.task != task:
        raise BundleError(f"The bundle {home} is for {about.task}, not for {task}.")
    if lacking := [name for name in files_of(about) if not (home / name).is_file()]:
        raise BundleError(f"The bundle {home} has no {', no '.join(lacking)}. Copy or download it again.")
    if (elsewhere := reader_of(about.base.library)) is not None:
        return elsewhere(home, about, base=base, allow_other_base=allow_other_base)
    try:
        tensors = _stored(home, about)
        found = _base_of(about, base, tensors, home)
        check_fingerprint(about, found, home, allow_other_base)
        check_head(found, tensors, about, home)
        model = PeftModel.from_pretrained(found.module, home) if about.method == "lora" else found.module
        if about.method != "lora":
            put_in(model, tensors, whole=about.method == "full")
    except BundleError:
        raise
    except LumoraError as error:
        raise BundleError(f"The bundle {home} cannot be loaded: {error}") from error
    return Loaded(model.to(device).eval(), about, found)


def _stored(home: Path, about: About) -> dict[str, Tensor]:
    """The bundle's tensors under their names in the base."""
    if about.method != "lora":
        return files.read_tensors_of_file(home / names.WEIGHTS)
    read = files.read_adapter(files.Source(home)).tensors
    return {key.removeprefix(files.PREFIX): tensor for key, tensor in read.items()}


# --- the base ---------------------------------------------------------------------------------------------------------


def _base_of(about: About, given: str | nn.Module | None, tensors: dict[str, Tensor], home: Path) -> Base:
    """The base with a head for the bundle's labels: of its name, of another, or the given one."""
    if given is None:
        given = name_to_load(about, home)
    heads = None
    if isinstance(given, nn.Module):
        given = copy.deepcopy(given)
        heads = about.base.heads if _has_head(given, about, tensors) else None
    try:
        return load_base(
            given,
            task=about.task,
            labels=about.labels.names,
            head=about.base.head,
            heads=heads,
            width=about.base.width,
            preprocessing=about.preprocessing,
        )
    except LumoraError as error:
        where = f" It came from {about.base.source}." if about.base.source else ""
        raise BundleError(
            f"The base of the bundle {home} could not be loaded: {error}{where} If it lies elsewhere, say where: "
            "base='path/or/repository'"
        ) from error


def name_to_load(about: About, home: Path) -> str:
    """The base's name, unless it has none or loading it would run code that a bundle may not choose."""
    name, library = about.base.name, about.base.library
    if library == "module":
        raise BundleError(f"The bundle {home} is for a {name} that was given ready; give it again: base=model")
    if library == "python" or name.startswith("python:"):
        raise BundleError(
            f"The base of the bundle {home} is {name!r}, a function to be called. A bundle cannot ask for that; if you "
            f"trust it, say so: base={name!r}"
        )
    return name


def _has_head(module: nn.Module, about: About, tensors: dict[str, Tensor]) -> bool:
    """Whether a ready model has the bundle's head already, in all its shapes; then it is left where it is."""
    own = module.state_dict()
    of_head = [name for name in tensors if is_inside_any(name, about.base.heads)]
    return bool(of_head) and all(name in own and own[name].shape == tensors[name].shape for name in of_head)


def check_fingerprint(about: About, found: Base, home: Path, allow_other_base: bool) -> None:
    """Raise if a base has other weights than the one that the bundle was made on."""
    wanted, name = about.base.fingerprint, about.base.name
    if found.fingerprint == wanted or allow_other_base:
        return
    raise BundleError(
        f"The bundle {home} was made on {name!r} with the fingerprint {wanted}, but {found.name!r} has "
        f"{found.fingerprint}: its weights are others, and what the adapted model says would be wrong. Give the base "
        "as it was (base=...), or allow_other_base=True to use this one all the same."
    )


# --- what was trained -------------------------------------------------------------------------------------------------


def check_head(found: Base, tensors: dict[str, Tensor], about: About, home: Path) -> None:
    """Raise if a tensor of the head is not in the bundle: the base's own would be a fresh one."""
    wanted = [n for n in found.module.state_dict() if is_inside_any(n, found.heads)]
    lacking = [name for name in wanted if name not in tensors]
    if lacking:
        raise BundleError(
            f"The bundle {home} lacks {len(lacking)} tensors of the head for {about.task}: {_listed(lacking)}. With a "
            "fresh head its answers would be chance; nothing was loaded."
        )


def put_in(module: nn.Module, tensors: Mapping[str, Tensor], *, whole: bool) -> None:
    """Copy tensors into a module under their names in its state dict, all of them or none."""
    own: dict[str, Tensor] = module.state_dict()
    problems = [f"{name}: the base has no such tensor" for name in tensors if name not in own]
    problems += [
        f"{name}: {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in tensors.items()
        if name in own and own[name].shape != tensor.shape
    ]
    if whole:
        problems += [f"{name}: missing" for name in own if name not in tensors]
    if problems:
        raise AdapterFileError(f"The tensors do not fit {type(module).__name__}: {_listed(problems)}.")
    module.load_state_dict(tensors, strict=False)


def _listed(lines: list[str]) -> str:
    more = f" and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
    return "; ".join(lines[:_LISTED]) + more
