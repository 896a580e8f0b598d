"""Batches of pictures in an order that can be taken up again anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypedDict, cast

import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lumora.data.dataset import Item, Pictures
from lumora.data.transforms import CutMix, Mixup, generator_for
from lumora.data.transforms.randomness import below
from lumora.errors import DataError

Batch = dict[str, Any]


class LoaderState(TypedDict):
    """Where a loader is."""

    epoch: int
    batches: int


class Loader:
    """Batches `{"pixel_values": (B, 3, H, W), "labels": …}`, the same ones for any number of workers.

    Each epoch goes through all pictures, in an order drawn from seed and epoch. Iterating again goes on: with the next
    epoch, or inside the one that was left early. `state_dict` tells where it is, between any two batches, and
    `load_state_dict` takes it up there: the batches that follow are bit for bit those that would have followed.

    Workers send `uint8`; normalisation happens here to whole batches, on the device. Pictures or masks of different
    sizes come as lists.

    Args:
        pictures: what to load.
        batch_size: pictures in a batch, of all processes together if there are several.
        shuffle: whether to draw an order; without, they come as they are.
        drop_last: whether to leave out a last batch that is not full. As `shuffle` if not said.
        workers: processes that read and transform; 0 does it in this one.
        device: where the batches go.
        mix: blends pictures and labels of each batch; of several, one is drawn for each batch.
        rank: which of the processes this is in a distributed run, from 0.
        world: how many processes there are; each gets its own part of every batch, and the batches do not depend on how
            many they are.
    """

    def __init__(
        self,
        pictures: Pictures,
        batch_size: int,
        *,
        shuffle: bool = True,
        drop_last: bool | None = None,
        workers: int = 0,
        device: str | torch.device = "cpu",
        mix: Mixup | CutMix | Sequence[Mixup | CutMix] = (),
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if workers < 0 or not 0 <= rank < world or batch_size < world:
            raise DataError(
                f"A loader was given batch_size={batch_size}, workers={workers}, rank={rank}, world={world}; it needs "
                "workers ≥ 0 and 0 ≤ rank < world ≤ batch_size."
            )
        self.pictures = pictures
        self.device = torch.device(device)
        self.mix = (mix,) if isinstance(mix, Mixup | CutMix) else tuple(mix)
        self._order = Order(len(pictures), batch_size, pictures.seed, shuffle, drop_last, rank, world)
        # So that torch draws no seed from its global generator for the workers, which use none.
        self._batches: DataLoader[Item] = DataLoader(
            cast("Dataset[Item]", _Drawn(pictures)),
            batch_sampler=self._order,
            num_workers=workers,
            collate_fn=together,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            generator=Generator(),
        )

    @property
    def epoch(self) -> int:
        """Counts from 0."""
        return self._order.epoch

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch; nothing changes if it is the present one."""
        if epoch != self._order.epoch:
            self._order.epoch, self._order.start = epoch, 0

    def state_dict(self) -> LoaderState:
        """Where it is: the epoch, and how many of its batches were given out."""
        return {"epoch": self._order.epoch, "batches": self._order.start}

    def load_state_dict(self, state: LoaderState) -> None:
        """Go where another loader of the same pictures and batch size was."""
        if not 0 <= state["batches"] <= self._order.whole():
            raise DataError(
                f"The state to go on from is after {state['batches']} batches, but an epoch has {self._order.whole()}: "
                "were pictures added or removed, or was the batch size changed?"
            )
        self._order.epoch, self._order.start = state["epoch"], state["batches"]

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return self._order.whole()

    def __iter__(self) -> Iterator[Batch]:
        self.pictures.set_epoch(self.epoch)
        epoch, first = self.epoch, self._order.start
        for number, batch in enumerate(_told_plainly(self._batches), first):
            if self.epoch != epoch or self._order.start != number:
                raise DataError("A loader was moved, or iterated again, while it was being iterated; make two of them.")
            self._order.start = number + 1
            yield self._finished(batch, number)
        self._order.epoch, self._order.start = epoch + 1, 0

    def _finished(self, batch: Batch, number: int) -> Batch:
        batch = ready(self.pictures, batch, self.device)
        if self.mix:
            if any(isinstance(value, list) for value in batch.values()):
                raise DataError(
                    "Pictures of different sizes cannot be mixed; give the transform a step that sets one size."
                )
            generator = generator_for(self._order.seed, self.epoch, f"batch {number} of {self._order.rank}")
            mix = self.mix[below(generator, len(self.mix))]
            batch["pixel_values"], batch["labels"] = mix(batch["pixel_values"], batch["labels"], generator)
        return batch


class Order(Sampler[list[int]]):
    """Which samples come together, batch by batch, in one epoch, for one process."""

    def __init__(
        self, count: int, batch_size: int, seed: int, shuffle: bool, drop_last: bool | None, rank: int, world: int
    ) -> None:
        self.count, self.batch_size, self.seed, self.shuffle = count, batch_size, seed, shuffle
        self.drop_last = shuffle if drop_last is None else drop_last
        self.rank, self.world = rank, world
        self.epoch = 0
        self.start = 0
        """Batches of this epoch that were given out before."""

    def whole(self) -> int:
        """Batches of an epoch."""
        return self.count // self.batch_size if self.drop_last else -(-self.count // self.batch_size)

    def __len__(self) -> int:
        return self.whole() - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order = list(range(self.count))
        if self.shuffle:
            order = torch.randperm(self.count, generator=generator_for(self.seed, self.epoch, "order")).tolist()
        for number in range(self.start, self.whole()):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            # In the last batch there may be fewer than processes: those left without take one that another has too.
            yield batch[self.rank :: self.world] or batch[:1]


class _Drawn(Dataset[Item]):
    """Samples before the steps that are done to whole batches."""

    def __init__(self, pictures: Pictures) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Item:
        return self.pictures.drawn(index)


def ready(pictures: Pictures, batch: Batch, device: torch.device) -> Batch:
    """A batch of what `Pictures.drawn` gave, put on the device and finished; what has different sizes stays apart."""
    batch = {name: _moved(value, device) for name, value in batch.items()}
    if not any(isinstance(value, list) for value in batch.values()):
        return pictures.finished(batch)
    items = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    return together([pictures.finished(item) for item in items])


def _told_plainly(batches: Iterable[Item]) -> Iterator[Item]:
    """The same; what is wrong with data is told without the traceback that torch puts into a worker's message."""
    try:
        yield from batches
    except DataError as error:
        _, from_worker, text = str(error).rpartition(f".{type(error).__name__}: ")
        if not from_worker:
            raise
        raise type(error)(text.strip()) from error


def together(items: list[Item]) -> Batch:
    """One tensor of each kind where the sizes allow it, else a list; the memory format stays."""
    return {name: _stacked([item[name] for item in items]) for name in items[0]}


def _stacked(values: list[Tensor]) -> Tensor | list[Tensor]:
    first = values[0]
    if any(value.shape != first.shape for value in values):
        return values
    if first.dim() == 3 and first.stride(0) == 1:
        return torch.stack([value.permute(1, 2, 0) for value in values]).permute(0, 3, 1, 2)
    return torch.stack(values)


def _moved(value: Tensor | list[Tensor], device: torch.device) -> Tensor | list[Tensor]:
    if isinstance(value, list):
        return [one.to(device, non_blocking=True) for one in value]
    return value.to(device, non_blocking=True)
