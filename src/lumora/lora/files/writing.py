"""Writing an adapter's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from lumora.errors import AdapterFileError
from lumora.lora.config import LoraConfig
from lumora.lora.files.configuration import config_text
from lumora.lora.files.disk import Writer, text_writer, write_together
from lumora.lora.files.layout import root_of, slots_of
from lumora.lora.files.names import CARD, CONFIG, DEFAULT, WEIGHTS
from lumora.lora.files.reading import Source, read_adapter
from lumora.lora.layers import LentLinear, LoraLayer, MultiheadAttention


def adapter_state_dict(
    model: nn.Module, name: str, state_dict: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """An adapter's tensors under their keys in the file; out of `state_dict` when given (gathered from shards, say)."""
    slots = dict(slots_of(model, name))
    if state_dict is None:
        return {key: slot.tensor.detach() for key, slot in slots.items()}
    return {key: slot.read(state_dict[slot.path]) for key, slot in slots.items() if slot.path in state_dict}


def save_adapter(
    model: nn.Module,
    name: str,
    folder: Path,
    *,
    initial: str | None = None,
    state_dict: Mapping[str, Tensor] | None = None,
) -> list[Path]:
    """Write one adapter of a `PeftModel`: into `folder` itself if it is called `default`, else into its sub-folder.

    Returns the files that now make up the adapter.
    """
    root, _ = root_of(model)
    config: LoraConfig = root.peft_config[name]  # type: ignore[index]
    home = folder if name == DEFAULT else folder / name
    tensors = adapter_state_dict(model, name, state_dict)
    if state_dict is not None and (lacking := [key for key, _ in slots_of(model, name) if key not in tensors]):
        raise AdapterFileError(f"The given state dict lacks {len(lacking)} tensors of adapter {name!r}: {lacking[:3]}.")
    if any(t.device.type == "meta" for t in tensors.values()):
        raise AdapterFileError(f"Adapter {name!r} has no values yet (low_cpu_mem_usage); load them before saving.")
    if initial is not None:
        tensors, config = _relative_to_start(tensors, config, Path(initial))
    if config.task_type is None:
        base_class = type(root)
        mapping = {"base_model_class": base_class.__name__, "parent_library": base_class.__module__}
        config = replace(config, auto_mapping=mapping)
    # A copy each: safetensors refuses tensors that share storage.
    tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    writers: dict[str, Writer] = {
        WEIGHTS: lambda path: safetensors.torch.save_file(tensors, path, {"format": "pt"}),
        CONFIG: text_writer(config_text(config, _what_peft_cannot_say(root, name))),
    }
    if _may_write_card(home):
        writers[CARD] = text_writer(_card_text(root, name))
    write_together(home, writers)
    return [home / file for file in (WEIGHTS, CONFIG, CARD)]


def write_card(model: nn.Module, folder: Path, name: str | None = None) -> None:
    """Write `README.md` beside an adapter unless somebody wrote one; a card of ours is brought up to date."""
    root, _ = root_of(model)
    name = name or next(iter(root.peft_config))  # type: ignore[arg-type]
    if _may_write_card(folder):
        write_together(folder, {CARD: text_writer(_card_text(root, name))})


def _card_text(root: nn.Module, name: str) -> str:
    from lumora.lora.card import card

    return card(root, name, _what_peft_cannot_say(root, name))


def _may_write_card(folder: Path) -> bool:
    from lumora.lora.card import MARK

    try:
        return MARK.encode() in (folder / CARD).read_bytes()
    except FileNotFoundError:
        return True
    except OSError:  # whatever it is, it is not ours
        return False


def _what_peft_cannot_say(root: nn.Module, name: str) -> dict[str, Any]:
    """What a reader other than Lumora would get wrong, in words."""
    ours: dict[str, Any] = {}
    layers = [(p, m) for p, m in root.named_modules() if isinstance(m, LoraLayer) and name in m.adapters]
    if any(isinstance(m, MultiheadAttention) for _, m in layers):
        ours["attention"] = "the output projection's update counts once; PEFT up to 0.21 adds it twice"
    foreign = [p for p, m in layers if not m.peft_reads()]
    if foreign:
        ours["not_for_peft"] = f"PEFT cannot read the adapters of these layers: {', '.join(foreign)}"
    lent = [p for p, m in layers if isinstance(m, LentLinear)]
    if lent:
        ours["read_directly"] = f"PEFT's adapters do nothing where a weight is read without a call: {', '.join(lent)}"
    return ours


def _relative_to_start(
    tensors: dict[str, Tensor], config: LoraConfig, initial: Path
) -> tuple[dict[str, Tensor], LoraConfig]:
    """The change since the start, as an adapter of twice the rank: B A - B0 A0 = [B, -B0] [A; A0]."""
    start = read_adapter(Source(initial)).tensors
    if lacking := [key for key in tensors if key not in start]:
        raise AdapterFileError(f"{initial} is not this adapter's start: it lacks {lacking[:3]}.")
    wide: dict[str, Tensor] = {}
    for key, value in tensors.items():
        first = start[key].to(value)
        if ".lora_A." in key or key.endswith(".lora_embedding_A"):
            wide[key] = torch.cat([value, first], dim=0)
        elif ".lora_B.weight" in key or key.endswith(".lora_embedding_B"):
            wide[key] = torch.cat([value, -first], dim=1)
        else:
            wide[key] = value
    more = 2**0.5 if config.use_rslora else 2
    config = replace(
        config,
        r=2 * config.r,
        lora_alpha=more * config.lora_alpha,
        rank_pattern={k: 2 * r for k, r in config.rank_pattern.items()},
        alpha_pattern={k: more * a for k, a in config.alpha_pattern.items()},
        init_lora_weights=True,
    )
    return wide, config
