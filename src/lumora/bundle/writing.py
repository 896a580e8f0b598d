"""Writing a bundle: everything is checked first, then all of it is there or nothing."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from lumora.bundle import names
from lumora.bundle.about import About, about_to_json
from lumora.bundle.card import card
from lumora.bundle.disk import disk_errors
from lumora.bundle.processor import processor_values
from lumora.bundle.proof import prove
from lumora.data.durable import write_folder
from lumora.errors import BundleError
from lumora.lora import PeftModel, files
from lumora.lora.names import is_inside_any
from lumora.models.fingerprint import base_tensors

Fill = Callable[[Path], None]
"""Writes files into a folder."""

_QUALITY = 90


def write(
    folder: str | os.PathLike[str],
    model: nn.Module,
    about: About,
    *,
    thumbnail: Tensor | None = None,
    trained: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a bundle in the place of whatever is in this folder; what is there stays until the new one is whole.

    Args:
        folder: where to, made when missing.
        model: a `PeftModel` with one active adapter if LoRA was trained, else the plain module.
        about: what the bundle says of itself.
        thumbnail: a picture for the card, `uint8` (3, H, W).
        trained: without adapters, the tensors that differ from the base's, under their names in the state dict. When
            not given, the head's, or the whole state dict if everything was trained.
    """
    write_folder(Path(folder), contents(model, about, thumbnail=thumbnail, trained=trained))


def contents(
    model: nn.Module,
    about: About,
    *,
    thumbnail: Tensor | None = None,
    trained: Mapping[str, Tensor] | None = None,
) -> Fill:
    """What writes a bundle's files. What is wrong is said here, before anything is written."""
    tensors = _adapter(model, about) if about.method == "lora" else _trained(model, about, trained)
    _check_heads(model, about, tensors)
    proof = prove(model, about)
    picture = None if thumbnail is None else _jpeg(thumbnail)
    text = card(about, parameters=sum(tensor.numel() for tensor in tensors.values()), thumbnail=picture is not None)

    def fill(folder: Path) -> None:
        if isinstance(model, PeftModel):
            _write_adapter(model, about, folder)
        else:
            write_tensors(tensors, folder / names.WEIGHTS)
        write_tensors(proof, folder / names.PROOF)
        (folder / names.ABOUT).write_text(about_to_json(about), encoding="utf-8")
        if values := processor_values(about):
            (folder / names.PROCESSOR).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        if picture is not None:
            (folder / names.THUMBNAIL).write_bytes(picture)
        (folder / names.CARD).write_text(text, encoding="utf-8")

    return fill


def numbers_in(home: Path, about: About) -> int:
    """How many numbers a bundle holds beside the base's own; only the file's head is read."""
    name = names.ADAPTER if about.method == "lora" else names.WEIGHTS
    with safetensors.safe_open(home / name, "pt") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118


# --- what is written --------------------------------------------------------------------------------------------------


def _adapter(model: nn.Module, about: About) -> dict[str, Tensor]:
    """The adapter's tensors under the names that they would have in the base."""
    if not isinstance(model, PeftModel):
        raise BundleError(f'A bundle with the method "lora" is written from a PeftModel, not from {_kind(model)}.')
    if len(active := model.active_adapters) != 1:
        raise BundleError(
            f"A bundle holds one adapter, but {len(active)} are active ({', '.join(active)}). Choose one with "
            "model.set_adapter(name), or make one of them with model.add_weighted_adapter(...)."
        )
    found = files.adapter_state_dict(model, active[0])
    return {key.removeprefix(files.PREFIX): tensor for key, tensor in found.items()}


def _trained(model: nn.Module, about: About, trained: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """The tensors that make the model out of its base."""
    if isinstance(model, PeftModel):
        raise BundleError(
            f'A bundle with the method "{about.method}" is written from the plain model, not a PeftModel.'
        )
    state: dict[str, Tensor] = model.state_dict()
    if trained is None and about.method == "head":
        trained = {name: tensor for name, tensor in state.items() if is_inside_any(name, about.base.heads)}
    given = dict(state if trained is None else trained)
    wanted = list(state) if about.method == "full" else []
    unknown, lacking = [n for n in given if n not in state], [n for n in wanted if n not in given]
    if unknown or lacking or not given:
        raise BundleError(
            f"These tensors do not make a bundle of {_kind(model)} with the method {about.method!r}: "
            f"{len(given)} were given, {len(unknown)} are not in its state dict {unknown[:3]}, and {len(lacking)} are "
            f"lacking {lacking[:3]}."
        )
    return given


def _check_heads(model: nn.Module, about: About, tensors: Collection[str]) -> None:
    """Raise if a part of the head would be lost: a base that is loaded again has a fresh one."""
    lost = [n for n, _ in base_tensors(model) if is_inside_any(n, about.base.heads) and n not in tensors]
    if lost:
        advice = f"modules_to_save={list(about.base.heads)!r}" if about.method == "lora" else "trained=..."
        raise BundleError(
            f"{len(lost)} tensors of the head ({lost[0]} ...) would not be in the bundle, and a base that is loaded "
            f"again has a fresh head. Train and save it whole: {advice}"
        )


def _kind(model: nn.Module) -> str:
    return f"a {type(model).__name__}"


# --- how --------------------------------------------------------------------------------------------------------------


def _write_adapter(model: PeftModel, about: About, folder: Path) -> None:
    """The active adapter in the folder itself, with the base's own name."""
    name = model.active_adapters[0]
    with disk_errors():
        written = files.save_adapter(model, name, folder)
    for path in written:
        path.replace(folder / path.name)
    if name != files.DEFAULT:
        shutil.rmtree(folder / name)
    config = folder / names.ADAPTER_CONFIG
    values = json.loads(config.read_text(encoding="utf-8"))
    values["base_model_name_or_path"] = None if about.base.library == "module" else about.base.name
    config.write_text(json.dumps(values, indent=2, sort_keys=True), encoding="utf-8")


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; what the disk refuses is an `OSError`."""
    # A copy each: safetensors refuses tensors that share storage.
    apart = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
    path.write_bytes(safetensors.torch.save(apart, {"format": "pt"}))


def _jpeg(picture: Tensor) -> bytes:
    from PIL import Image

    if picture.dim() != 3 or picture.shape[0] != 3 or picture.dtype != torch.uint8:
        raise BundleError(
            f"A thumbnail must be uint8 (3, H, W), but is {str(picture.dtype).removeprefix('torch.')} "
            f"{tuple(picture.shape)}."
        )
    written = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()).save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
