"""Our samples in Keras: the pixels, labels and order of the torch loader."""

import threading

import keras
import numpy as np
import pytest

from lumora.data import Labels, Loader, Pictures
from lumora.data.scenes import scenes
from lumora.data.transforms import classification_train, segmentation_train
from lumora.errors import DataError, LumoraError
from lumora.integrations.keras import PictureDataset, evaluate, to_tf_dataset
from lumora.tasks import Classification, task_for

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.3)


def case(name, count=16):
    task = "segmentation" if name == "segmentation" else "classification"
    source = scenes(count, 48, task=task)
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


def test_tf_dataset__left_early_begins_that_epoch_again():
    pytest.importorskip("tensorflow")
    source, task, transform = case("classification")
    ours = to_tf_dataset(source, task, transform, batch_size=3, seed=4)
    first, second = of_torch(source, transform, 2)
    np.testing.assert_array_equal(next(iter(ours))[1], first[0][1])
    same(list(ours.as_numpy_iterator()), first)
    same(list(ours.as_numpy_iterator()), second)


def seen_by_fit(data, size, fits, **options):
    """After each batch the mean so far in its epoch, of numbers that depend on the batch alone."""
    layers = [keras.Input((*size, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(1, use_bias=False)]
    model = keras.Sequential(layers)
    model.set_weights([np.array([[1.0], [3.0], [7.0]])])
    seen = []
    noted = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(float(logs["loss"])))
    for _ in range(fits):
        model.compile(keras.optimizers.SGD(0.0), lambda meant, said: said[:, 0] + keras.ops.cast(meant, "float32"))
        model.fit(data, epochs=2, verbose=0, callbacks=[noted], **options)
    return seen


def mean_so_far(epochs):
    for epoch in epochs:
        values = [np.mean(pixels.mean((1, 2)) @ [1.0, 3.0, 7.0] + labels.reshape(-1)) for pixels, labels in epoch]
        yield from np.cumsum(values) / np.arange(1, len(values) + 1)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("kind", ["tf.data", "PyDataset"])
def test_fit__sees_the_batches_of_the_loader(kind, workers):
    if kind == "tf.data":
        pytest.importorskip("tensorflow")
    source, task, transform = case("classification", 32)
    make, options = (to_tf_dataset, {}) if kind == "tf.data" else (PictureDataset, {"shuffle": False})
    ours = make(source, task, transform, batch_size=3, seed=4, workers=workers)
    found = seen_by_fit(ours, (24, 32), 2, **options)
    np.testing.assert_allclose(found, list(mean_so_far(of_torch(source, transform, 4))), rtol=1e-4, atol=1e-4)


def test_epoch__is_counted_once_all_its_batches_were_given_out():
    source, task, transform = case("classification", 32)
    ours = PictureDataset(source, task, transform, batch_size=3, seed=4)
    first, second = of_torch(source, transform, 2)
    assert len(first) >= 4
    for indices, epoch in (([], 0), ([0, 1], 0), (range(2, len(first)), 1), ([0], 1)):
        for i in indices:
            np.testing.assert_array_equal(ours[i][1], (second if ours.epoch else first)[i][1])
        ours.on_epoch_end()
        assert ours.epoch == epoch


@pytest.mark.parametrize("workers", [1, 2])
def test_picture_dataset__makes_batches_before_they_are_asked_for(workers):
    source, task, _ = case("classification")
    drawn, beyond = [], threading.Event()

    def noting(picture, mask, generator):
        drawn.append(threading.current_thread())
        if len(drawn) == 2 * (1 + workers):
            beyond.set()
        return picture, mask

    ours = PictureDataset(source, task, noting, batch_size=2, workers=workers)
    _ = ours[0]
    assert beyond.wait(20)
    assert len(drawn) == 2 * (1 + workers)
    assert threading.main_thread() not in drawn


def test_channels_first__is_refused():
    source, task, transform = case("classification")
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(LumoraError, match="channels last on every backend"):
            PictureDataset(source, task, transform)
        with pytest.raises(LumoraError, match="set_image_data_format"):
            evaluate(keras.Sequential([keras.Input((3,))]), task, [(np.zeros((1, 3)), np.zeros(1))])
    finally:
        keras.config.set_image_data_format("channels_last")


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


@pytest.mark.parametrize("make", [PictureDataset, to_tf_dataset])
def test_fewer_pictures_than_a_batch__are_refused_and_not_trained_on_in_silence(make):
    if make is to_tf_dataset:
        pytest.importorskip("tensorflow")
    source, task, transform = case("classification")
    few = source.splits["train"][:5]
    with pytest.raises(DataError, match=r"5 pictures and batch_size is 8.*drop_last=False"):
        make(few, task, transform, batch_size=8)
    assert len(make(few, task, transform, batch_size=8, drop_last=False)) == 1
    assert len(make(few, task, transform, batch_size=8, shuffle=False)) == 1
    with pytest.raises(DataError, match="no pictures"):
        make([], task, transform)


def test_pictures_of_different_sizes__are_refused():
    source = scenes(16, 48)

    def as_it_is(picture, mask, generator):
        keep = 20 + int(picture.float().mean()) % 7  # each its own height
        return picture[:, :keep], mask

    with pytest.raises(DataError, match="different sizes"):
        PictureDataset(source, task_for(source), as_it_is, batch_size=8)[0]
