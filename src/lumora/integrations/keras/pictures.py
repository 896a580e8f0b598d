"""Our samples for Keras's `fit`: as a `tf.data.Dataset`, or as a `PyDataset` for those who have no TensorFlow."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lumora.data import Cache, Pictures, Sample, Source
from lumora.data.loader import Order, ready, together
from lumora.data.transforms import Transform
from lumora.errors import DataError
from lumora.integrations.keras.library import keras, tensorflow
from lumora.tasks import Task

Numbers = np.ndarray[Any, Any]


class PictureDataset(keras.utils.PyDataset):
    """Batches of pictures (N, H, W, 3) and labels for `fit` on any backend.

    They are those of `lumora.data.Loader` with the same seed: the same samples in the same order, the same pixels.

    Args:
        source: where samples come from, or some samples.
        task: what their labels are.
        transform: what is done to each, see `lumora.data.transforms`; it must give all pictures one size.
        split: which part of a source.
        batch_size: pictures in a batch.
        shuffle: whether each epoch has an order of its own; without, they come as they are.
        drop_last: whether to leave out a last batch that is not full. As `shuffle` if not said.
        seed: of the order and of all that is random in the transform.
        cache: keeps decoded pictures.
        workers: threads that read ahead.
    """

    def __init__(
        self,
        source: Source | Sequence[Sample],
        task: Task[Any],
        transform: Transform,
        *,
        split: str = "train",
        batch_size: int = 8,
        shuffle: bool = True,
        drop_last: bool | None = None,
        seed: int = 0,
        cache: Cache | None = None,
        workers: int = 1,
    ) -> None:
        super().__init__(workers=workers)
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}; it must be at least 1.")
        samples = _samples(source, task, split)
        self.task = task
        self.pictures = Pictures(samples, transform, seed, cache, classes=len(task.labels))
        self._order = Order(len(samples), batch_size, seed, shuffle, drop_last, 0, 1)
        self._batches = list(self._order)

    @property
    def epoch(self) -> int:
        """Counts from 0."""
        return self._order.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self._order.epoch = epoch
        self.pictures.set_epoch(epoch)
        self._batches = list(self._order)

    def on_epoch_end(self) -> None:
        """Keras calls this after each epoch."""
        self.set_epoch(self.epoch + 1)

    def __len__(self) -> int:
        return self._order.whole()

    def __getitem__(self, index: int) -> tuple[Numbers, Numbers]:
        items = [self.pictures.drawn(i) for i in self._batches[index]]
        batch = ready(self.pictures, together(items), torch.device("cpu"))
        if any(isinstance(value, list) for value in batch.values()):
            raise DataError(
                "Pictures or masks of a batch have different sizes; give the transform a step that sets one size for "
                "both, such as Resize."
            )
        if "labels" not in batch:
            raise DataError("A sample has no label; `fit` needs one of each picture.")
        return _channels(batch["pixel_values"]), _labels(batch["labels"])


def to_tf_dataset(
    source: Source | Sequence[Sample],
    task: Task[Any],
    transform: Transform,
    *,
    split: str = "train",
    batch_size: int = 8,
    shuffle: bool = True,
    drop_last: bool | None = None,
    seed: int = 0,
    cache: Cache | None = None,
) -> Any:
    """The same batches as a `tf.data.Dataset`, whose length is known. Going through it again gives the next epoch.

    The next batch is made while one is trained on. Arguments are those of `PictureDataset`.
    """
    tf = tensorflow()
    pictures = PictureDataset(
        source,
        task,
        transform,
        split=split,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        seed=seed,
        cache=cache,
    )
    signature = _signature(pictures, tf)
    epochs = _Epochs(pictures)
    dataset = tf.data.Dataset.from_generator(epochs.next, output_signature=signature)
    return dataset.apply(tf.data.experimental.assert_cardinality(len(pictures))).prefetch(1)


def _signature(pictures: PictureDataset, tf: Any) -> Any:
    """The sizes of a batch, which many models must know before they see one; costs a look at the first sample."""
    item = pictures.pictures[0]
    if "labels" not in item:
        raise DataError(f"{pictures.pictures.samples[0].key} has no label; `fit` needs one of each picture.")
    pixels, labels = _channels(item["pixel_values"][None]), _labels(item["labels"][None])
    return tuple(tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in (pixels, labels))


class _Epochs:
    """Gives one epoch after the other; one that was left early does not come again."""

    def __init__(self, pictures: PictureDataset) -> None:
        self._pictures = pictures
        self._next = 0
        self._turn = threading.Lock()

    def next(self) -> Iterator[tuple[Numbers, Numbers]]:
        with self._turn:
            epoch, self._next = self._next, self._next + 1
        for i in range(len(self._pictures)):
            with self._turn:  # another iteration may have moved it meanwhile
                if self._pictures.epoch != epoch:
                    self._pictures.set_epoch(epoch)
                batch = self._pictures[i]
            yield batch


def _samples(source: Source | Sequence[Sample], task: Task[Any], split: str) -> Sequence[Sample]:
    if not isinstance(source, Source):
        return source
    if source.task != task.name:
        raise DataError(f"The source is for {source.task}, and the task is {task.name}; use task_for(source).")
    if source.labels.names != task.labels.names:
        raise DataError("The source and the task have different labels; use task_for(source).")
    if split not in source.splits:
        raise DataError(f"There is no split {split!r}; the source has {', '.join(map(repr, source.splits))}.")
    return source.splits[split]


def _channels(pixels: Tensor) -> Numbers:
    if keras.config.image_data_format() == "channels_first":
        return pixels.contiguous().numpy()
    return pixels.permute(0, 2, 3, 1).contiguous().numpy()


def _labels(labels: Tensor) -> Numbers:
    return labels.numpy() if labels.is_floating_point() else labels.to(torch.int32).numpy()
