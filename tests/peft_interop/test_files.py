"""An adapter saved by one library loads in the other: same outputs, same file, whatever was adapted and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.peft_interop.toolkit import (
    KINDS,
    LIBRARIES,
    adapted,
    assert_same_files,
    other,
    outputs,
    perturb,
    quiet,
    sample_for,
    tiny,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True, "lora_alpha": 5},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"two.layer": 3}, "alpha_pattern": {r"one\..*": 7}},
    "lora_bias": {"lora_bias": True},
}
# What peft itself cannot do.
IMPOSSIBLE = {
    ("MultiheadAttention", "dora"),
    ("MultiheadAttention", "lora_bias"),
    ("Embedding", "lora_bias"),
}
CASES = [
    pytest.param(kind, variant, bias, saved, id=f"{kind}-{variant}-{bias}-{'head' if saved else 'bare'}")
    for kind in KINDS
    for variant in VARIANTS
    for bias in ("none", "all", "lora_only")
    for saved in (False, True)
    if (kind, variant) not in IMPOSSIBLE
]


@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize(("kind", "variant", "bias", "saved"), CASES)
def test_two_adapters_saved_by_one__load_in_the_other(
    tmp_path: Path, writer: Any, kind: str, variant: str, bias: str, saved: bool
) -> None:
    x, reader = sample_for(kind), other(writer)
    options: dict[str, Any] = {"fan_in_fan_out": kind == "Conv1D"}  # peft sets it for a model's first adapter only
    if saved:
        options["modules_to_save"] = ["head"]
    model = adapted(writer, tiny(kind), r=2, target_modules=["layer"], bias=bias, **options, **VARIANTS[variant])
    with quiet():
        model.add_adapter("second", writer.LoraConfig(r=3, target_modules=["two.layer"], lora_alpha=4, **options))
    perturb(model)
    with quiet():
        model.save_pretrained(tmp_path / "written")
        expected = outputs(model, x, ("default", "second"))
        again = reader.PeftModel.from_pretrained(tiny(kind), tmp_path / "written")
        again.load_adapter(tmp_path / "written" / "second", "second")
        again.save_pretrained(tmp_path / "copied")
        results = outputs(again, x, ("default", "second"))
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=1e-6)
    for folder in ("", "second"):
        assert_same_files(tmp_path / "written" / folder, tmp_path / "copied" / folder)


@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize(("kind", "variant"), [(k, v) for k in KINDS for v in VARIANTS if (k, v) not in IMPOSSIBLE])
def test_one_adapter_saved_by_one__loads_in_the_other(tmp_path: Path, writer: Any, kind: str, variant: str) -> None:
    x, reader = sample_for(kind), other(writer)
    targets = r"(one|two)\.layer"  # a regular expression, which both keep as it is
    model = adapted(writer, tiny(kind), r=2, target_modules=targets, modules_to_save=["head"], **VARIANTS[variant])
    perturb(model)
    with quiet():
        model.save_pretrained(tmp_path / "written")
        again = reader.PeftModel.from_pretrained(tiny(kind), tmp_path / "written")
        again.save_pretrained(tmp_path / "copied")
    torch.testing.assert_close(outputs(again, x)[0], outputs(model, x)[0], rtol=0, atol=1e-6)
    assert_same_files(tmp_path / "written", tmp_path / "copied")
