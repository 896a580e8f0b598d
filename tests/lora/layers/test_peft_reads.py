"""An adapter that PEFT cannot read says so in its files, and only such an adapter does."""

import json

import pytest
from torch import nn

from lumora import LoraConfig, get_peft_model


@pytest.mark.parametrize(
    ("layer", "peft_reads"),
    [
        (nn.Linear(8, 8), True),
        (nn.Conv2d(8, 8, 3), True),
        (nn.Embedding(20, 8), True),
        (nn.MultiheadAttention(8, 2), True),
        (nn.MultiheadAttention(8, 2, kdim=6, vdim=4), False),
        (nn.ConvTranspose2d(8, 8, 3), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_save__names_the_layers_that_peft_cannot_read(layer, peft_reads, tmp_path):
    model = get_peft_model(nn.Sequential(layer), LoraConfig(r=2, target_modules=["0"]))
    model.save_pretrained(tmp_path)
    ours = json.loads((tmp_path / "adapter_config.json").read_text()).get("lumora", {})
    assert ("not_for_peft" not in ours) == peft_reads
    assert ("PEFT cannot read" in (tmp_path / "README.md").read_text()) == (not peft_reads)
    if not peft_reads:
        assert ours["not_for_peft"].endswith(": 0")
