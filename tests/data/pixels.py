"""Small picture files for the tests of loading, and what counts the decoding of them."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lumora.data.content import InFile
from lumora.data.labels import Labels
from lumora.data.masks import Coding
from lumora.data.sample import StoredSample

LABELS = Labels(("a", "b", "c", "d"))


def folder_of_pictures(folder, count=6, side=40, masks=False):
    """JPEGs of noise in blocks, all of different sizes, with targets or PNG masks."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    samples = []
    for i in range(count):
        height, width = side + i, side + 2 * i
        blocks = random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
        pixels = blocks.repeat(4, 0).repeat(4, 1)[:height, :width]
        path = folder / f"{i}.jpg"
        Image.fromarray(pixels).save(path, quality=90)
        mask = None
        if masks:
            mask = folder / f"{i}.png"
            Image.fromarray(pixels[..., 0] // 64).save(mask)
        samples.append(
            StoredSample(
                key=f"{i}.jpg",
                content=InFile(path),
                target=None if masks else i % 3,
                mask_content=InFile(mask) if mask else None,
                coding=Coding(LABELS) if mask else None,
            )
        )
    return samples


@dataclass(frozen=True)
class Counted(StoredSample):
    """A sample that notes in a file each time it is decoded, whichever process does it."""

    notes: Path = field(default=Path())

    def picture(self):
        with self.notes.open("a") as file:
            file.write(f"{self.key}\n")
        return super().picture()


def counted(samples, notes):
    notes.touch()
    return [Counted(s.key, s.content, s.target, s.mask_content, s.coding, notes=notes) for s in samples]


def same(one, other):
    """Whether two batches or samples are bit for bit the same."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one.dtype == other.dtype and torch.equal(one, other)
