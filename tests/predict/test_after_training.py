"""A bundle answers as it did in the training that it comes from."""

import pytest

import lumora
from lumora.data import open_source
from lumora.data.scenes import write_scenes

QUICK = {"train.epochs": 1, "train.batch_size": 4, "pictures.size": 32, "lora.r": 2, "lora.targets": ["conv_pw"]}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_evaluate__scores_what_the_training_said(task, tmp_path):
    write_scenes(tmp_path / "scenes", 30, size=(40, 56), task=task)
    source = open_source(tmp_path / "scenes")
    run = lumora.finetune(source, out=tmp_path / "run", settings=QUICK)
    predictor = lumora.load(run.bundle, device="cpu")
    scores = predictor.evaluate(source, split="validation")
    assert dict(scores) == pytest.approx(dict(run.scores), abs=1e-6)
    assert dict(scores) == pytest.approx(predictor.about.metrics, abs=1e-6)
    others = predictor.evaluate(source, split="validation", batch_size=3)  # which rounds otherwise
    assert dict(others) == pytest.approx(dict(run.scores), abs=2e-3)
    assert len(predictor.predict(list(source.splits["validation"]))) == len(source.splits["validation"])
