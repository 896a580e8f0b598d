"""Scenes as a source of samples; each is made when it is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lumora.data.labels import Labels
from lumora.data.sample import Sample, Source
from lumora.data.scenes.names import CLASSES, KINDS, PALETTE
from lumora.data.scenes.scene import Size, height_and_width, kind_of, scene
from lumora.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

SceneTask = Literal["classification", "segmentation"]

# Picture and mask of a sample are asked for one after the other.
_made = lru_cache(maxsize=4)(scene)


@dataclass(frozen=True)
class SceneSample:
    """A scene with its kind or its mask."""

    seed: int
    index: int
    size: Size
    task: SceneTask

    @property
    def key(self) -> str:
        """The index in six digits."""
        return f"{self.index:06d}"

    @property
    def fingerprint(self) -> str:
        """A text that changes whenever the pixels do; for the cache of decoded pictures."""
        height, width = height_and_width(self.size)
        return f"scene {self.seed} {self.index} {height} {width} {self.task} {_generator()}"

    @property
    def target(self) -> int | None:
        """The kind of scene, or None for segmentation."""
        return kind_of(self.seed, self.index) if self.task == "classification" else None

    @property
    def path(self) -> Path | None:
        """It has no file."""
        return None

    def picture(self) -> Tensor:
        """The picture as `uint8` (3, H, W)."""
        import torch

        return torch.from_numpy(_made(self.seed, self.index, self.size).picture.transpose(2, 0, 1).copy())

    def mask(self) -> Tensor | None:
        """The class ids as `uint8` (H, W); None for classification."""
        if self.task == "classification":
            return None
        import torch

        return torch.from_numpy(_made(self.seed, self.index, self.size).mask.copy())


def scenes(count: int, size: Size = 256, seed: int = 0, task: SceneTask = "classification") -> Source:
    """Return `count` scenes in three splits; nothing is drawn before it is asked for.

    >>> source = scenes(200, size=64)
    >>> {split: len(samples) for split, samples in source.splits.items()}
    {'train': 168, 'validation': 16, 'test': 16}
    >>> tuple(source.splits["train"][0].picture().shape)
    (3, 64, 64)

    Args:
        count: in all splits together; a tenth each goes to `validation` and `test`.
        size: the pictures' side, or (height, width).
        seed: other seeds give other scenes.
        task: `"classification"` into kinds of scenes, or `"segmentation"` into classes.
    """
    height_and_width(size)
    splits: dict[str, list[Sample]] = {
        split: [SceneSample(seed, index, size, task) for index in indices]
        for split, indices in split_indices(count).items()
    }
    return Source(task, labels_of(task), splits, f"{count:,} generated scenes")


@cache
def _generator() -> str:
    """What draws the scenes: another text when the code of this package changes, or the library it computes with."""
    code = hashlib.blake2b(digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return f"{code.hexdigest()} numpy {version('numpy')}"


def labels_of(task: SceneTask) -> Labels:
    """The kinds of scenes, or the classes of masks with their colours."""
    if task == "classification":
        return Labels(KINDS)
    if task == "segmentation":
        return Labels(CLASSES, PALETTE)
    raise DataError(f"There are scenes for classification and for segmentation, not for {task!r}; choose one of these.")


def split_indices(count: int) -> dict[str, range]:
    """The indices of each split that exists; with at least 32 scenes every split has every kind equally often."""
    if count < 1:
        raise DataError(f"{count} scenes were asked for; ask for at least 1.")
    held = max(count // 10, min(len(KINDS), count // 4))
    if held > len(KINDS):
        held -= held % len(KINDS)
    found = {"train": range(2 * held, count), "validation": range(held, 2 * held), "test": range(held)}
    return {split: indices for split, indices in found.items() if indices}
