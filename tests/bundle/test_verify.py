"""A fresh process gets the same model from a bundle, or the bundle does not take its place."""

import dataclasses
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from tests.bundle.making import KINDS, about_of, adapted, base_of, logits, pyramid, ready_base, trained_whole
from tests.tiny_models import save_vit

from lumora.bundle import BaseReference, load, written_and_verified
from lumora.bundle.verify import verify
from lumora.data.manifest import write_manifest
from lumora.errors import BundleError
from lumora.models import load_base


@pytest.fixture(autouse=True)
def warm_verifying():
    """Processes that verify begin as they do elsewhere."""


def test_verify__a_fresh_process_gets_the_same(vit):
    verify(vit[0])


@pytest.mark.slow
def test_verify__is_a_command(vit):
    folder, _, _ = vit
    command = [sys.executable, "-m", "lumora.bundle.verify", str(folder)]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b""
    tensors = safetensors.torch.load_file(folder / "proof.safetensors")
    tensors["logits"][1, 2] += 0.5
    safetensors.torch.save_file(tensors, folder / "proof.safetensors")
    write_manifest(folder)
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 3
    assert b"The outputs differ: 1 of 6 logits" in ended.stdout


@pytest.mark.slow
def test_verify__tells_what_differs(vit):
    folder, _, _ = vit
    tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
    tensors["base_model.model.classifier.bias"] += 1.0
    safetensors.torch.save_file(tensors, folder / "adapter_model.safetensors")
    with pytest.raises(
        BundleError, match=r"not as it was written.*\n  - adapter_model\.safetensors has .* bytes in place of"
    ):
        verify(folder)
    write_manifest(folder)
    with pytest.raises(BundleError, match=r"does not get the same model from it: The outputs differ: 6 of 6 logits"):
        verify(folder)


def test_verify__a_process_that_dies_is_told(vit, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BundleError, match="does not get the same model"):
        verify(vit[0])


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), [*((k, "lora") for k in KINDS), ("timm", "head"), ("segformer", "full")])
def test_written_and_verified__every_kind(kind, method, tmp_path):
    base, side = base_of(kind, tmp_path / "base")
    about = about_of(base, side, method)
    model = adapted(base) if method == "lora" else trained_whole(base, only_head=method == "head")
    written_and_verified(tmp_path / "bundle", model, about)
    assert load(tmp_path / "bundle").about == about


@pytest.mark.slow
def test_written_and_verified__what_would_be_another_model_does_not_take_its_place(tmp_path):
    base, side = base_of("embedded", None)
    about = about_of(base, side)
    model = adapted(base)
    written_and_verified(tmp_path / "bundle", model, about)
    before = {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()}
    with torch.no_grad():  # as if batch norms had counted on in training
        model.get_base_model().bn1.running_mean += 0.5
    with pytest.raises(BundleError, match="a fresh process does not get the same model from it: The outputs differ"):
        written_and_verified(tmp_path / "bundle", model, about)
    assert {path.name: path.read_bytes() for path in (tmp_path / "bundle").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_written_and_verified__a_base_that_is_not_the_named_one_is_found_out(tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    model, about = adapted(base), about_of(base, side)
    save_vit(tmp_path / "base", seed=50)
    with pytest.raises(BundleError, match="fingerprint"):
        written_and_verified(tmp_path / "bundle", model, about)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
def test_written_and_verified__a_function_of_the_writers_is_called(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom torch import nn\n\ndef make():\n    torch.manual_seed(4)\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),"
        " nn.Linear(8, 5))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    base = load_base("python:mine:make", task="classification", labels=("red fox", "otter", "owl"))
    model, about = adapted(base), about_of(base, 64)
    written_and_verified(tmp_path / "bundle", model, about)
    found = load(tmp_path / "bundle", base="python:mine:make").model
    torch.testing.assert_close(logits(found, 64), logits(model, 64))


def test_written_and_verified__a_ready_module_is_compared_on_the_copy(tmp_path):
    base = ready_base()
    model, about = adapted(base), about_of(base, 64)
    with pytest.raises(BundleError, match=r"cannot be made again.*base=copy\.deepcopy\(model\)"):
        written_and_verified(tmp_path / "bundle", model, about)
    written_and_verified(tmp_path / "bundle", model, about, base=pyramid())
    verify(tmp_path / "bundle", base=pyramid())
    changed = pyramid()
    torch.nn.init.zeros_(changed.down[0].weight)
    with pytest.raises(BundleError, match="fingerprint"):
        verify(tmp_path / "bundle", base=changed)


@pytest.mark.slow
def test_written_and_verified__a_head_put_on_otherwise_is_found_out(tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    model = adapted(base)
    about = about_of(base, side)
    about = dataclasses.replace(about, base=BaseReference.of(base, head="light"))
    with pytest.raises(BundleError, match="does not get the same model"):
        written_and_verified(tmp_path / "bundle", model, about)
    assert not (tmp_path / "bundle").exists()
