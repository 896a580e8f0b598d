import numpy as np
import pytest
import torch

from lumora.data.scenes import CLASSES, KINDS, PALETTE, scene, scenes
from lumora.errors import DataError


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_scenes__samples_are_the_scenes_of_their_index(task):
    source = scenes(48, size=(40, 56), seed=3, task=task)
    assert source.task == task
    for samples in source.splits.values():
        sample = samples[-1]
        made = scene(3, int(sample.key), (40, 56))
        assert torch.equal(sample.picture(), torch.from_numpy(made.picture).permute(2, 0, 1))
        assert sample.path is None
        if task == "classification":
            assert (sample.target, sample.mask()) == (made.kind, None)
        else:
            assert sample.target is None
            assert np.array_equal(sample.mask().numpy(), made.mask)


def test_scenes__what_a_caller_changes_does_not_come_back():
    sample = scenes(8, size=16, task="segmentation").splits["train"][0]
    first = sample.picture().clone()
    sample.picture().zero_()
    sample.mask().zero_()
    assert torch.equal(sample.picture(), first)
    assert sample.mask().any()


def test_scenes__labels():
    assert scenes(8).labels.names == KINDS
    source = scenes(8, task="segmentation")
    assert (source.labels.names, source.labels.colours) == (CLASSES, PALETTE)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 31, 32, 100, 1000])
def test_scenes__splits_share_nothing_and_leave_nothing_out(count):
    source = scenes(count, size=16)
    keys = [sample.key for samples in source.splits.values() for sample in samples]
    assert len(keys) == len(set(keys)) == count
    assert len(source.splits["train"]) >= count / 2
    if count >= 32:
        for samples in (source.splits["validation"], source.splits["test"]):
            assert set(np.bincount([sample.target for sample in samples], minlength=8)) == {len(samples) // 8}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": 4, "size": 3}, "at least 8"),
        ({"count": 4, "task": "detection"}, "not for 'detection'"),
    ],
)
def test_scenes__bad_wishes(arguments, message):
    with pytest.raises(DataError, match=message):
        scenes(**arguments)
