"""Bases whose layers do not always tell the pictures of a batch apart."""

import logging

import pytest
import torch
from tests.serve.making import alike, bundle, photographs

import lumora
from lumora.serve import Pool
from lumora.serve.hosting.shared import SharedBase


def pool_of(kind, tmp_path):
    """Two bundles on a base of windows."""
    name = f"python:tests.serve.windows:{kind}"
    given = {"name": name}, "classification", 8
    folders = [bundle(tmp_path / f"b{seed}", *given, seed=seed, labels=3 + seed) for seed in range(2)]
    return Pool(folders, device="cpu", base=name)


@pytest.fixture
def one_by_one(monkeypatch):
    """The sizes of the batches that were computed one bundle after the other."""
    sizes, real = [], SharedBase._one_by_one
    monkeypatch.setattr(
        SharedBase, "_one_by_one", lambda self, pixels, given: sizes.append(len(pixels)) or real(self, pixels, given)
    )
    return sizes


def test_logits__of_a_batch_whose_samples_cannot_be_told_are_those_of_each_bundle_alone(tmp_path, one_by_one, caplog):
    pool = pool_of("windows", tmp_path)
    hosted = [pool.get(name) for name in pool.names]
    shared = hosted[0].shared
    with caplog.at_level(logging.WARNING, "lumora.serve"):
        for count in (15, 16, 15, 16, 17):  # 16 is also the number of tokens
            pixels = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(count))
            owners = [hosted[i % 2] for i in range(count)]
            together = shared.logits(pixels, [owner.addition for owner in owners])
            for i, owner in enumerate(owners):
                alone = shared.logits(pixels[i : i + 1], [owner.addition])[0]
                torch.testing.assert_close(together[i, : len(owner.about.labels)], alone, atol=1e-5, rtol=1e-5)
    assert one_by_one == [16, 16]
    assert len([record for record in caplog.records if "one bundle after the other" in record.message]) == 1


def test_load__gives_a_model_of_its_own_where_bundles_would_be_mixed_up_in_a_batch(tmp_path):
    pool = pool_of("scattered", tmp_path)
    pictures = photographs(4)
    asked = list(zip(["b0", "b1"] * 2, pictures, strict=True))
    found = pool.predict(asked)
    assert all("gives something else than it should" in hosted.why_alone for hosted in pool.loaded)
    for (name, picture), prediction in zip(asked, found, strict=True):
        base = "python:tests.serve.windows:scattered"
        alike(prediction, lumora.load(tmp_path / name, device="cpu", base=base).predict(picture))
