from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.tasks.samples import MadeSample

from lumora.data import Labels, Source
from lumora.errors import DataError
from lumora.tasks import Segmentation, segmentation, task_for
from lumora.tasks.selftest import self_test

LABELS = Labels(("sky", "sea", "boat"))


def made(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 3, (count, 8, 12), generator=generator)
    masks[:, 0] = 255
    return torch.randn(count, 3, 2, 3, generator=generator, requires_grad=True), masks


def test_task_for__segmentation():
    assert task_for(Source("segmentation", LABELS, {}, "folders")) == Segmentation(LABELS)


def test_target__is_the_mask():
    ids = torch.ones(8, 8, dtype=torch.uint8)
    assert Segmentation(LABELS).target(MadeSample(ids=ids)) is ids
    with pytest.raises(DataError, match="made should have a mask"):
        Segmentation(LABELS).target(MadeSample(target=1))


def test_loss__is_cross_entropy_of_the_upsampled_logits():
    logits, masks = made()
    weights = (1.0, 2.0, 0.5)
    task = Segmentation(LABELS, label_smoothing=0.1, class_weights=weights)
    large = F.interpolate(logits, (8, 12), mode="bilinear")
    expected = F.cross_entropy(large, masks, torch.tensor(weights), ignore_index=255, label_smoothing=0.1)
    torch.testing.assert_close(task.loss({"logits": logits}, masks), expected)


def test_loss__dice_counts_as_much_as_asked():
    logits, masks = made()
    large = F.interpolate(logits, (8, 12), mode="bilinear")
    valid = (masks != 255)[:, None]
    likely = large.softmax(1) * valid
    true = F.one_hot(torch.where(masks == 255, 0, masks), 3).permute(0, 3, 1, 2) * valid
    over = (0, 2, 3)
    dice = 1 - (2 * (likely * true).sum(over) + 1) / (likely.sum(over) + true.sum(over) + 1)
    entropy = F.cross_entropy(large, masks, ignore_index=255)
    found = Segmentation(LABELS, dice=0.7).loss(logits, masks)
    torch.testing.assert_close(found, entropy + 0.7 * dice.mean())
    found.backward()
    assert logits.grad is not None


def test_predict__each_picture_at_its_own_size():
    logits, _ = made()
    sizes = [(8, 12), (5, 4)]
    found = Segmentation(LABELS).predict((logits,), sizes)
    for one, size, prediction in zip(logits, sizes, found, strict=True):
        assert prediction.mask.dtype == torch.uint8
        expected = F.interpolate(one[None], size, mode="bilinear")[0].argmax(0)
        assert torch.equal(prediction.mask.long(), expected)


@pytest.mark.parametrize(("classes", "kind"), [(2, torch.uint8), (300, torch.int32)])
def test_predict__never_holds_class_ids_that_are_larger_than_the_masks(monkeypatch, classes, kind):
    kinds, real = [], segmentation.upsampled_argmax

    def noted(*args, **options):
        ids = real(*args, **options)
        kinds.append(ids.dtype)
        return ids

    monkeypatch.setattr(segmentation, "upsampled_argmax", noted)
    task = Segmentation(Labels(tuple(f"class {i}" for i in range(classes))))
    assert task.predict(torch.rand(1, classes, 2, 2), [(5, 4)])[0].mask.dtype == kind
    assert kinds == [kind]


def test_predict__more_classes_than_a_byte_holds():
    task = Segmentation(Labels(tuple(f"class {i}" for i in range(300))))
    logits = torch.zeros(1, 300, 2, 2)
    logits[:, 299] = 1
    mask = task.predict(logits, [(3, 3)])[0].mask
    assert mask.dtype == torch.int32
    assert mask.unique().tolist() == [299]


def test_draw__picture_mask_and_legend():
    logits, _ = made()
    task = Segmentation(LABELS)
    picture = torch.full((3, 60, 80), 90, dtype=torch.uint8)
    drawn = task.draw(picture, task.predict(logits, [(60, 80), (60, 80)])[0])
    assert drawn.shape[1] == 60 and drawn.shape[2] > 80


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.int64])
def test_self_test__takes_masks_of_any_type_whatever_the_number_of_classes(dtype):
    labels = torch.zeros(1, 8, 8)
    labels[..., 4:] = 200
    self_test(Segmentation(Labels(tuple(f"class {i}" for i in range(300)))), [{"labels": labels.to(dtype)}])


@pytest.mark.parametrize("sizes", [[(8, 12), (8, 12)], [(8, 12), (9, 9)], [(1, 1)]])
def test_self_test__a_right_evaluation_passes(sizes):
    batches = []
    for seed, size in enumerate(sizes):
        labels = torch.randint(0, 3, (2, *size), generator=torch.Generator().manual_seed(seed))
        labels[0, 0] = labels[0, 0] if size == (1, 1) else 255
        batches.append({"labels": labels})
    self_test(Segmentation(LABELS), batches)
