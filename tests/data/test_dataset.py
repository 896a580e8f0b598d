import copy
import pickle

import pytest
import torch
from PIL import Image
from tests.data.pixels import folder_of_pictures, same
from torch.utils.data import DataLoader

from lumora.data.cache import Cache
from lumora.data.content import InFile, InMemory
from lumora.data.dataset import Pictures
from lumora.data.entries import Entry
from lumora.data.reading import read_picture
from lumora.data.sample import StoredSample
from lumora.data.transforms import (
    ColourJitter,
    Compose,
    Flip,
    RandomResizedCrop,
    Resize,
    classification_eval,
    classification_train,
    generator_for,
    segmentation_train,
)
from lumora.errors import DataError

STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TRAIN = classification_train(24, *STATISTICS, colour=ColourJitter(0.2, 0.2, 0.2, 0.1), trivial_augment=True)


def test_pictures__give_the_transform_of_what_the_sample_holds(tmp_path):
    samples = folder_of_pictures(tmp_path)
    pictures = Pictures(samples, TRAIN, seed=3)
    pictures.set_epoch(7)
    for i, sample in enumerate(samples):
        expected, _ = TRAIN(read_picture(sample.path), None, generator_for(3, 7, sample.key))
        assert same(pictures[i], {"pixel_values": expected, "labels": torch.tensor(sample.target)})


def test_pictures__give_masks_as_labels(tmp_path):
    samples = folder_of_pictures(tmp_path, masks=True)
    train = segmentation_train(32, *STATISTICS)
    for i, sample in enumerate(samples):
        picture, mask = train(sample.picture(), sample.mask(), generator_for(0, 0, sample.key))
        assert same(Pictures(samples, train)[i], {"pixel_values": picture, "labels": mask.long()})


def test_pictures__give_a_one_for_each_of_several_labels(tmp_path):
    (sample,) = folder_of_pictures(tmp_path, count=1)
    several = StoredSample(sample.key, sample.content, target=(0, 3))
    assert Pictures([several], TRAIN, classes=5)[0]["labels"].tolist() == [1, 0, 0, 1, 0]
    none = StoredSample(sample.key, sample.content, target=())
    assert Pictures([none], TRAIN, classes=2)[0]["labels"].tolist() == [0, 0]
    with pytest.raises(DataError, match="say how many classes"):
        Pictures([several], TRAIN)[0]


def test_pictures__without_label_are_pictures(tmp_path):
    (sample,) = folder_of_pictures(tmp_path, count=1)
    assert list(Pictures([StoredSample(sample.key, sample.content)], TRAIN)[0]) == ["pixel_values"]


def test_pictures__are_the_same_for_any_number_of_workers_in_torchs_own_loader(tmp_path):
    samples = folder_of_pictures(tmp_path)
    found = []
    for workers in (0, 1, 3):
        pictures = Pictures(samples, TRAIN, seed=1)
        loader = DataLoader(pictures, batch_size=2, num_workers=workers, persistent_workers=workers > 0)
        epochs = []
        for epoch in (0, 1):
            pictures.set_epoch(epoch)  # reaches workers that are running already
            epochs.append(list(loader))
        found.append(epochs)
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    assert not same(found[0][0], found[0][1])


def test_pictures__follow_from_seed_epoch_and_key_and_not_from_their_place(tmp_path):
    samples = folder_of_pictures(tmp_path)
    forwards, backwards = Pictures(samples, TRAIN), Pictures(samples[::-1], TRAIN)
    for i in (4, 0, 2, 0):
        assert same(forwards[i], backwards[len(samples) - 1 - i])
    first = forwards[0]
    assert not same(first, Pictures(samples, TRAIN, seed=1)[0])
    forwards.set_epoch(1)
    assert not same(first, forwards[0])
    assert forwards.epoch == 1


@pytest.mark.parametrize("transform", [TRAIN, classification_eval(24, *STATISTICS), RandomResizedCrop(8)])
def test_pictures__with_a_cache_are_the_same_as_without(tmp_path, transform):
    samples = folder_of_pictures(tmp_path / "data")
    plain, cached = Pictures(samples, transform), Pictures(samples, transform, cache=Cache(tmp_path / "cache"))
    for epoch in range(3):
        plain.set_epoch(epoch)
        cached.set_epoch(epoch)
        for i in range(len(samples)):
            assert same(plain[i], cached[i])


@pytest.mark.parametrize(("side", "kept"), [(40, (40, 40)), (56, (56, 56)), (57, (40, 40))])
def test_pictures__are_kept_as_they_are_before_anything_is_drawn_within_twice_the_room(tmp_path, side, kept):
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "0.png")
    cache = Cache(tmp_path / "cache")
    steps = Compose((Resize((side, side)), Flip()))
    pictures = Pictures([StoredSample("0.png", InFile(tmp_path / "0.png"), 0)], steps, cache=cache)
    assert pictures[0]["pixel_values"].shape == (3, side, side)
    assert cache.state().used == Entry(torch.zeros(3, *kept, dtype=torch.uint8), None, prepared=False).size


def test_pictures__from_bytes_are_cached_by_their_bytes(tmp_path):
    samples = folder_of_pictures(tmp_path / "data", count=2)
    cache = Cache(tmp_path / "cache")

    def pictures(number):
        content = InMemory(samples[number].path.read_bytes(), "row 0")
        return Pictures([StoredSample("0", content, 1)], TRAIN, cache=cache)

    assert same(pictures(0)[0], pictures(0)[0])
    assert not same(pictures(0)[0], pictures(1)[0])


def test_pictures__of_ones_own_kind_of_sample_are_cached_if_it_says_what_it_is_known_by(tmp_path):
    class Own:
        key, target, path = "a", 0, None

        def __init__(self):
            self.decoded = 0

        def picture(self):
            self.decoded += 1
            return torch.zeros(3, 30, 30, dtype=torch.uint8)

        def mask(self):
            return None

    unknown, known = Own(), Own()
    known.fingerprint = "thirty zeros"
    for sample, decoded in ((unknown, 3), (known, 1)):
        pictures = Pictures([sample], TRAIN, cache=Cache(tmp_path / "cache"))
        for _ in range(3):
            pictures[0]
        assert sample.decoded == decoded


def test_pictures__can_be_copied_and_sent_to_processes(tmp_path):
    pictures = Pictures(folder_of_pictures(tmp_path / "data"), TRAIN, cache=Cache(tmp_path / "cache"))
    pictures.set_epoch(5)
    for other in (copy.deepcopy(pictures), pickle.loads(pickle.dumps(pictures))):
        assert other.epoch == 5
        assert same(pictures[1], other[1])


def test_pictures__never_share_memory_with_the_cache_file(tmp_path):
    samples = folder_of_pictures(tmp_path / "data")
    whole = Pictures(samples, Compose(()), cache=Cache(tmp_path / "cache"))
    expected = [whole[i] for i in range(len(samples))]
    for _ in range(2):
        for i in range(len(samples)):
            assert same(whole[i], expected[i])
            whole[i]["pixel_values"].zero_()
    fresh = Pictures(samples, Compose(()), cache=Cache(tmp_path / "cache"))
    assert same(expected, [fresh[i] for i in range(len(samples))])
    assert expected[0]["pixel_values"].any()


def test_pictures__stay_the_same_when_a_step_of_ones_own_writes_to_them(tmp_path):
    def darker(picture, mask, generator):
        return picture.mul_(0), mask

    samples = folder_of_pictures(tmp_path / "data")
    cache = Cache(tmp_path / "cache")
    for _ in range(3):
        assert not Pictures(samples, darker, cache=cache)[0]["pixel_values"].any()
    assert same(Pictures(samples, TRAIN, cache=cache)[0], Pictures(samples, TRAIN)[0])
