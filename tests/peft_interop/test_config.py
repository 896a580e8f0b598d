"""Configurations of other versions, and what is not in the tensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.peft_interop.toolkit import LIBRARIES, adapted, comparable, mlp, other, quiet, read_folder

import lumora.peft
from lumora.errors import AdapterFileError


def written(folder: Path, **values: Any) -> Path:
    """An adapter of peft whose configuration has further or other fields."""
    model = adapted(peft, mlp(), r=2, target_modules=["0"], init_lora_weights=False)
    model.save_pretrained(folder)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def test_fields_and_defaults__are_those_of_peft() -> None:
    theirs, ours = (library.LoraConfig(target_modules=["a"]).to_dict() for library in (peft, lumora.peft))
    known = {**lumora.peft.LoraConfig.unsupported_defaults, **ours}
    assert known.pop("batch_norm") == "frozen"  # ours alone, written only when it is something else
    assert set(theirs) - {"peft_version", "runtime_config"} == set(known) - {"peft_version"}
    for field, value in theirs.items():
        if field not in ("peft_version", "target_modules", "runtime_config"):
            assert known[field] == value, field


def test_arguments__stand_in_the_order_of_peft() -> None:
    theirs = [f.name for f in dataclasses.fields(peft.LoraConfig) if f.init]
    ours = [f.name for f in dataclasses.fields(lumora.peft.LoraConfig) if f.init]
    common = [name for name in theirs if name in ours]
    assert [name for name in ours if name in theirs] == common


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}], ids=repr)
def test_unknown_key_of_a_newer_peft__is_accepted_where_it_is_empty(tmp_path: Path, value: Any) -> None:
    folder = written(tmp_path, something_new=value, peft_version="9.9.9")
    with quiet():
        model = lumora.peft.PeftModel.from_pretrained(mlp(), folder)
        theirs = peft.PeftModel.from_pretrained(mlp(), folder)
    x = torch.randn(2, 6)
    torch.testing.assert_close(model(x), theirs(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("something_new", True),
        ("something_new", {"a": 1}),
        ("use_qalora", True),
        ("target_parameters", ["0.weight"]),
        ("trainable_token_indices", [1, 2]),
        ("layer_replication", [[0, 1]]),
        ("loftq_config", {"loftq_bits": 4}),
        ("alora_invocation_tokens", [1]),
        ("arrow_config", {"top_k": 2}),
        ("ensure_weight_tying", True),
    ],
)
def test_key_that_asks_for_something__is_refused_by_name(tmp_path: Path, field: str, value: Any) -> None:
    base, folder = mlp(), written(tmp_path, **{field: value})
    with pytest.raises(AdapterFileError, match=field):
        lumora.peft.PeftModel.from_pretrained(base, folder)
    with pytest.raises(ValueError, match=field):
        lumora.peft.PeftConfig.from_pretrained(str(folder))
    assert not hasattr(base, "peft_config")


@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": r"[02]"},
        {"target_modules": ["2", "0"]},
        {"target_modules": "all-linear"},
        {"target_modules": ["0", "2"], "exclude_modules": ["2"]},
        {"target_modules": ["0"], "lora_alpha": 3, "lora_dropout": 0.25, "use_rslora": True},
        {"target_modules": ["0"], "rank_pattern": {"0": 3}, "alpha_pattern": {"0": 9}},
        {"target_modules": ["0"], "modules_to_save": ["4"], "task_type": "FEATURE_EXTRACTION"},
        {"target_modules": ["0"], "init_lora_weights": "gaussian", "bias": "all"},
        {"target_modules": ["0"], "init_lora_weights": False, "revision": "main"},
    ],
    ids=str,
)
def test_configuration__says_the_same_in_both(tmp_path: Path, writer: Any, options: dict[str, Any]) -> None:
    for library in (writer, other(writer)):
        with quiet():
            adapted(library, mlp(), r=2, **options).save_pretrained(tmp_path / library.__name__)
    first, second = (read_folder(tmp_path / library.__name__)[0] for library in (peft, lumora.peft))
    assert comparable(second) == comparable(first)
    read = other(writer).PeftConfig.from_pretrained(str(tmp_path / writer.__name__))
    assert read.r == 2
    assert type(read).__name__ == "LoraConfig"
    assert read.inference_mode


def test_config_saved_alone__is_read_by_the_other(tmp_path: Path) -> None:
    for writer in LIBRARIES.values():
        folder = tmp_path / writer.__name__
        writer.LoraConfig(r=5, target_modules=["a", "b"], rank_pattern={"a": 3}, use_dora=True).save_pretrained(
            str(folder)
        )
        for reader in LIBRARIES.values():
            read = reader.LoraConfig.from_pretrained(str(folder))
            assert (read.r, set(read.target_modules), read.rank_pattern, read.use_dora) == (
                5,
                {"a", "b"},
                {"a": 3},
                True,
            )


@pytest.mark.parametrize("writer", LIBRARIES.values(), ids=LIBRARIES)
def test_safetensors_metadata__says_torch(tmp_path: Path, writer: Any) -> None:
    from safetensors import safe_open

    adapted(writer, mlp(), r=2, target_modules=["0"]).save_pretrained(tmp_path)
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_card_of_ours__has_the_front_matter_of_peft(tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    adapted(lumora.peft, mlp(), r=2, target_modules=["0"]).save_pretrained(tmp_path)
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.library_name == "peft"
    assert "lora" in data.tags
