"""Our samples in Keras: the pixels, labels and order of the torch loader."""

import keras
import numpy as np
import pytest

from lumora.data import Labels, Loader, Pictures
from lumora.data.scenes import scenes
from lumora.data.transforms import classification_train, segmentation_train
from lumora.errors import DataError
from lumora.integrations.keras import PictureDataset, to_tf_dataset
from lumora.tasks import Classification, task_for

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)


def case(name):
    task = "segmentation" if name == "segmentation" else "classification"
    source = scenes(16, 48, task=task)
    transform = (segmentation_train if task == "segmentation" else classification_train)((24, 32), MEAN, STD)
    return source, task_for(source), transform


def of_torch(source, transform, epochs, batch_size=3):
    """What the loader gives in each epoch, with channels last."""
    loader = Loader(Pictures(source.splits["train"], transform, seed=4), batch_size)
    for _ in range(epochs):
        yield [(b["pixel_values"].permute(0, 2, 3, 1).numpy(), b["labels"].numpy()) for b in loader]


def same(ours, theirs):
    assert len(ours) == len(theirs) > 1
    for (pixels, labels), (expected, meant) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(np.asarray(pixels), expected)
        np.testing.assert_array_equal(np.asarray(labels), meant)


@pytest.mark.parametrize("name", ["classification", "segmentation"])
def test_picture_dataset__gives_the_batches_of_the_loader(name):
    source, task, transform = case(name)
    ours = PictureDataset(source, task, transform, batch_size=3, seed=4)
    for theirs in of_torch(source, transform, 2):
        same([ours[i] for i in range(len(ours))], theirs)
        ours.on_epoch_end()


@pytest.mark.parametrize("name", ["classification", "segmentation"])
def test_tf_dataset__gives_the_batches_of_the_loader(name):
    pytest.importorskip("tensorflow")
    source, task, transform = case(name)
    ours = to_tf_dataset(source, task, transform, batch_size=3, seed=4)
    assert int(ours.cardinality()) == len(source.splits["train"]) // 3
    for theirs in of_torch(source, transform, 2):
        same(list(ours.as_numpy_iterator()), theirs)


def test_tf_dataset__left_early_goes_on_with_the_next_epoch():
    pytest.importorskip("tensorflow")
    source, task, transform = case("classification")
    ours = to_tf_dataset(source, task, transform, batch_size=3, seed=4)
    first, second = of_torch(source, transform, 2)
    np.testing.assert_array_equal(next(iter(ours))[1], first[0][1])
    same(list(ours.as_numpy_iterator()), second)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_fit__takes_them(kind):
    source, task, transform = case("classification")
    make = to_tf_dataset if kind == "tf.data" else PictureDataset
    layers = [keras.Input((24, 32, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(len(task.labels))]
    model = keras.Sequential(layers)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(make(source, task, transform, batch_size=4), epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_source_of_another_task__is_refused():
    source, _, transform = case("segmentation")
    with pytest.raises(DataError, match="is for segmentation"):
        PictureDataset(source, Classification(source.labels), transform)


def test_other_labels_and_unknown_splits__are_refused():
    source, task, transform = case("classification")
    with pytest.raises(DataError, match="different labels"):
        PictureDataset(source, Classification(Labels(("a", "b"))), transform)
    with pytest.raises(DataError, match="no split 'dev'"):
        PictureDataset(source, task, transform, split="dev")
    with pytest.raises(DataError, match="at least 1"):
        PictureDataset(source, task, transform, batch_size=0)


def test_pictures_of_different_sizes__are_refused():
    source = scenes(16, 48)

    def as_it_is(picture, mask, generator):
        keep = 20 + int(picture.float().mean()) % 7  # each its own height
        return picture[:, :keep], mask

    with pytest.raises(DataError, match="different sizes"):
        PictureDataset(source, task_for(source), as_it_is, batch_size=8)[0]
