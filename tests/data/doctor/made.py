"""Clean data that a test damages: textures that differ from each other, and masks of blocks."""

import numpy as np
from PIL import Image

CLASSES = ("cat", "dog")


def texture(seed, size=(48, 64)):
    """A picture that resembles no other: a few random colours, blown up smoothly."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return coarse.resize((size[1], size[0]), Image.Resampling.BICUBIC)


def classes(root, names=CLASSES, train=12, validation=10, seed=0):
    """Class folders with a train and a validation split."""
    for split, count in (("train", train), ("validation", validation)):
        for name in names:
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                seed += 1
                texture(seed).save(folder / f"{i:02}.png")
    return root


def blocks(seed, size=(48, 64), classes=3):
    """A mask of three blocks, each class in it."""
    random = np.random.default_rng(seed)
    mask = np.zeros(size, dtype=np.uint8)
    row, column = random.integers(10, 40), random.integers(15, 50)
    mask[row:, :column] = 1
    mask[:row, column:] = 2 % classes
    return mask


def masks(root, count=12, names=("sky", "sea", "land")):
    """Pictures and masks, with a list of labels."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    (root / "labels.txt").write_text("\n".join(names) + "\n")
    for i in range(count):
        texture(1000 + i).save(root / "images" / f"{i:02}.png")
        Image.fromarray(blocks(i)).save(root / "masks" / f"{i:02}.png")
    return root


COLOURS = ((0, 0, 0), (200, 40, 40), (40, 40, 200))


def coloured(mask):
    """A mask of ids in the colours above."""
    return Image.fromarray(np.array(COLOURS, dtype=np.uint8)[mask])


def with_colours(root):
    """Replace the list of labels by one with colours."""
    (root / "labels.txt").unlink()
    rows = [f"{name},{r},{g},{b}" for name, (r, g, b) in zip(("sky", "sea", "land"), COLOURS, strict=True)]
    (root / "labels.csv").write_text("\n".join(["name,r,g,b", *rows]) + "\n")
