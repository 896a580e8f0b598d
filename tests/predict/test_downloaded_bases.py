"""Bundles on bases whose weights torch fetches by address: their libraries' own, here already in torch's cache."""

from pathlib import Path

import pytest
import timm
import torch
from tests.bundle.making import LABELS, about_of, adapted
from tests.predict.making import arrays, check, tensor
from torchvision import models

import lumora
from lumora.bundle import write
from lumora.bundle.verify import verify
from lumora.models import load_base

pytestmark = pytest.mark.slow

BASES = {
    "torchvision/squeezenet1_1": ("classification", 64),
    "smp/unet?encoder=tu-legacy_seresnet18": ("segmentation", 64),
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Torch's cache, with both weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    kept = {
        models.SqueezeNet1_1_Weights.DEFAULT.url: models.squeezenet1_1(),
        timm.get_pretrained_cfg("legacy_seresnet18").url: timm.create_model("legacy_seresnet18"),
    }
    for url, model in kept.items():
        torch.save(model.state_dict(), folder / Path(url).name)


@pytest.mark.parametrize("name", BASES)
def test_predict__on_a_base_that_torch_fetches(cache, tmp_path, name):
    task, side = BASES[name]
    base = load_base(name, task=task, labels=LABELS)
    model, about = adapted(base), about_of(base, side)
    write(tmp_path / "bundle", model, about)
    verify(tmp_path / "bundle")
    predictor = lumora.load(tmp_path / "bundle", device="cpu")
    for array in arrays()[:3]:
        check(predictor.predict(array), model, about, tensor(array))
