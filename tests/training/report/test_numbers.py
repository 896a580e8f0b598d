"""The numbers in a report are those that scikit-learn counts from the same predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    precision_recall_fscore_support,
    roc_auc_score,
)
from tests.training.report.making import TellsColours, made_run, source
from torch.nn import functional as F

from lumora.training.folder import RunFolder
from lumora.training.report.content import content_of
from lumora.training.report.subject import of_folder

NAMES = tuple(f"class {i}" for i in range(7))


def content(tmp_path, data):
    run, base = made_run(tmp_path / "run", data)
    return content_of(of_folder(RunFolder(run.path), data, base))


def said(data):
    """What the model gives for the pictures for validation: logits (N, K, …)."""
    model = TellsColours(len(data.labels), data.task == "segmentation")
    with torch.no_grad():
        return torch.cat([model(sample.picture()[None] / 255) for sample in data.splits["validation"]])


def test_classification__counts_as_scikit_learn_does(tmp_path):
    data = source("classification", NAMES, validation=200)
    found = content(tmp_path, data)
    logits = said(data)
    right = np.array([sample.target for sample in data.splits["validation"]])
    predicted = logits.argmax(1).numpy()
    assert 0.3 < accuracy_score(right, predicted) < 1  # there is something to see
    assert found["found"].scores["accuracy"] == pytest.approx(accuracy_score(right, predicted))
    counts = [[cell.count for cell in row.cells] for row in found["matrix"].rows]
    expected = confusion_matrix(right, predicted, labels=range(7))
    assert counts == expected.tolist()
    assert [[cell.right for cell in row.cells] for row in found["matrix"].rows] == np.eye(7, dtype=bool).tolist()
    pairs = [(NAMES.index(pair.meant), NAMES.index(pair.said), pair.count) for pair in found["matrix"].pairs]
    off = expected * (1 - np.eye(7, dtype=int))
    assert [count for _, _, count in pairs] == sorted(off[off > 0], reverse=True)[:10]
    assert all(off[meant, wrong] == count for meant, wrong, count in pairs)
    table = {row.name: dict(zip(found["classes"].measures, row.values, strict=True)) for row in found["classes"].rows}
    precision, recall, f1, support = precision_recall_fscore_support(right, predicted, labels=range(7), zero_division=0)
    for i, name in enumerate(NAMES):
        expected_row = {"precision": precision[i], "recall": recall[i], "f1": f1[i], "support": support[i]}
        assert table[name] == pytest.approx(expected_row)
    assert [row.values[0] for row in found["classes"].rows] == sorted(f1)


def test_classification__shows_the_mistakes_of_which_the_model_was_surest(tmp_path):
    data = source("classification", NAMES, validation=200)
    found = content(tmp_path, data)
    likely = said(data).softmax(1).numpy()
    right = np.array([sample.target for sample in data.splits["validation"]])
    predicted = likely.argmax(1)
    gap = likely.max(1) - likely[np.arange(200), right]
    worst = np.argsort(-gap, kind="stable")[: len(found["mistakes"])]
    assert len(found["mistakes"]) == min(18, int((predicted != right).sum()))
    for mistake, place in zip(found["mistakes"], worst, strict=True):
        assert mistake.key == data.splits["validation"][place].key
        assert [label.name for label in mistake.said] == [NAMES[predicted[place]]]
        assert [label.name for label in mistake.meant] == [NAMES[right[place]]]
        assert mistake.said[0].probability == pytest.approx(likely[place, predicted[place]], abs=1e-5)
        assert mistake.meant[0].probability == pytest.approx(likely[place, right[place]], abs=1e-5)


def test_multilabel__counts_as_scikit_learn_does(tmp_path):
    data = source("multilabel", NAMES, validation=120)
    found = content(tmp_path, data)
    logits = said(data)
    right = np.zeros((120, 7))
    for row, sample in zip(right, data.splits["validation"], strict=True):
        row[list(sample.target)] = 1
    predicted = logits.sigmoid().numpy() >= 0.5
    table = {row.name: dict(zip(found["classes"].measures, row.values, strict=True)) for row in found["classes"].rows}
    f1 = f1_score(right, predicted, average=None, zero_division=0)
    areas = roc_auc_score(right, logits.numpy(), average=None)
    assert found["classes"].measures[:2] == ("auroc", "f1")
    for i, name in enumerate(NAMES):
        assert table[name]["f1"] == pytest.approx(f1[i])
        assert table[name]["auroc"] == pytest.approx(areas[i], abs=2e-3)
    for mistake in found["mistakes"]:
        place = int(mistake.key[-9:-4]) - 60
        assert {label.name for label in mistake.said} == {
            NAMES[i] for i in np.flatnonzero(predicted[place] & (right[place] == 0))
        }
        assert {label.name for label in mistake.meant} == {
            NAMES[i] for i in np.flatnonzero(~predicted[place] & (right[place] == 1))
        }


def test_segmentation__counts_as_scikit_learn_does(tmp_path):
    data = source("segmentation", NAMES, validation=40)
    found = content(tmp_path, data)
    masks = torch.stack([sample.mask() for sample in data.splits["validation"]]).numpy()
    predicted = F.interpolate(said(data), masks.shape[1:], mode="bilinear").argmax(1).numpy()
    counting = masks != 255
    iou = jaccard_score(masks[counting], predicted[counting], average=None, labels=range(7))
    _, recall, _, _ = precision_recall_fscore_support(masks[counting], predicted[counting], labels=range(7))
    table = {row.name: dict(zip(found["classes"].measures, row.values, strict=True)) for row in found["classes"].rows}
    for i, name in enumerate(NAMES):
        assert table[name]["iou"] == pytest.approx(iou[i], abs=1e-3)
        assert table[name]["accuracy"] == pytest.approx(recall[i], abs=1e-3)
    each = [jaccard_score(m[c], p[c], average="macro") for m, p, c in zip(masks, predicted, counting, strict=True)]
    assert [one.iou for one in found["worst"]] == pytest.approx(sorted(each)[:6], abs=1e-2)
    assert [one.key for one in found["samples"]] == [data.splits["validation"][i].key for i in (5, 15, 25, 35)]
    shades = {shade.name: shade.meant for shade in found["samples"][0].shades}
    ids, counts = np.unique(masks[5][counting[5]], return_counts=True)
    expected = {NAMES[i]: count / counts.sum() for i, count in zip(ids, counts, strict=True)}
    assert {name: share for name, share in shades.items() if share} == pytest.approx(expected)


def test_data__are_counted(tmp_path):
    data = source("classification", NAMES, validation=20, train=50)
    found = content(tmp_path, data)["data"]
    assert found.splits == (("train", 50), ("validation", 20))
    assert [row.counts for row in found.classes] == [
        (sum(s.target == i for s in data.splits["train"]), sum(s.target == i for s in data.splits["validation"]))
        for i in range(7)
    ]
    assert found.smallest == found.usual == found.largest == (32, 32)
    assert [example.name for example in found.examples] == list(NAMES)


def test_data__of_masks_are_shares_of_pixels(tmp_path):
    data = source("segmentation", NAMES)
    found = content(tmp_path, data)["data"]
    masks = torch.stack([sample.mask() for sample in data.splits["train"]]).numpy()
    counts = np.bincount(masks[masks != 255], minlength=7)
    assert [row.counts[0] for row in found.classes] == pytest.approx((counts / counts.sum()).tolist())
    assert len(found.examples) == 6
    assert all(example.truth is not None for example in found.examples)


def test_matrix__of_very_many_classes_shows_those_with_most_mistakes(tmp_path):
    names = tuple(f"c{i}" for i in range(200))
    data = source("classification", names, validation=600, train=200)
    matrix = content(tmp_path, data)["matrix"]
    right = [sample.target for sample in data.splits["validation"]]
    counts = confusion_matrix(right, said(data).argmax(1).numpy(), labels=range(200))
    mistakes = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    shown = [names.index(name) for name in matrix.names]
    assert len(shown) == 60
    assert min(mistakes[shown]) >= max(np.delete(mistakes, shown))
    assert [row.total for row in matrix.rows] == counts.sum(1)[shown].tolist()
