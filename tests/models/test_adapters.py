import pickle

import pytest
import safetensors.torch
import torch
from torch import nn

from lumora.errors import AdapterFileError
from lumora.lora.config import LoraConfig
from lumora.lora.model import get_peft_model
from lumora.models import adapters


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.stem = nn.Conv2d(3, 8, 3)
        self.blocks = nn.ModuleList(nn.ModuleDict({"fc": nn.Linear(8, 8)}) for _ in range(3))
        self.head = nn.Linear(8, 2)


def saved(folder, **options):
    config = LoraConfig(target_modules=["words", "stem", "fc"], modules_to_save=["head"], **options)
    get_peft_model(Net(), config).save_pretrained(folder)
    return str(folder)


def test_survey__groups_what_lies_in_the_file(tmp_path):
    seen = adapters.survey(saved(tmp_path, r=2, rank_pattern={"stem": 4}))
    assert {(g.path, g.kind, g.rank, g.count, g.parameters) for g in seen.groups} == {
        ("words", "embedding", 2, 1, 2 * (10 + 8)),
        ("stem", "conv2d", 4, 1, 4 * (3 * 9 + 8)),
        ("blocks.*.fc", "linear", 2, 3, 3 * 2 * (8 + 8)),
        ("head", "saved whole", None, 1, 18),
    }
    assert seen.parameters == sum(group.parameters for group in seen.groups)
    assert sum(group.bytes for group in seen.groups) == 4 * seen.parameters
    assert seen.bytes == (tmp_path / "adapter_model.safetensors").stat().st_size
    assert seen.note is None


def test_survey__shows_only_what_differs_from_the_defaults(tmp_path):
    seen = adapters.survey(saved(tmp_path, r=3, lora_dropout=0.1))
    assert seen.config == {
        "r": 3,
        "lora_dropout": 0.1,
        "target_modules": ["fc", "stem", "words"],
        "modules_to_save": ["head"],
    }


def test_survey__tells_biases_and_magnitudes(tmp_path):
    config = LoraConfig(r=2, target_modules=["fc"], bias="lora_only", use_dora=True)
    get_peft_model(Net(), config).save_pretrained(tmp_path)
    assert [g.kind for g in adapters.survey(str(tmp_path)).groups] == ["linear, DoRA, bias"]


def test_survey__counts_bytes_of_half_precision(tmp_path):
    folder = saved(tmp_path, r=2)
    file = tmp_path / "adapter_model.safetensors"
    tensors = {key: value.to(torch.bfloat16) for key, value in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(tensors, file)
    seen = adapters.survey(folder)
    assert sum(group.bytes for group in seen.groups) == 2 * seen.parameters


def test_survey__a_pickle_is_told_of_and_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    folder = saved(tmp_path, r=2)
    (tmp_path / "adapter_model.safetensors").unlink()
    (tmp_path / "adapter_model.bin").write_bytes(pickle.dumps(Trap()))
    seen = adapters.survey(folder)
    assert "is a pickle" in seen.note
    assert (seen.groups, seen.parameters) == ((), 0)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no adapter_model.safetensors"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 40), "damaged"),
        (lambda folder: (folder / "adapter_config.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}'), "IA3"),
    ],
)
def test_survey__damaged_folders_are_named(tmp_path, damage, message):
    folder = saved(tmp_path, r=2)
    damage(tmp_path)
    with pytest.raises(AdapterFileError, match=message):
        adapters.survey(folder)
