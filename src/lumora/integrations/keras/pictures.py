"""Our samples for Keras's `fit`: as a `tf.data.Dataset`, or as a `PyDataset` for those who have no TensorFlow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lumora.data import Cache, Pictures, Sample, Source
from lumora.data.loader import Order, ready, together
from lumora.data.transforms import Transform
from lumora.errors import DataError
from lumora.integrations.keras.library import check_channels_last, keras, tensorflow
from lumora.integrations.keras.values import channels_last
from lumora.tasks import Task

Numbers = np.ndarray[Any, Any]
Batch = tuple[Numbers, Numbers]


class PictureDataset(keras.utils.PyDataset):
    """Batches of pictures (N, H, W, 3) and labels for `fit` on any backend.

    They are those of `lumora.data.Loader` with the same seed: the same samples in each epoch, the same pixels, and with
    `fit(..., shuffle=False)` the same order. Without that Keras draws an order of the batches from Python's `random`.
    An epoch is counted once all its batches were given out.

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
        workers: threads that make the next batches, as many, before they are asked for; with 0 none is made ahead.
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
        super().__init__()  # Keras's own threads would keep batches of one epoch for the next
        check_channels_last()
        if batch_size < 1 or workers < 0:
            raise DataError(f"batch_size is {batch_size} and workers is {workers}; at least 1 and 0 are needed.")
        samples = _samples(source, task, split)
        self.task = task
        self.pictures = Pictures(samples, transform, seed, cache, classes=len(task.labels))
        self._order = Order(len(samples), batch_size, seed, shuffle, drop_last, 0, 1)
        self._batches = list(self._order)
        if not self._order.whole():
            raise DataError(_no_batch(len(samples), batch_size))
        self._given: set[int] = set()
        self._ahead = _Ahead(self._made, len(self), workers)

    @property
    def epoch(self) -> int:
        """Counts from 0."""
        return self._order.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch."""
        self._ahead.forget()
        self._given.clear()
        self._order.epoch = epoch
        self.pictures.set_epoch(epoch)
        self._batches = list(self._order)

    def on_epoch_end(self) -> None:
        """Go on to the next epoch if this one was given out. Keras calls it after each, and before the first, too."""
        if len(self._given) == len(self):
            self.set_epoch(self.epoch + 1)

    def __len__(self) -> int:
        return self._order.whole()

    def __getitem__(self, index: int) -> tuple[Numbers, Numbers]:
        index = range(len(self))[index]
        batch = self._ahead.take(index)
        self._given.add(index)
        return batch

    def _made(self, index: int) -> tuple[Numbers, Numbers]:
        items = [self.pictures.drawn(i) for i in self._batches[index]]
        batch = ready(self.pictures, together(items), torch.device("cpu"))
        if any(isinstance(value, list) for value in batch.values()):
            raise DataError(
                "Pictures or masks of a batch have different sizes; give the transform a step that sets one size for "
                "both, such as Resize."
            )
        if "labels" not in batch:
            raise DataError("A sample has no label; `fit` needs one of each picture.")
        return channels_last(batch["pixel_values"]), _labels(batch["labels"])


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
    workers: int = 1,
) -> Any:
    """The same batches as a `tf.data.Dataset`, whose length is known, in the order of the `Loader`.

    Going through it again gives the next epoch, or once more the one that was left early. Arguments are those of
    `PictureDataset`.
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
        workers=workers,
    )
    signature = _signature(pictures, tf)
    epochs = _Epochs(pictures)
    dataset = tf.data.Dataset.from_generator(epochs.next, output_signature=signature)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # what TensorFlow reads ahead would count as given out
    return dataset.apply(tf.data.experimental.assert_cardinality(len(pictures))).with_options(options)


def _signature(pictures: PictureDataset, tf: Any) -> Any:
    """The sizes of a batch, which many models must know before they see one; costs a look at the first sample."""
    item = pictures.pictures[0]
    if "labels" not in item:
        raise DataError(f"{pictures.pictures.samples[0].key} has no label; `fit` needs one of each picture.")
    pixels, labels = channels_last(item["pixel_values"][None]), _labels(item["labels"][None])
    return tuple(tf.TensorSpec((None, *one.shape[1:]), one.dtype) for one in (pixels, labels))


class _Epochs:
    """Gives one epoch after the other. One that was left early begins again: on some backends `fit` looks first."""

    def __init__(self, pictures: PictureDataset) -> None:
        self._pictures = pictures
        self._next = 0
        self._turn = threading.Lock()

    def next(self) -> Iterator[tuple[Numbers, Numbers]]:
        epoch = self._next
        for i in range(len(self._pictures)):
            with self._turn:  # another iteration may have moved it meanwhile
                if self._pictures.epoch != epoch:
                    self._pictures.set_epoch(epoch)
                batch = self._pictures[i]
                if i + 1 == len(self._pictures):
                    self._next = max(self._next, epoch + 1)
            yield batch


class _Ahead:
    """Makes batches in threads before they are asked for, as long as they are asked for one after the other."""

    def __init__(self, make: Callable[[int], Batch], count: int, workers: int) -> None:
        self._make, self._count, self._workers = make, count, workers
        self._threads = ThreadPoolExecutor(workers, "lumora-pictures") if workers else None
        self._coming: dict[int, Future[Batch]] = {}
        self._turn = threading.RLock()

    def take(self, index: int) -> Batch:
        """A batch; those that follow it are begun."""
        if self._threads is None:
            return self._make(index)
        with self._turn:
            if index not in self._coming:
                self.forget()
            for i in range(index, min(index + 1 + self._workers, self._count)):
                if i not in self._coming:
                    self._coming[i] = self._threads.submit(self._make, i)
            return self._coming.pop(index).result()

    def forget(self) -> None:
        """Let go what was begun, and wait for what cannot be stopped: it reads what the next epoch changes."""
        with self._turn:
            wait([one for one in self._coming.values() if not one.cancel()])
            self._coming.clear()


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


def _no_batch(pictures: int, batch_size: int) -> str:
    if not pictures:
        return "There are no pictures, so there is nothing to train on or to measure."
    return (
        f"There are {pictures} pictures and batch_size is {batch_size}: no batch would be full, and those that are not "
        "are left out where drop_last is True, which it is while shuffling if it is not said. Use a batch_size of "
        f"{pictures} or less, or drop_last=False."
    )


def _labels(labels: Tensor) -> Numbers:
    return labels.numpy() if labels.is_floating_point() else labels.to(torch.int32).numpy()
