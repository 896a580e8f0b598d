"""Checkpoints: all that a training needs to go on with the same bits, as folders that are whole or not there.

checkpoints/
    step-00001200/
        tensors.safetensors
        state.json        {"format": 1, "step": 1200, "state": {…}}
        manifest.json     sizes and SHA-256
    step-00001300/
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from lumora.data.durable import check_folder, remove_folder, write_folder
from lumora.errors import CheckpointError, ConfigError, OutputError

_NAME = re.compile(r"step-(\d{8,})")
_TENSORS, _STATE = "tensors.safetensors", "state.json"
_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a training needs to go on."""

    tensors: dict[str, Tensor]
    state: dict[str, Any]
    """Plain values: what JSON gives back as it was."""


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that is whole."""

    checkpoint: Checkpoint
    step: int
    notes: tuple[str, ...] = ()
    """What was wrong with newer ones, to be told to the user."""


def save(folder: Path, checkpoint: Checkpoint, step: int, keep: int = 2) -> None:
    """Write a checkpoint and, once it is whole on the disk, remove all but the newest `keep` that are whole.

    One of the same step is replaced. Those of later steps go too: they are damaged or of a course that was left. There
    are never more than `keep` and the one that is being written, however often its writer was killed.
    Costs: a copy of the tensors, and reading the checkpoints that stay.
    """
    if keep < 1:
        raise ConfigError(f"keep={keep} would leave no checkpoint; keep at least 1.")
    if problem := _unlike_json(checkpoint.state, "state"):
        raise CheckpointError(f"The state of a checkpoint cannot be saved: {problem}.")
    tensors = {name: _plain(name, tensor) for name, tensor in checkpoint.tensors.items()}
    text = json.dumps({"format": _FORMAT, "step": step, "state": checkpoint.state}) + "\n"

    def write(new: Path) -> None:
        safetensors.torch.save_file(tensors, new / _TENSORS)
        (new / _STATE).write_text(text, encoding="utf-8")

    if len(_saved(folder)) > keep:  # a writer was killed before it removed what is old
        _remove_old(folder, keep)
    place = folder / f"step-{step:08d}"
    if place.exists() and check_folder(place):
        remove_folder(place)  # nobody can tell any more whose it is: it would not be written over
    write_folder(place, write)
    _remove_old(folder, keep, written=step)


def newest(folder: Path) -> Found | None:
    """The newest checkpoint that is whole; None when there are none at all.

    Damaged ones are passed over, which the notes say. Nothing is changed. Costs: reads the checkpoint twice.
    """
    notes: list[str] = []
    for step, path in _saved(folder):
        if problems := check_folder(path):
            notes.append(f"The checkpoint {path} is damaged: {'; '.join(problems)}.")
            continue
        try:
            checkpoint = _read(path, step)
        except CheckpointError as error:
            notes.append(str(error))
            continue
        if notes:
            notes.append(f"The one before, of step {step:,}, is whole and was taken.")
        return Found(checkpoint, step, tuple(notes))
    if notes:
        raise CheckpointError(
            f"No checkpoint in {folder} is whole. {' '.join(notes)} Copy one back from elsewhere, or start a new run "
            "with the same recipe."
        )
    return None


def _saved(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints in a folder, whole or not, the newest first."""
    try:
        found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"The checkpoints in {folder} cannot be listed: {error.strerror}.") from error
    return sorted(found, reverse=True)


def _remove_old(folder: Path, keep: int, written: int | None = None) -> None:
    """Remove all but the newest `keep` that are whole, and those of later steps than the one just written."""
    for step, path in _saved(folder):
        left_behind = written is not None and step > written
        if keep > 0 and not left_behind and (step == written or not check_folder(path)):
            keep -= 1
            continue
        with contextlib.suppress(OutputError):  # a full disk, say: the next time, then
            remove_folder(path)


def _read(path: Path, step: int) -> Checkpoint:
    try:
        saved = json.loads((path / _STATE).read_bytes())
        # Not `load_file`, which leaves the values in the file until they are used.
        tensors = safetensors.torch.load((path / _TENSORS).read_bytes())
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"The checkpoint {path} cannot be read: {error}.") from error
    if not isinstance(saved, dict) or saved.get("format") != _FORMAT:
        kind = saved.get("format") if isinstance(saved, dict) else None
        raise CheckpointError(f"The checkpoint {path} has format {kind}; this version of Lumora reads {_FORMAT}.")
    if saved.get("step") != step or not isinstance(saved.get("state"), dict):
        raise CheckpointError(f"The checkpoint {path} is of step {saved.get('step')}; its folder was renamed.")
    return Checkpoint(tensors, saved["state"])


def _plain(name: str, tensor: Tensor) -> Tensor:
    """A copy: safetensors refuses tensors that share memory or have gaps."""
    if tensor.is_meta or tensor.layout != torch.strided or name == "__metadata__":
        raise CheckpointError(f"The tensor {name!r} of a checkpoint cannot be saved: it has no values of its own.")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _unlike_json(value: object, where: str) -> str | None:
    """The first value that would not come back as it was, in words."""
    if value is None or isinstance(value, bool | int | float | str):
        return None
    if isinstance(value, list):
        found = (_unlike_json(item, f"{where}[{i}]") for i, item in enumerate(value))
    elif isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        found = (_unlike_json(item, f"{where}[{key!r}]") for key, item in value.items())
    elif isinstance(value, Mapping):
        return f"{where} has keys other than text"
    else:
        return f"{where} is of type {type(value).__name__}, and not a number, a text, a list or a dictionary"
    return next((problem for problem in found if problem), None)
