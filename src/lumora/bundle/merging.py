"""A bundle folded into its base: a plain checkpoint, which those who know nothing of Lumora can load."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from lumora.bundle import names, proof
from lumora.bundle.about import About, about_to_json
from lumora.bundle.disk import disk_errors
from lumora.bundle.elsewhere import check_in_torch
from lumora.bundle.merged_card import PIPELINES, Kind, merged_card
from lumora.bundle.processor import processor_values
from lumora.bundle.reading import load, put_in, read_about
from lumora.bundle.timm_config import timm_values
from lumora.bundle.writing import write_tensors
from lumora.data.durable import write_folder
from lumora.errors import BundleError
from lumora.lora import PeftModel, files
from lumora.models.places import MODEL_CONFIG, WEIGHTS
from lumora.paths import at_home

_SEVERAL = "multi_label_classification"
"""What transformers calls any number of labels to a picture: its pipelines then take each one's own probability."""


@dataclass(frozen=True)
class Merged:
    """Where a plain checkpoint lies, and how it is loaded."""

    folder: Path
    kind: Kind
    snippet: str
    """A line of Python that loads it."""


def merge(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    base: str | nn.Module | None = None,
    allow_other_base: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Merged:
    """Write a bundle's model with its adapters folded in, and compare what is loaded from there before it is reported.

    A model of transformers or timm that has a head of its library becomes a checkpoint of that library; any other one a
    state dict with `lumora.json`. A card says how each is used. The other arguments are those of `load`.

    Costs: the memory of two models. Disk: all weights.
    """
    check_in_torch(read_about(bundle, revision=revision, token=token), bundle)
    loaded = load(bundle, base=base, allow_other_base=allow_other_base, revision=revision, token=token)
    expected = proof.prove(loaded.model, loaded.about)
    plain = loaded.model
    if isinstance(plain, PeftModel):
        plain = plain.merge_and_unload(safe_merge=True)
    plain.eval()
    kind, target = _kind_of(plain), at_home(out)

    def fill(place: Path) -> None:
        with disk_errors():
            _WRITERS[kind](plain, loaded.about, place)
            (place / names.CARD).write_text(merged_card(loaded.about, kind), encoding="utf-8")
        again = _READERS[kind](plain, place)
        try:
            proof.compare(expected, proof.prove(again, loaded.about), proof.tolerance_of(again))
        except BundleError as error:
            raise BundleError(f"The merged model is not that of the bundle; it was not kept. {error}") from error

    write_folder(target, fill)
    return Merged(target, kind, _snippet(kind, loaded.about, target))


def _kind_of(model: nn.Module) -> Kind:
    import timm
    import transformers

    if isinstance(model, transformers.PreTrainedModel):
        return "transformers"
    found: Any = getattr(model, "pretrained_cfg", None)
    known = isinstance(found, dict) and timm.is_model(str(found.get("architecture")))
    return "timm" if known and hasattr(model, "num_classes") else "tensors"


# --- writing ----------------------------------------------------------------------------------------------------------


def _write_transformers(model: Any, about: About, place: Path) -> None:
    model.config.id2label, model.config.label2id = about.labels.id2label, about.labels.label2id
    if about.task == "multilabel":
        model.config.problem_type = _SEVERAL
    model.save_pretrained(place)
    _write_processor(about, place)


def _write_timm(model: Any, about: About, place: Path) -> None:
    from timm.models import save_for_hf

    save_for_hf(model, str(place), safe_serialization=True)
    values = json.loads((place / MODEL_CONFIG).read_text(encoding="utf-8"))
    values["label_names"] = list(about.labels.names)
    if about.task == "multilabel":
        values["problem_type"] = _SEVERAL
    values["pretrained_cfg"] |= timm_values(about.at_size)
    # It stands beside them too, where timm and transformers look for it; said twice, transformers cannot load it.
    values.get("model_args", {}).pop("num_classes", None)
    (place / MODEL_CONFIG).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_plain(model: nn.Module, about: About, place: Path) -> None:
    tensors = model.state_dict()
    if not tensors:
        raise BundleError(f"{type(model).__name__} has no tensors in its state dict; there is nothing to write.")
    write_tensors(tensors, place / WEIGHTS)
    (place / names.ABOUT).write_text(about_to_json(about), encoding="utf-8")
    _write_processor(about, place)


def _write_processor(about: About, place: Path) -> None:
    if values := processor_values(about):
        (place / names.PROCESSOR).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


# --- reading, as others would -----------------------------------------------------------------------------------------


def _read_transformers(model: nn.Module, place: Path) -> nn.Module:
    return cast(Any, type(model)).from_pretrained(place).eval()


def _read_timm(model: nn.Module, place: Path) -> nn.Module:
    import timm

    return timm.create_model(f"local-dir:{place}", pretrained=True).eval()


def _read_plain(model: nn.Module, place: Path) -> nn.Module:
    put_in(model, files.read_tensors_of_file(place / WEIGHTS), whole=True)
    return model


_WRITERS = {"transformers": _write_transformers, "timm": _write_timm, "tensors": _write_plain}
_READERS = {"transformers": _read_transformers, "timm": _read_timm, "tensors": _read_plain}


def _snippet(kind: Kind, about: About, folder: Path) -> str:
    if kind == "transformers":
        return f'transformers.pipeline("{PIPELINES[about.task]}", model="{folder}")'
    if kind == "timm":
        return f'timm.create_model("local-dir:{folder}", pretrained=True)'
    return f'model.load_state_dict(safetensors.torch.load_file("{folder / WEIGHTS}"))'
