"""Bundles of Keras models: what works on torch models alone says so, and needs no Keras for that."""

import subprocess

import pytest
from tests.bundle.damaging import rewrite
from torch import nn

from lumora.bundle import merging
from lumora.bundle.merging import merge
from lumora.bundle.soup import soup
from lumora.bundle.verify import verify
from lumora.errors import BundleError
from lumora.predict import export_onnx, onnx_export


@pytest.fixture(autouse=True)
def warm_verifying():
    """Processes that verify begin as they do elsewhere."""


@pytest.fixture
def of_keras(vit):
    """A bundle that says it is of a Keras model."""

    def say_so(values):
        values["base"] |= {"library": "keras", "name": "keras:base.keras"}

    rewrite(vit[0], say_so)
    return vit[0]


WORDS = r"bundle is a Keras bundle.*load_bundle\('.*bundle'\), merge_lora\(model\), model\.save\('model\.keras'\)"


def test_merge__refuses_it(of_keras, tmp_path):
    with pytest.raises(BundleError, match=WORDS):
        merge(of_keras, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_soup__refuses_it(of_keras, tmp_path):
    with pytest.raises(BundleError, match=WORDS):
        soup([of_keras, of_keras], tmp_path / "soup")
    assert not (tmp_path / "soup").exists()


def test_export__refuses_it(of_keras, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "check_installed", lambda: None)
    with pytest.raises(BundleError, match=WORDS):
        export_onnx(of_keras, tmp_path / "model.onnx")


def test_merge__writes_no_checkpoint_without_tensors(vit, tmp_path):
    with pytest.raises(BundleError, match="Identity has no tensors"):
        merging._write_plain(nn.Identity(), vit[2], tmp_path)


@pytest.mark.parametrize("kind", ["vit", "of_keras"])
def test_verify__computes_without_the_gpu_that_keras_holds(kind, request, monkeypatch):
    made = request.getfixturevalue(kind)
    seen = {}

    def ended(command, *, env, **_):
        seen.update(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", ended)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    verify(made if kind == "of_keras" else made[0])
    expected = ("", "cpu") if kind == "of_keras" else ("3", None)
    assert (seen["CUDA_VISIBLE_DEVICES"], seen.get("JAX_PLATFORMS")) == expected
