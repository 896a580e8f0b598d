"""Where nothing counts: 255, or 65535 where 255 is a class; from files through loader, loss, metrics and drawing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tests.data.making import noise, put

from lumora.data import Coding, Labels, Loader, Pictures, open_source, read_mask
from lumora.data.doctor import examine
from lumora.data.labels import ignore_of
from lumora.data.transforms import CentreCrop, Compose, Normalise
from lumora.tasks import Classification, Segmentation
from lumora.tasks.metrics import SegmentationMetrics
from lumora.tasks.selftest import self_test

NAMES = [f"thing {i}" for i in range(300)]
SMALL = NAMES[:255]


def wide_masks(root, names, nothing):
    """Masks of 16 bits: every class, 255 among them if there are so many, and a row where nothing counts."""
    for i in range(4):
        ids = (np.arange(20 * 30).reshape(20, 30) % len(names)).astype(np.uint16)
        ids[0] = nothing
        put(root / "images" / f"{i}.png", noise(20, 30, seed=i))
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(ids).save(root / "masks" / f"{i}.png")
    (root / "labels.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture(params=[(SMALL, 255), (NAMES, 65_535)], ids=["255 classes", "300 classes"])
def source(request, tmp_path):
    names, nothing = request.param
    return open_source(wide_masks(tmp_path, names, nothing), validation=0, near_duplicates_together=False), nothing


def padded(source):
    """One batch whose pictures are larger than the files': 28 × 30 with four rows of frame above and below."""
    transform = Compose((CentreCrop((28, 30)), Normalise((0.5,) * 3, (0.5,) * 3)))
    return next(iter(Loader(Pictures(source.splits["train"], transform), 4)))["labels"]


def test_ignore_of__is_no_class():
    assert [ignore_of(n) for n in (1, 254, 255, 256, 300)] == [255, 255, 255, 65_535, 65_535]
    assert Labels(tuple(NAMES)).ignore == SegmentationMetrics(NAMES)._confusion.ignore == 65_535


def test_padding_and_files__have_the_ignore_number_of_the_labels(source):
    opened, nothing = source
    assert opened.labels.ignore == nothing
    labels = padded(opened)
    assert (labels[:, :5] == nothing).all() and (labels[:, -4:] == nothing).all()
    inside = labels[:, 5:-4]
    assert set(inside.unique().tolist()) == set(range(len(opened.labels)))


def test_loss__leaves_out_what_counts_nowhere(source):
    opened, nothing = source
    labels = padded(opened)
    logits = torch.randn(4, len(opened.labels), 28, 30, generator=torch.Generator().manual_seed(0))
    counting = labels != nothing
    pixels = logits.permute(0, 2, 3, 1)[counting]
    loss = Segmentation(opened.labels).loss(logits, labels)
    torch.testing.assert_close(loss, F.cross_entropy(pixels, labels[counting]))


def test_metrics__leave_out_what_counts_nowhere(source):
    opened, nothing = source
    labels = padded(opened)
    task = Segmentation(opened.labels)
    self_test(task, [{"labels": labels}])
    for metrics in (task.new_metrics(), SegmentationMetrics(opened.labels.names)):
        said = torch.where(labels == nothing, 3, labels)
        metrics.update(F.one_hot(said, len(opened.labels)).permute(0, 3, 1, 2).float(), labels)
        scores = metrics.compute()
        assert scores["mean_iou"] == 1 and len(scores.per_class) == len(opened.labels)


def test_drawing__shows_the_picture_where_nothing_counts(source):
    from lumora.tasks.drawing import overlay

    opened, _ = source
    mask = opened.splits["train"][0].mask()
    picture = opened.splits["train"][0].picture()
    drawn = overlay(picture, mask, [(0, 0, 0)] * len(opened.labels), 1.0, opened.labels.ignore)
    assert torch.equal(drawn[:, 0], picture[:, 0])
    assert not drawn[:, 1:].any()


def test_coding__of_many_labels_does_not_lose_the_class_255(tmp_path):
    Image.fromarray(np.array([[254, 255, 256, 65_535]], dtype=np.uint16)).save(tmp_path / "mask.png")
    labels = Labels(tuple(NAMES))
    assert read_mask(tmp_path / "mask.png", Coding(labels)).tolist() == [[254, 255, 256, 65_535]]
    both = Coding(labels, (255, 65_535))
    assert read_mask(tmp_path / "mask.png", both).tolist() == [[254, 65_535, 256, 65_535]]
    # Reduced, 255 is the last of 255 classes, and counts nowhere with 254.
    Image.fromarray(np.array([[0, 1, 254, 255]], dtype=np.uint8)).save(tmp_path / "mask.png")
    reduced = Coding(Labels(tuple(SMALL)), reduce=True)
    assert read_mask(tmp_path / "mask.png", reduced).tolist() == [[255, 0, 253, 254]]
    fewer = Coding(Labels(tuple(SMALL[:254])), reduce=True)
    assert read_mask(tmp_path / "mask.png", fewer).tolist() == [[255, 0, 253, 255]]


def test_source_of_many_labels__says_what_255_is(tmp_path):
    source = open_source(wide_masks(tmp_path, NAMES, 65_535))
    (note,) = [note for note in source.notes if note.startswith("255 in the masks")]
    assert "is 'thing 255', as there are 300 labels; 65535 counts nowhere" in note
    assert "say ignore=[255, 65535]" in note
    assert not any(finding.kind in ("background", "unknown-ids") for finding in examine(tmp_path).findings)
    as_told = open_source(tmp_path, ignore=[255, 65_535], validation=0, near_duplicates_together=False)
    assert 255 not in as_told.splits["train"][0].mask().unique().tolist()


def test_source_of_many_labels__without_names(tmp_path):
    (wide_masks(tmp_path, NAMES, 65_535) / "labels.txt").unlink()
    source = open_source(tmp_path, validation=0, near_duplicates_together=False)
    assert source.labels.names == tuple(f"class {i}" for i in range(300))
    mask = source.splits["train"][0].mask()
    assert (mask[0] == 65_535).all() and mask[1:].max() == 299


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_classification__labels_that_are_not_known_count_nowhere(smoothing):
    task = Classification(Labels(("cat", "dog", "owl")), label_smoothing=smoothing, class_weights=(1.0, 2.0, 0.5))
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = task.loss(logits, torch.tensor([1, -1, -100, 2]))
    expected = F.cross_entropy(
        logits[[0, 3]], torch.tensor([1, 2]), torch.tensor([1, 2, 0.5]), label_smoothing=smoothing
    )
    torch.testing.assert_close(loss, expected)
    none = task.loss(logits, torch.full((4,), -1))
    (gradient,) = torch.autograd.grad(none, logits)
    assert none.item() == 0 and not gradient.any()
