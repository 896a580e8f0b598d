"""Pictures, masks and folders for the tests, written by Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def noise(height=12, width=16, seed=0, channels=3):
    """Random pixels, smooth enough to be compared when shrunk."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (8, 8, channels), dtype=np.uint8)
    images = [
        Image.fromarray(coarse[..., i]).resize((width, height), Image.Resampling.BICUBIC) for i in range(channels)
    ]
    return np.stack([np.array(image) for image in images], axis=-1)


def put(path: Path, pixels=None, **options):
    """Write a picture, by default one like no other with the same path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels is None:
        pixels = noise(
            seed=sum(map(ord, str(path.name))) * 1000 + len(path.parent.name) + sum(map(ord, path.parent.name))
        )
    Image.fromarray(pixels).save(path, **options)
    return path


def put_mask(path: Path, ids, palette=None, **options):
    """Write a mask: grey, or with a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(ids, dtype=np.uint8))
    if palette is not None:
        image = image.copy()
        # All 256 colours: where there are fewer, Pillow takes fewer bits for each pixel.
        image.putpalette([channel for i in range(256) for channel in palette[i % len(palette)]])
    image.save(path, **options)
    return path


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def class_folders(root: Path, classes=("cat", "dog"), each=4, splits=(None,)):
    for split in splits:
        for name in classes:
            for i in range(each):
                put(root / (split or "") / name / f"{split or ''}{i}.png")
    return root


def keys(source, split):
    return [sample.key for sample in source.splits[split]]


def all_keys(source):
    return sorted(key for split in source.splits for key in keys(source, split))
