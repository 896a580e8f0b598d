"""The adapter part of a bundle is an adapter of PEFT: the real one loads it and gives the same."""

import peft
import pytest
import torch
import transformers
from tests.bundle.making import LABELS, about_of, adapted, base_of, logits, pyramid, ready_base

from lumora.bundle import write, written_and_verified
from lumora.models import load_base
from lumora.ops import accelerate

pytestmark = pytest.mark.slow

KINDS = ["embedded", "embedded-light", "embedded-multilabel", "vit", "vit-light", "segformer", "timm", "timm-light"]


@pytest.mark.parametrize("kind", KINDS)
def test_peft__loads_the_adapter_on_the_same_base(kind, tmp_path):
    base, side = base_of(kind, tmp_path / "base")
    model, about = adapted(base), about_of(base, side)
    write(tmp_path / "bundle", model, about)
    again = load_base(about.base.name, task=about.task, labels=LABELS).module
    theirs = peft.PeftModel.from_pretrained(again, tmp_path / "bundle").eval()
    torch.testing.assert_close(logits(theirs, side), logits(model, side), rtol=1e-4, atol=1e-4)


def test_peft__needs_nothing_of_ours_for_a_model_of_transformers(tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    norms = [n for n, m in base.module.named_modules() if isinstance(m, torch.nn.LayerNorm)]
    model, about = adapted(base, saved=norms), about_of(base, side)
    write(tmp_path / "bundle", model, about)
    config = peft.PeftConfig.from_pretrained(tmp_path / "bundle")
    again = transformers.AutoModelForImageClassification.from_pretrained(
        config.base_model_name_or_path, num_labels=len(LABELS), ignore_mismatched_sizes=True
    )
    theirs = peft.PeftModel.from_pretrained(again, tmp_path / "bundle").eval()
    torch.testing.assert_close(logits(theirs, side), logits(model, side), rtol=1e-4, atol=1e-4)


def test_peft__loads_the_adapter_of_a_ready_module(tmp_path):
    base = ready_base()
    model, about = adapted(base), about_of(base, 64)
    write(tmp_path / "bundle", model, about)
    assert peft.PeftConfig.from_pretrained(tmp_path / "bundle").base_model_name_or_path is None
    again = ready_base(pyramid()).module
    theirs = peft.PeftModel.from_pretrained(again, tmp_path / "bundle").eval()
    torch.testing.assert_close(logits(theirs, 64), logits(model, 64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["vit", "segformer"])
def test_peft__loads_what_was_trained_with_cheaper_arithmetic(kind, tmp_path):
    base, side = base_of(kind, tmp_path / "base")
    model, about = adapted(base), about_of(base, side)
    plain = logits(model, side)
    accelerate(model)
    written_and_verified(tmp_path / "bundle", model, about)
    again = load_base(about.base.name, task=about.task, labels=LABELS).module
    theirs = peft.PeftModel.from_pretrained(again, tmp_path / "bundle").eval()
    torch.testing.assert_close(logits(theirs, side), plain, rtol=1e-4, atol=1e-4)
    assert peft.PeftConfig.from_pretrained(tmp_path / "bundle").auto_mapping == {
        "base_model_class": type(again).__name__,
        "parent_library": type(again).__module__,
    }
