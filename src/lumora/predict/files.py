"""Predictions as files: a line for each picture, masks, and drawings.

predictions.json    what made them: the bundle, its task and labels
predictions.jsonl   a line of JSON for each picture
masks/              PNG files whose pixels are class ids, with the classes' colours as palette
overlays/           the pictures with what was predicted
.lumora/            while a process writes: what is not whole yet
"""

from __future__ import annotations

import io
import itertools
import json
import secrets
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from lumora.data.labels import Labels
from lumora.data.locks import hold
from lumora.errors import OutputError
from lumora.predict.earlier import (
    ABOUT,
    LINES,
    MARK,
    MASKS,
    OVERLAYS,
    WORK,
    about_there,
    keep_what_is_whole,
    own_files,
    stems_of,
)
from lumora.predict.pictures import Picture, Unusable, without_dots

_FORMAT, _LOCK = 2, "lock"
_TOLD = "bundle"
"""What is only told: a bundle may have been moved since."""


@dataclass(frozen=True)
class Content:
    """What is to be written for one picture; a path is that of a file that was written already, and is moved."""

    line: dict[str, Any]
    mask: bytes | Path | None = None
    overlay: bytes | Path | None = None
    masks: Mapping[str, bytes | Path] = field(default_factory=dict[str, bytes | Path])
    """Of several bundles, each one's mask."""


class PredictionFiles:
    """A folder that fills up with predictions, one picture after the other; what is done is there at any moment.

    Files of an earlier call are removed first, and only those, or kept with `resume`: a folder that holds anything else
    is refused. A line is written when its files are whole, whatever ends the process, and takes them into their places
    in the same moment. Only one process at a time writes into a folder.

    Args:
        folder: made if need be.
        about: what makes the predictions, as values that JSON knows.
        resume: keep what is there, if the same made it.
        take: is given every line that is kept.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        *,
        resume: bool = False,
        take: Callable[[dict[str, Any]], None] = lambda line: None,
    ) -> None:
        self.folder, self._names = folder, _Names()
        self._done: set[Path] = set()
        made_by = json.loads(json.dumps({MARK: _FORMAT, **about}))
        with _explained(folder, "Choose another place."):
            old = own_files(folder, resume=resume)
            earlier = about_there(folder) if resume else None
            if earlier is not None:
                _check_same(folder, earlier, made_by)
            (folder / WORK).mkdir(parents=True, exist_ok=True)
            self._lock = _only_one(folder / WORK)
            try:
                self._tidy(old, keeping=earlier is not None, take=take)
                (folder / WORK / ABOUT).write_text(json.dumps(made_by, indent=2) + "\n", encoding="utf-8")
                (folder / WORK / ABOUT).replace(folder / ABOUT)
                self._lines = (folder / LINES).open("a", encoding="utf-8")
            except BaseException:
                self._let_go()
                raise

    def has(self, picture: str) -> bool:
        """Whether an earlier call has done a picture, however its path was typed then."""
        return without_dots(Path(picture)) in self._done

    def add(self, content: Content, name: str) -> None:
        """Write what belongs to a picture; `name` is its place among the pictures, with slashes."""
        stem = self._names.free(name)
        line, files = _placed(content.line), dict[str, bytes | Path]()
        for key, place, ending, data in (
            ("mask", MASKS, ".png", content.mask),
            ("overlay", OVERLAYS, ".jpg", content.overlay),
        ):
            if data is not None:
                line[key] = f"{place}/{stem}{ending}"
                files[line[key]] = data
        for bundle, data in content.masks.items():
            path = f"{MASKS}/{bundle}/{stem}.png"
            line["bundles"] = {**line["bundles"], bundle: {**line["bundles"][bundle], "mask": path}}
            files[path] = data
        with self.explained():
            parts = {file: self._whole(data) for file, data in files.items()}
            # The line first: it says which files are this command's, should it be stopped now.
            self._lines.write(json.dumps(line) + "\n")
            self._lines.flush()
            for file, part in parts.items():
                path = self.folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                part.replace(path)

    def part(self) -> Path:
        """A place for a file that is being written, to be given to `add` when it is whole."""
        return self.folder / WORK / secrets.token_hex(8)

    @contextmanager
    def explained(self) -> Generator[None]:
        """Inside, what the system says of files that cannot be written is told in words."""
        with _explained(self.folder, f"Make room; what was predicted before is in {self.folder}."):
            yield

    def close(self) -> None:
        """End the list."""
        self._lines.close()
        self._let_go()
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    def _tidy(self, old: Sequence[Path], *, keeping: bool, take: Callable[[dict[str, Any]], None]) -> None:
        """Remove what an earlier call has written, or only what of it is not whole."""
        work, told = self.folder / WORK, (self.folder / LINES, self.folder / ABOUT)
        # What says that the others are ours goes last: whoever is stopped here can begin anew.
        for path in sorted(old, key=lambda path: told.index(path) if path in told else -1):
            if path != work / _LOCK and (not keeping or path.parent == work):
                path.unlink(missing_ok=True)
        if keeping:
            keep_what_is_whole(self.folder, lambda line: self._keep(line, take))

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()

    def _whole(self, data: bytes | Path) -> Path:
        if isinstance(data, Path):
            return data
        part = self.part()
        part.write_bytes(data)
        return part

    def _keep(self, line: dict[str, Any], take: Callable[[dict[str, Any]], None]) -> None:
        self._done.add(without_dots(Path(line.get("place", line["picture"]))))
        for stem in stems_of(line):
            self._names.take(stem)
        take(line)


def _placed(line: Mapping[str, Any]) -> dict[str, Any]:
    """The line with the picture's whole path, where another one was typed: that means another file from elsewhere."""
    typed = line["picture"]
    place = str(without_dots(Path(typed)))
    return {"picture": typed, **({"place": place} if place != typed else {}), **line}


def _check_same(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise unless what is there was made as what is to come."""
    if earlier[MARK] != _FORMAT:
        raise OutputError(
            f"{folder} was written by another version of Lumora, and cannot be gone on with. Leave out "
            "--resume to begin anew, or name another folder."
        )
    other = [key for key in {**earlier, **now} if key != _TOLD and earlier.get(key) != now.get(key)]
    if other:
        told = "; ".join(f"{key}: {_short(earlier.get(key))} there, {_short(now.get(key))} now" for key in other)
        raise OutputError(
            f"What is in {folder} was predicted otherwise ({told}), and cannot be gone on with. Ask for the same, "
            "leave out --resume to begin anew, or name another folder."
        )


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _only_one(work: Path) -> FileIO | None:
    """The lock of the process that writes; None where the file system has no locks."""
    lock = hold(work / _LOCK)
    if lock is None:
        with _removed(work / f"{_LOCK}-{secrets.token_hex(4)}") as own:
            if other := hold(own):
                other.close()
                raise OutputError(
                    f"Another process is writing predictions into {work.parent}; wait for it, or name another folder."
                )
    return lock


@contextmanager
def _removed(path: Path) -> Generator[Path]:
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def check_place(folder: Path, given: Iterable[Path], pictures: Iterable[Picture], *, resume: bool = False) -> None:
    """Raise an error unless predictions may be written there: nothing of others is there, nor are the pictures.

    Args:
        folder: where predictions are to be written.
        given: the folders that the pictures were looked for in.
        pictures: those that were found.
        resume: whether what is there is gone on with.
    """
    own_files(folder, resume=resume)
    for root in given:
        if root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
            raise OutputError(
                f"{folder} lies within the pictures ({root}), and would be among them the next time; name a folder "
                "elsewhere."
            )
    place, paths = folder.resolve(), [Path(one.key) for one in pictures if not isinstance(one, Unusable)]
    within = {parent for parent in {path.parent for path in paths} if parent.resolve().is_relative_to(place)}
    if inside := next((path for path in paths if path.parent in within), None):
        raise OutputError(
            f"{inside} lies in {folder}, and would be lost among the predictions that are written there; name another "
            "folder, or leave that picture out."
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

    def take(self, name: str) -> None:
        """A name is in use."""
        self._taken.add(name.casefold())
