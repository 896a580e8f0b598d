import numpy as np
import pytest
import torch
from tests.bundle.making import LABELS
from tests.data.making import noise, put, put_mask

from lumora.data import Labels, open_source
from lumora.errors import DataError, LumoraWarning

SIZES = ((40, 60), (90, 70), (64, 64), (33, 47))


def class_folders(root, splits=("train", "test"), classes=LABELS):
    for split in splits:
        for i, name in enumerate(classes):
            for j in range(3):
                put(root / split / name / f"{j}.png", noise(50 + 5 * j, 40, seed=len(split) * 100 + i * 10 + j))
    return root


def mask_folders(root):
    for i, (height, width) in enumerate(SIZES):
        put(root / f"images/{i}.png", noise(height, width, seed=i))
        ids = np.random.default_rng(i).integers(0, 3, (height, width))
        ids[:5] = 255
        put_mask(root / f"masks/{i}.png", ids)
    (root / "labels.txt").write_text("\n".join(LABELS))
    return root


def test_evaluate__counts_what_predict_says(classifier, tmp_path):
    data = class_folders(tmp_path / "data")
    scores = classifier.evaluate(data, batch_size=4)
    right = dict.fromkeys(LABELS, 0)
    for name in LABELS:
        for prediction in classifier.predict(data / "test" / name):
            right[name] += classifier.labels.names[prediction.chosen[0]] == name
    assert scores["accuracy"] == pytest.approx(sum(right.values()) / 9)
    source = open_source(data, labels=classifier.labels)
    assert classifier.evaluate(source, batch_size=4) == scores
    assert dict(classifier.evaluate(source, split="test", batch_size=1)) == pytest.approx(dict(scores), abs=1e-6)
    assert classifier.evaluate(source.splits["test"], batch_size=4) == scores
    assert classifier.evaluate(source, split="train")["accuracy"] != scores["accuracy"] or sum(right.values()) == 9


def test_evaluate__masks_at_their_own_sizes(segmenter, tmp_path):
    data = mask_folders(tmp_path / "data")
    scores = segmenter.evaluate(data, batch_size=3)
    both, either = np.zeros(3), np.zeros(3)
    same = counted = 0
    for sample in open_source(data, validation=0.0).splits["train"]:
        said, meant = segmenter.predict(sample).mask.numpy(), sample.mask().numpy()
        counts = meant != 255
        same, counted = same + (said == meant)[counts].sum(), counted + counts.sum()
        for i in range(3):
            both[i] += ((said == i) & (meant == i) & counts).sum()
            either[i] += (((said == i) | (meant == i)) & counts).sum()
    present = either > 0
    assert scores["overall_accuracy"] == pytest.approx(same / counted, abs=1e-3)
    assert scores["mean_iou"] == pytest.approx((both[present] / either[present]).mean(), abs=1e-3)


def test_evaluate__several_labels(tagger, tmp_path):
    rows = ["path," + ",".join(LABELS)]
    meant = []
    for i in range(6):
        put(tmp_path / f"data/{i}.png", noise(60, 40, seed=i))
        meant.append([i & 1, (i >> 1) & 1, (i >> 2) & 1])
        rows.append(f"{i}.png," + ",".join(map(str, meant[-1])))
    (tmp_path / "data/labels.csv").write_text("\n".join(rows))
    source = open_source(
        tmp_path / "data", columns={"picture": "path", "label": LABELS}, validation=0.0, labels=tagger.labels
    )
    scores = tagger.evaluate(source, batch_size=4)
    said = torch.stack([one.probabilities >= 0.4 for one in tagger.predict(list(source.splits["train"]))])
    assert scores["accuracy"] == pytest.approx((said == torch.tensor(meant).bool()).float().mean().item())


def test_evaluate__names_what_cannot_be_measured(classifier, tmp_path):
    data = class_folders(tmp_path / "data", splits=("test",))
    (data / "test/otter/1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"(?s)1 of 9 pictures.*otter/1.png is empty"):
        classifier.evaluate(data)
    with pytest.warns(LumoraWarning, match=r"Skipped: .*otter/1.png is empty"):
        assert 0 <= classifier.evaluate(data, skip_bad=True)["accuracy"] <= 1
    for path in data.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no sample that could be measured. The first: .*0.png is empty"):
        classifier.evaluate(data, skip_bad=True)


def test_evaluate__refuses_what_means_something_else(classifier, segmenter, tmp_path):
    data = class_folders(tmp_path / "data")
    with pytest.raises(DataError, match="for classification and the bundle for segmentation"):
        segmenter.evaluate(open_source(data, labels=Labels(LABELS)))
    with pytest.raises(DataError, match="which gives classification and not segmentation"):
        segmenter.evaluate(data)
    source = open_source(data, labels=classifier.labels)
    with pytest.raises(DataError, match=r"no split 'tset'; there is 'train', 'validation', 'test'"):
        classifier.evaluate(source, split="tset")
    with pytest.raises(DataError, match="have no splits"):
        classifier.evaluate(source.splits["test"], split="test")
    with pytest.raises(
        DataError, match=r"1 class that the model does not know: 'wolf'\. It knows 'red fox', 'otter', 'owl'"
    ):
        classifier.evaluate(class_folders(tmp_path / "other", classes=("otter", "wolf")))
