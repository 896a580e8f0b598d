"""Scenes as ordinary files, which any program can read."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from PIL import Image

from lumora.data.scenes.names import KINDS, PALETTE
from lumora.data.scenes.scene import Scene, Size, height_and_width, scene
from lumora.data.scenes.source import SceneTask, labels_of, split_indices
from lumora.errors import DataError

Format = Literal["jpg", "png"]

_SAVED_AS: Final[dict[str, dict[str, Any]]] = {
    "jpg": {"format": "JPEG", "quality": 92, "subsampling": 0},
    "png": {"format": "PNG", "compress_level": 4},
}


def write_scenes(
    folder: str | Path,
    count: int,
    *,
    size: Size = 256,
    seed: int = 0,
    task: SceneTask = "classification",
    format: Format = "jpg",
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Write scenes into a folder and return the number of pictures in each split.

    For classification `train/coast/000016.jpg`, …; for segmentation `images/train/000016.jpg` and
    `masks/train/000016.png`, whose palette holds the classes' colours. `classes.txt` lists the labels in the order of
    their ids. A file appears under its name when it is complete, so that a run that was killed leaves no half of one.

    Args:
        folder: made if it is not there; must be empty.
        count: in all splits together.
        size: the pictures' side, or (height, width).
        seed: other seeds give other scenes.
        task: `"classification"` or `"segmentation"`.
        format: of the pictures; masks are PNG files always.
        force: write into a folder that is not empty: files of the same name are replaced, others stay.
        progress: called after each picture with the numbers written and to write.
    """
    root = Path(folder)
    labels, splits = labels_of(task), split_indices(count)
    height_and_width(size)
    if format not in _SAVED_AS:
        raise DataError(f"Pictures are written as jpg or png, not as {format!r}; choose one of these.")
    _prepare(root, force)
    _write(root / "classes.txt", "".join(f"{name}\n" for name in labels.names).encode())
    done = 0
    for split, indices in splits.items():
        for index in indices:
            made = scene(seed, index, size)
            for name, content in _files(made, split, f"{index:06d}", task, format):
                _write(root / name, content)
            done += 1
            if progress is not None:
                progress(done, count)
    return {split: len(indices) for split, indices in splits.items()}


def _prepare(root: Path, force: bool) -> None:
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file; name a folder for the scenes.")
    try:
        root.mkdir(parents=True, exist_ok=True)
        full = any(root.iterdir())
    except OSError as error:
        raise DataError(f"{root} cannot be used: {error.strerror}. Name a folder that you may write to.") from error
    if full and not force:
        raise DataError(
            f"{root} is not empty. Name a new folder, or write into this one with force (--force): files of the same "
            "name are replaced, others stay."
        )


def _files(made: Scene, split: str, name: str, task: SceneTask, format: Format) -> Iterator[tuple[Path, bytes]]:
    """Where the files of a scene go, and what is in them; the mask first, so that no picture is without one."""
    picture = _encoded(Image.fromarray(made.picture), format)
    if task == "classification":
        yield Path(split, KINDS[made.kind], f"{name}.{format}"), picture
        return
    mask = Image.fromarray(made.mask)
    mask.putpalette([value for colour in PALETTE for value in colour])
    yield Path("masks", split, f"{name}.png"), _encoded(mask, "png")
    yield Path("images", split, f"{name}.{format}"), picture


def _encoded(image: Image.Image, format: Format) -> bytes:
    file = io.BytesIO()
    image.save(file, **_SAVED_AS[format])
    return file.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
