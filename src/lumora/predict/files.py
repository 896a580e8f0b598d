"""Predictions as files: a line for each picture, masks, and drawings.

predictions.json    what made them: the bundle, its task and labels
predictions.jsonl   a line of JSON for each picture
masks/              PNG files whose pixels are class ids, with the classes' colours as palette
overlays/           the pictures with what was predicted
"""

from __future__ import annotations

import io
import itertools
import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from lumora.data.labels import Labels
from lumora.errors import OutputError

ABOUT, LINES, MASKS, OVERLAYS = "predictions.json", "predictions.jsonl", "masks", "overlays"
_MARK = "lumora_predictions"
_FORMAT = 1


@dataclass(frozen=True)
class Content:
    """What is to be written for one picture."""

    line: dict[str, Any]
    mask: bytes | None = None
    overlay: bytes | None = None


class PredictionFiles:
    """A folder that fills up with predictions, one picture after the other; what is done is there at any moment.

    Files of an earlier call are removed first, and only those: a folder that holds anything else is refused.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self._names = folder, _Names()
        with _explained(folder, "Choose another place."):
            old = _own_files(folder)
            folder.mkdir(parents=True, exist_ok=True)
            for path in old:
                path.unlink(missing_ok=True)
            (folder / ABOUT).write_text(json.dumps({_MARK: _FORMAT, **about}, indent=2) + "\n", encoding="utf-8")
            self._lines = (folder / LINES).open("w", encoding="utf-8")

    def add(self, content: Content, name: str) -> None:
        """Write what belongs to a picture; `name` is its place among the pictures, with slashes."""
        stem = self._names.free(name)
        parts = ((MASKS, "mask", ".png", content.mask), (OVERLAYS, "overlay", ".jpg", content.overlay))
        files = {key: (f"{place}/{stem}{ending}", data) for place, key, ending, data in parts if data is not None}
        line = {**content.line, **{key: file for key, (file, _) in files.items()}}
        with _explained(self.folder, f"Make room; what was predicted before is in {self.folder}."):
            # The line first: it says which files are this command's, should it be stopped now.
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()
            for file, data in files.values():
                path = self.folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

    def close(self) -> None:
        """End the list."""
        self._lines.close()


def check_place(folder: Path, given: Iterable[Path]) -> None:
    """Raise an error unless predictions may be written there: nothing of others is there, nor are the pictures."""
    _own_files(folder)
    for root in given:
        if root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
            raise OutputError(
                f"{folder} lies within the pictures ({root}), and would be among them the next time; name a folder "
                "elsewhere."
            )


def encoded_mask(mask: Tensor, labels: Labels) -> bytes:
    """A mask of class ids as a PNG file: with the classes' colours, or in 16-bit grey above 256 classes."""
    ids = mask.numpy()
    if len(labels) > 256:
        image = Image.fromarray(ids.astype(np.uint16))
    else:
        image = Image.fromarray(ids.astype(np.uint8))
        image.putpalette([channel for colour in labels.palette() for channel in colour])
    return _file(image, "PNG")


def encoded_drawing(pixels: Tensor) -> bytes:
    """A drawing as a JPEG file."""
    return _file(Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy()), "JPEG", quality=90)


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@contextmanager
def _explained(folder: Path, advice: str) -> Generator[None]:
    """Errors of the system in words."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder} could not be written: {error.strerror or error}. {advice}"
        ) from error


class _Names:
    """Names of files for pictures, each once, also where upper and lower case are the same."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, name: str) -> str:
        """The name without its ending, or with it, or with a number: the first that is free."""
        whole = PurePosixPath(name)
        first = (whole.with_suffix("").as_posix(), whole.as_posix())
        names = itertools.chain(first, (f"{whole.as_posix()}-{number}" for number in itertools.count(2)))
        found = next(name for name in names if name.casefold() not in self._taken)
        self._taken.add(found.casefold())
        return found


# --- what is there already --------------------------------------------------------------------------------------------


def _own_files(folder: Path) -> list[Path]:
    """The files that an earlier call has written there; an error if there are any others."""
    if not os.path.lexists(folder):
        return []
    if not folder.is_dir():
        raise OutputError(f"{folder} is a file; name a folder that is not there yet.")
    found = [Path(where, name) for where, _, names in os.walk(folder) for name in names]
    found += [
        Path(where, name) for where, names, _ in os.walk(folder) for name in names if Path(where, name).is_symlink()
    ]
    own = {folder / name for name in _listed(folder)} if _is_ours(folder) else set[Path]()
    if others := sorted(path.relative_to(folder).as_posix() for path in found if path not in own):
        more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
        raise OutputError(
            f"{folder} holds other things ({', '.join(others[:3])}{more}), which are not touched; name a folder that "
            "is not there yet."
        )
    return found


def _is_ours(folder: Path) -> bool:
    try:
        content = json.loads((folder / ABOUT).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and _MARK in content


def _listed(folder: Path) -> Iterator[str]:
    yield from (ABOUT, LINES)
    try:
        lines = (folder / LINES).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for line in lines:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):  # cut off, when the command was stopped
            continue
        if isinstance(values, dict):
            yield from (values[key] for key in ("mask", "overlay") if isinstance(values.get(key), str))
