"""Samples as a dataset of torch: read, transformed, and ready for a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lumora.data.cache import Cache
from lumora.data.entries import Entry, can_hold
from lumora.data.fingerprint import fingerprint, is_known
from lumora.data.sample import Sample
from lumora.data.transforms import Transform, generator_for, stages
from lumora.data.transforms.steps import Pair
from lumora.errors import DataError

Item = dict[str, Tensor]


class Pictures(Dataset[Item]):
    """Samples with a transform applied: `{"pixel_values": …, "labels": …}`, as transformers' models take them.

    Labels are a class id, a mask of ids (`int64`), or with several labels a 1 for each that holds, in `float32`;
    without a label there is only the picture. What is random follows from seed, epoch and the sample's key: neither
    the order, nor the number of worker processes, nor an interruption changes a pixel.

    Costs a read of the cache and the drawn part of the transform, once a picture is in the cache; without a cache it is
    decoded each time.

    Args:
        samples: for instance a split of a source.
        transform: what to do to each; see `lumora.data.transforms`.
        seed: of all that is random.
        cache: keeps decoded pictures. What the transform does before it draws is kept as done, unless that takes more
            than twice the room.
        classes: how many there are; needed where samples have several labels.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        seed: int = 0,
        cache: Cache | None = None,
        *,
        classes: int | None = None,
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed
        self.cache = cache
        self.classes = classes
        # In memory that worker processes share, so that those that outlive an epoch learn of the next.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._stages = stages(transform)
        self._keys: dict[int, str | None] = {}
        # Mapping a file into memory, and its pages again at the first look at each, takes longer than a flip.
        self._keeps = all(_leaves_alone(step) for step in (*self._stages.fixed, *self._stages.drawn))
        self._kept: dict[str, Entry] = {}

    def __getstate__(self) -> dict[str, object]:
        """For a worker process, which maps for itself what it reads."""
        return {**self.__dict__, "_kept": {}}

    @property
    def epoch(self) -> int:
        """What the random part of the transforms is drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """From now on, draw for this epoch; in worker processes too."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        return self.finished(self.drawn(index))

    def drawn(self, index: int) -> Item:
        """A sample before the last steps, those that can be done to a whole batch: its picture is still `uint8`."""
        sample = self.samples[index]
        generator = generator_for(self.seed, self.epoch, sample.key)
        prepared, prepared_mask = picture, mask = self._prepared(index, sample)
        for step in self._stages.drawn:
            picture, mask = step(picture, mask, generator)
        if self._keeps:
            picture = _own(picture, prepared)
            mask = None if mask is None or prepared_mask is None else _own(mask, prepared_mask)
        target = self._target(sample, mask)
        return {"pixel_values": picture} if target is None else {"pixel_values": picture, "labels": target}

    def finished(self, item: Item) -> Item:
        """What `drawn` gave, or many of them in one batch, after the last steps; on the device where it is."""
        pictures = item["pixel_values"]
        for step in self._stages.values:
            pictures = step.applied(pictures)
        item = {**item, "pixel_values": pictures}
        if "labels" in item and not item["labels"].is_floating_point():
            item["labels"] = item["labels"].long()
        return item

    def _prepared(self, index: int, sample: Sample) -> Pair:
        """The picture and mask as they are before anything is drawn."""
        key = self._key(index, sample)
        if self.cache is None or key is None:
            return self._fixed(_decoded(sample))
        entry = self._kept.get(key) or self.cache.read(key)
        if entry is None:
            entry = self._entry(_decoded(sample))
            if can_hold(entry.picture, entry.mask):
                self.cache.keep(key, entry)
        elif self._keeps and len(self._kept) < _MOST_KEPT:
            self._kept[key] = entry
        return (entry.picture, entry.mask) if entry.prepared else self._fixed((entry.picture, entry.mask))

    def _entry(self, decoded: Pair) -> Entry:
        """What to keep: the prepared sample, unless the decoded one takes less than half of its room."""
        whole = Entry(*decoded, prepared=False)
        if not all(is_known(step) for step in self._stages.fixed):
            return whole
        prepared = Entry(*self._fixed(decoded), prepared=True)
        return prepared if can_hold(prepared.picture, prepared.mask) and prepared.size <= 2 * whole.size else whole

    def _fixed(self, decoded: Pair) -> Pair:
        picture, mask = decoded
        for step in self._stages.fixed:
            picture, mask = step(picture, mask, _NOTHING_DRAWN)
        return picture, mask

    def _key(self, index: int, sample: Sample) -> str | None:
        if self.cache is None:
            return None
        if index not in self._keys:
            steps = self._stages.fixed
            self._keys[index] = fingerprint(sample, steps if all(is_known(step) for step in steps) else ())
        return self._keys[index]

    def _target(self, sample: Sample, mask: Tensor | None) -> Tensor | None:
        if isinstance(sample.target, tuple):
            if self.classes is None:
                raise DataError("These samples have several labels; say how many classes there are: classes=….")
            return torch.zeros(self.classes).index_fill_(0, torch.tensor(sample.target, dtype=torch.int64), 1.0)
        return mask if sample.target is None else torch.tensor(sample.target)


_NOTHING_DRAWN = torch.Generator()
_MOST_KEPT = 16_384  # systems allow a process 65,530 mapped files, or fewer


def _leaves_alone(step: Transform) -> bool:
    """Whether a step surely never writes to the picture it is given: Lumora's own do not."""
    return type(step).__module__.startswith("lumora.data.transforms.")


def _own(result: Tensor, source: Tensor) -> Tensor:
    """The result, copied if it is a view of its source: whoever gets it may write to it."""
    shared = result.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
    return result.clone() if shared else result


def _decoded(sample: Sample) -> Pair:
    return sample.picture(), sample.mask() if sample.target is None else None
