r"""Layers that transformers 5 renamed: configurations and adapters written before that still find them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from lumora.lora.config import LoraConfig
from lumora.lora.names import exactly, matches, pattern_matches

# (a name today, what it was). Each is applied to what those before it gave, or left out: a path has several possible
# pasts, of which its architecture had one.
_PASTS = (
    # the perceptrons of ViT and its relatives, of Swin, of SegFormer, of the DETR family
    (r"(^|\.)(layers\.\d+(?:\.blocks\.\d+)?)\.mlp\.fc1\.", r"\1\2.intermediate.dense."),
    (r"(^|\.)(layers\.\d+(?:\.blocks\.\d+)?)\.mlp\.fc2\.", r"\1\2.output.dense."),
    (r"(^|\.)(stages\.\d+\.blocks\.\d+)\.mlp\.fc([12])\.", r"\1\2.mlp.dense\3."),
    (r"(^|\.)(layers\.\d+)\.mlp\.fc([12])\.", r"\1\2.fc\3."),
    # the attention of ViT and DINOv2; of Swin and SegFormer
    (r"\.attention\.q_proj\.", r".attention.attention.query."),
    (r"\.attention\.k_proj\.", r".attention.attention.key."),
    (r"\.attention\.v_proj\.", r".attention.attention.value."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.self.\1."),
    (r"\.attention\.o_proj\.", r".attention.output.dense."),
    (r"\.attention\.relative_position_bias\.(relative_position_\w+)\.", r".attention.self.\1."),
    (r"\.attention\.sequence_reduction\.sequence_reduction\.", r".attention.self.sr."),
    (r"\.attention\.sequence_reduction\.layer_norm\.", r".attention.self.layer_norm."),
    # norms of SegFormer; of Pixio
    (r"\.(stages\.\d+\.blocks\.\d+)\.layernorm_before\.", r".\1.layer_norm_1."),
    (r"\.(stages\.\d+\.blocks\.\d+)\.layernorm_after\.", r".\1.layer_norm_2."),
    (r"(^|\.)(layers\.\d+)\.layernorm_before\.", r"\1\2.norm1."),
    (r"(^|\.)(layers\.\d+)\.layernorm_after\.", r"\1\2.norm2."),
    # where blocks lie in ViT and its relatives; in SegFormer
    (r"(^|\.)layers\.(\d+)\.", r"\1encoder.layer.\2."),
    (r"(^|\.)stages\.(\d+)\.blocks\.(\d+)\.", r"\1encoder.block.\2.\3."),
    (r"(^|\.)stages\.(\d+)\.(patch_embeddings|layer_norm)\.", r"\1encoder.\3.\2."),
    (r"\.linear_projections\.", r".linear_c."),
    # the DETR family
    (r"(^|\.)backbone\.model\.", r"\1backbone.conv_encoder.model."),
    (r"\.(self_attn|encoder_attn)\.o_proj\.", r".\1.out_proj."),
    (r"\.self_attn\.([qk])_(content|pos)_proj\.", r".sa_\1\2_proj."),
    (r"\.encoder_attn\.([qk])_(content|pos|pos_sine)_proj\.", r".ca_\1\2_proj."),
    (r"\.self_attn\.v_proj\.", r".sa_v_proj."),
    (r"\.encoder_attn\.v_proj\.", r".ca_v_proj."),
    (r"\.encoder\.aifi\.(\d+)\.", r".encoder.encoder.\1."),
    # DINOv3; the vision towers of CLIP and SigLIP on their own
    (r"(^|\.)model\.(layer|stages)\.", r"\1\2."),
    (r"^((?:base_model\.model\.)?)(embeddings|encoder|pre_layrnorm|post_layernorm|head)\.", r"\1vision_model.\2."),
)


def old_names(path: str) -> list[str]:
    """What a path may have been before; of a module or of a tensor.

    >>> "vit.encoder.layer.0.attention.attention.query" in old_names("vit.layers.0.attention.q_proj")
    True
    """
    names = [path + "."]
    for pattern, replacement in _PASTS:
        names += [old for name in names if (old := re.sub(pattern, replacement, name)) != name]
    return [name.removesuffix(".") for name in names[1:]]


def current_names(keys: Iterable[str], existing: Collection[str]) -> dict[str, str]:
    """For each key, the name that it has among those that exist today, or itself if there is none.

    >>> now = ["vit.layers.0.attention.q_proj.lora_A.weight"]
    >>> old = "vit.encoder.layer.0.attention.attention.query.lora_A.weight"
    >>> current_names([old], now)[old]
    'vit.layers.0.attention.q_proj.lora_A.weight'
    """
    keys = list(keys)
    known: dict[str, str] = {}
    if not all(key in existing for key in keys):
        for name in existing:
            for old in old_names(name):
                known.setdefault(old, name)
    return {key: key if key in existing else known.get(key, key) for key in keys}


def with_current_names(config: LoraConfig, modules: Collection[str]) -> tuple[LoraConfig, list[str]]:
    """A configuration in which old names have given way to today's, and notes on what became of `target_modules`.

    Only a name that no module has any more is looked for among the old ones.
    """
    pasts = _Pasts(modules)
    notes: list[str] = []
    changes: dict[str, Any] = {}
    for field in ("target_modules", "exclude_modules"):
        wanted: set[str] | str | None = getattr(config, field)
        if (
            wanted
            and wanted != "all-linear"
            and (new := pasts.entries(wanted, notes if field == "target_modules" else [])) != wanted
        ):
            changes[field] = new
    saved = set(config.modules_to_save or ())
    if saved and (new := pasts.entries(saved, [])) != saved:
        changes["modules_to_save"] = sorted(new)
    for field in ("rank_pattern", "alpha_pattern"):
        pattern: dict[str, Any] = getattr(config, field)
        if (new := pasts.pattern(pattern)) != pattern:
            changes[field] = new
    return (replace(config, **changes) if changes else config), notes


class _Pasts:
    """What the modules of a model were called, found out when somebody asks."""

    def __init__(self, modules: Collection[str]) -> None:
        self.modules = modules
        self._names: Mapping[str, list[str]] | None = None

    def meant(self, test: Callable[[str], bool]) -> list[str]:
        """The modules of which an old name passes a test, if no module passes it under its own."""
        if any(test(path) for path in self.modules):
            return []
        if self._names is None:
            self._names = {path: old_names(path) for path in self.modules}
        return [path for path, names in self._names.items() if any(test(name) for name in names)]

    def entries(self, wanted: set[str] | str, notes: list[str]) -> set[str] | str:
        """A list or a regular expression with today's names."""
        if isinstance(wanted, str):
            found = self.meant(lambda path: matches(path, wanted))
            if found:
                notes.append(f"{wanted!r} matches names of before transformers 5; the same layers are adapted")
            return exactly(found, self.modules) if found else wanted
        now: set[str] = set()
        for entry in sorted(wanted):
            found = self.meant(lambda path, entry=entry: matches(path, [entry]))
            names = self._short(found)
            now |= names or {entry}
            if names:
                shown = ", ".join(map(repr, sorted(names)[:4]))
                notes.append(f"{entry!r} is called {shown} in this version of the model; that is adapted")
        return now

    def pattern(self, pattern: dict[str, Any]) -> dict[str, Any]:
        """A rank or alpha pattern with today's names."""
        now: dict[str, Any] = {}
        for key, value in pattern.items():
            found = self.meant(lambda path, key=key: pattern_matches(key, path))
            now["|".join(map(re.escape, found)) or key] = value
        return now

    def _short(self, paths: list[str]) -> set[str]:
        """The last words of these paths if they mean nothing else, else the paths."""
        last = {path.rpartition(".")[2] for path in paths}
        return last if {path for path in self.modules if matches(path, last)} == set(paths) else set(paths)
