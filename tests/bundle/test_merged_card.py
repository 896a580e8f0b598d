"""The card of a merged checkpoint: what the Hub reads, and code that runs."""

import huggingface_hub
import pytest
import torch
from PIL import Image
from tests.bundle.making import LABELS, about_of, adapted, base_of, logits, ready_base
from tests.bundle.test_card import code_of

from lumora.bundle import write
from lumora.bundle.card import PLACE
from lumora.bundle.merged_card import merged_card
from lumora.bundle.merging import merge

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["vit", "segformer", "timm", "embedded-multilabel", "embedded-light"])
def test_code__runs(kind, tmp_path, monkeypatch, capsys):
    base, side = base_of(kind, tmp_path / "base")
    model = adapted(base)
    write(tmp_path / "bundle", model, about_of(base, side))
    merge(tmp_path / "bundle", tmp_path / "plain")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (50, 40), (200, 30, 60)).save("picture.jpg")
    blocks = code_of((tmp_path / "plain/README.md").read_text())
    for block in blocks:
        spaces = {}
        exec(block.replace(PLACE, "plain"), spaces)
        plain = spaces["pipeline"].model if "pipeline" in spaces else spaces["model"]
        torch.testing.assert_close(logits(plain, side), logits(model, side), rtol=1e-4, atol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    if kind == "embedded-light":
        assert lines == []
    else:
        assert {line.removesuffix("%").rstrip("0123456789 ") for line in lines} <= set(LABELS)
        assert lines


@pytest.mark.parametrize("kind", ["transformers", "timm", "tensors"])
def test_front_matter__says_what_the_hub_shows(kind):
    about = about_of(ready_base(), 64)
    found = huggingface_hub.ModelCard(merged_card(about, kind))
    assert found.data.library_name == ("lumora" if kind == "tensors" else kind)
    assert found.data.pipeline_tag == "image-classification"
    assert found.data.tags == ["lumora", "classification"]
    assert "| accuracy | 0.875 |" in found.text
    assert "folded into the base's weights" in found.text
