import itertools
import multiprocessing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.pixels import folder_of_pictures, same

from lumora.data.cache import Cache
from lumora.data.dataset import Pictures
from lumora.data.loader import Loader, Order
from lumora.data.transforms import (
    Compose,
    CutMix,
    Mixup,
    Normalise,
    classification_train,
    segmentation_eval,
    segmentation_train,
)
from lumora.errors import DataError, UnreadableError

STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TRAIN = classification_train(24, *STATISTICS)


@pytest.fixture
def samples(tmp_path):
    return folder_of_pictures(tmp_path / "data", count=7)


def epochs(loader, count):
    return [list(loader) for _ in range(count)]


def test_loader__gives_the_same_batches_for_any_number_of_workers(samples, tmp_path):
    found = [
        epochs(Loader(Pictures(samples, TRAIN, 1, Cache(tmp_path / "cache")), 2, workers=workers), 3)
        for workers in (0, 1, 3)
    ]
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    assert not same(found[0][0], found[0][1])


def test_loader__gives_batches_bit_for_bit_of_the_pictures(samples):
    pictures = Pictures(samples, TRAIN)
    (batch,) = Loader(pictures, 7, shuffle=False)
    assert batch["pixel_values"].is_contiguous()
    assert batch["labels"].tolist() == [i % 3 for i in range(7)]
    for i in range(7):
        assert torch.equal(batch["pixel_values"][i], pictures[i]["pixel_values"])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4])
def test_loader__goes_on_anywhere_as_if_it_had_never_stopped(samples, workers, stop):
    mix = [Mixup(3), CutMix(3)]
    straight = Loader(Pictures(samples, TRAIN), 2, mix=mix)
    expected = list(itertools.chain(*epochs(straight, 2)))
    first = Loader(Pictures(samples, TRAIN), 2, mix=mix, workers=workers)
    begun = list(itertools.islice(itertools.chain.from_iterable(first for _ in range(2)), stop))
    state = first.state_dict()
    assert state == {"epoch": 0, "batches": stop} if stop <= 3 else {"epoch": 1, "batches": stop - 3}
    second = Loader(Pictures(samples, TRAIN), 2, mix=mix, workers=workers)
    second.load_state_dict(state)
    rest = []
    while len(begun) + len(rest) < len(expected):
        rest += list(second)
    assert same(begun + rest, expected)


def test_loader__after_an_epoch_is_at_the_start_of_the_next(samples):
    loader = Loader(Pictures(samples, TRAIN), 2)
    list(loader)
    assert loader.state_dict() == {"epoch": 1, "batches": 0}
    loader.set_epoch(0)
    first = list(loader)
    loader.set_epoch(0)
    assert same(first, list(loader))


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 40),
    size=st.integers(4, 13),
    world=st.integers(1, 4),
    epoch=st.integers(0, 3),
    last=st.booleans(),
)
def test_order__shares_every_picture_out_once(count, size, world, epoch, last):
    parts = []
    for rank in range(world):
        order = Order(count, size, 5, True, not last, rank, world)
        order.epoch = epoch
        parts.append(list(order))
        assert len(parts[-1]) == len(order)
    assert len({len(part) for part in parts}) == 1  # nobody waits for the others
    seen = [i for part in parts for batch in part for i in batch]
    assert all(1 <= len(batch) <= -(-size // world) for part in parts for batch in part)
    if last:
        assert set(seen) == set(range(count))
        assert len(seen) < count + world
    else:
        assert len(set(seen)) == len(seen) == count // size * size


@pytest.mark.parametrize("world", [2, 3, 4])
def test_order__has_the_batches_of_one_process_for_any_number_of_them(world):
    whole = list(Order(50, 7, 5, True, None, 0, 1))
    parts = [list(Order(50, 7, 5, True, None, rank, world)) for rank in range(world)]
    assert [sorted(itertools.chain(*shares)) for shares in zip(*parts, strict=True)] == [
        sorted(batch) for batch in whole
    ]


def test_order__is_drawn_anew_each_epoch_and_kept_as_it_is_if_not_shuffled():
    orders = []
    for epoch in (0, 1, 0):
        order = Order(50, 50, 0, True, None, 0, 1)
        order.epoch = epoch
        orders.append(next(iter(order)))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(50)) != orders[0]
    assert [i for batch in Order(5, 2, 0, False, None, 0, 1) for i in batch] == list(range(5))


def test_loader__draws_nothing_from_torchs_own_generator(samples):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for workers in (0, 1):
        list(Loader(Pictures(samples, TRAIN), 2, workers=workers, mix=Mixup(3)))
    assert torch.equal(torch.get_rng_state(), before)


def test_loader__gives_masks_and_keeps_those_of_other_sizes_apart(tmp_path):
    samples = folder_of_pictures(tmp_path, count=3, masks=True)
    for masks in (True, False):
        pictures = Pictures(samples, segmentation_eval(16, *STATISTICS, masks=masks))
        (batch,) = Loader(pictures, 3, shuffle=False, workers=1)
        assert batch["pixel_values"].shape == (3, 3, 16, 16)
        assert all(label.dtype == torch.int64 for label in batch["labels"])
        if masks:
            assert batch["labels"].shape == (3, 16, 16)
        else:
            assert same(batch["labels"], [sample.mask().long() for sample in samples])


def test_loader__gives_pictures_of_different_sizes_as_a_list(samples):
    pictures = Pictures(samples, Compose((Normalise(*STATISTICS),)))
    (batch,) = Loader(pictures, 7, shuffle=False)
    assert batch["labels"].tolist() == [i % 3 for i in range(7)]
    assert same(batch["pixel_values"], [pictures[i]["pixel_values"] for i in range(7)])
    with pytest.raises(DataError, match="cannot be mixed"):
        list(Loader(pictures, 7, mix=Mixup(3)))


@pytest.mark.slow
def test_loader__works_where_processes_are_started_and_not_forked(tmp_path, samples, monkeypatch):
    # As on macOS and Windows: the dataset travels in a message.
    pictures = Pictures(samples, TRAIN, cache=Cache(tmp_path / "cache"))
    expected = epochs(Loader(Pictures(samples, TRAIN), 3), 2)
    loader = Loader(pictures, 3, workers=1)
    loader._batches.multiprocessing_context = multiprocessing.get_context("spawn")
    assert same(epochs(loader, 2), expected)


def test_loader__with_masks_of_segmentation_training_is_the_same_for_workers(tmp_path):
    samples = folder_of_pictures(tmp_path, count=4, masks=True)
    train = segmentation_train(20, *STATISTICS)
    found = [list(Loader(Pictures(samples, train), 2, workers=workers)) for workers in (0, 2)]
    assert same(found[0], found[1])


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda p: Loader(p, 0), "world ≤ batch_size"),
        (lambda p: Loader(p, 2, rank=2, world=2), "0 ≤ rank < world"),
        (lambda p: Loader(p, 2, rank=0, world=3), "world ≤ batch_size"),
        (lambda p: Loader(p, 2).load_state_dict({"epoch": 0, "batches": 9}), "an epoch has 3"),
    ],
)
def test_loader__says_what_is_wrong(samples, use, says):
    with pytest.raises(DataError, match=says):
        use(Pictures(samples, TRAIN))


@pytest.mark.parametrize("workers", [0, 1])
def test_loader__tells_what_is_wrong_with_a_file_alike_with_and_without_workers(tmp_path, samples, workers):
    samples[2].path.write_bytes(b"no picture")
    with pytest.raises(UnreadableError) as caught:
        list(Loader(Pictures(samples, TRAIN), 4, workers=workers))
    assert "Traceback" not in str(caught.value)
    assert str(samples[2].path) in str(caught.value)


def test_loader__refuses_to_be_iterated_twice_at_once(samples):
    loader = Loader(Pictures(samples, TRAIN), 2)
    one = iter(loader)
    next(one)
    next(iter(loader))
    with pytest.raises(DataError, match="make two of them"):
        next(one)
