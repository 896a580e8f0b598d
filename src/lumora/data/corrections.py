"""Corrections of labels and masks, in a folder beside the data. The data themselves stay as they are.

    flowers/                        the data
    flowers.corrections/
        corrections.jsonl           a line of JSON for each correction; of several for one sample, the last counts
        masks/                      corrected masks: PNG files whose pixels are class ids

A line names a sample by its key, and its labels, or its mask:

    {"sample": "rose/12.jpg", "labels": ["tulip"]}
    {"sample": "images/3.png", "mask": "masks/3-1f0c9a2e.png"}

Whatever else a line says is for people. Corrections are made after splits are drawn: no sample changes its split.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from lumora.data.content import InFile
from lumora.data.durable import make_folder, write_file
from lumora.data.labels import Labels, counted, listed, same_text
from lumora.data.locks import locked
from lumora.data.masks import Coding
from lumora.data.reading import read_header, read_mask
from lumora.data.sample import Sample, StoredSample, TaskName
from lumora.errors import DataError, MaskError, OutputError
from lumora.paths import at_home

if TYPE_CHECKING:
    from torch import Tensor

ENDING, LINES, MASKS = ".corrections", "corrections.jsonl", "masks"
_LOCK = ".lock"
_NAMED = 3


@dataclass(frozen=True)
class Correction:
    """What a sample shows, whatever the data say."""

    sample: str
    """Its key."""
    labels: tuple[str, ...] | None = None
    mask: str | None = None
    """The file of its mask, in the folder of corrections."""


def corrections_folder(data: object) -> Path | None:
    """Where corrections of data lie, or would; None for data that are no files here."""
    if not isinstance(data, str | Path) or not (path := at_home(data)).exists():
        return None
    path = path.resolve() if path.name in ("", "..") else path.absolute()
    return path.with_name(path.name + ENDING) if path.name else None


def read_corrections(data: object) -> dict[str, Correction]:
    """The corrections of data by the samples' keys; none where there is no file of them."""
    folder = corrections_folder(data)
    if folder is None or not (folder / LINES).is_file():
        return {}
    try:
        text = (folder / LINES).read_bytes().decode("utf-8", "surrogateescape")  # as names of files are
    except OSError as error:
        raise DataError(f"The corrections {folder / LINES} cannot be read: {error}.") from error
    lines = enumerate(text.split("\n"), 1)  # a name may hold other ends of lines
    found = (_of_line(line, f"{folder / LINES}, line {i}") for i, line in lines if line.strip())
    return {each.sample: each for each in found}


def correct_labels(data: str | Path, sample: str, labels: Sequence[str], was: Sequence[str] = ()) -> Path:
    """Write down that a sample has these labels; return the file. `was` says to people what it had."""
    return _add(data, {"sample": sample, "labels": list(labels), "was": list(was)})


def correct_mask(data: str | Path, sample: str, mask: bytes) -> Path:
    """Write down that a sample has this mask, a PNG file of class ids as large as its picture; return the file."""
    folder = _folder_for(data)
    stem = PurePosixPath(sample.replace("\\", "/")).stem
    own = hashlib.sha256(sample.encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = f"{MASKS}/{''.join(c if c.isalnum() or c in '-_' else '-' for c in stem)[:60]}-{own}.png"
    try:
        make_folder(folder / MASKS)
        write_file(folder / name, mask)
    except OSError as error:
        raise _unwritten(folder, error) from error
    return _add(data, {"sample": sample, "mask": name})


# --- in effect --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CorrectedMask(StoredSample):
    """A sample whose mask was drawn anew, on the upright picture."""

    def mask(self) -> Tensor | None:
        """The class ids (H, W) as they were drawn."""
        assert self.mask_content is not None and self.coding is not None
        mask, header = read_mask(self.mask_content, self.coding, limits=self.limits), read_header(self.content)
        if tuple(mask.shape) != header.shown:
            (height, width), (wanted_height, wanted_width) = mask.shape, header.shown
            raise MaskError(
                f"The corrected mask {self.mask_content.name} is {width} x {height} pixels, but its picture is "
                f"{wanted_width} x {wanted_height}. Draw it again, or take its line out of {LINES}."
            )
        return mask


class Corrected(Mapping[str, Sequence[Sample]]):
    """Splits with corrections made; each split when it is first asked for."""

    def __init__(
        self, splits: Mapping[str, Sequence[Sample]], task: TaskName, labels: Labels, data: str | Path
    ) -> None:
        self._splits, self._done = splits, dict[str, Sequence[Sample]]()
        folder = corrections_folder(data)
        assert folder is not None
        self.found = read_corrections(data)
        self._changes = {key: _change(each, task, labels, folder) for key, each in self.found.items()}
        self.file = folder / LINES

    def __getitem__(self, split: str) -> Sequence[Sample]:
        if split not in self._done:
            samples = self._splits[split]
            touched = any(sample.key in self._changes for sample in samples)
            self._done[split] = [self._corrected(sample) for sample in samples] if touched else samples
        return self._done[split]

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __contains__(self, split: object) -> bool:
        return split in self._splits

    def __len__(self) -> int:
        return len(self._splits)

    def _corrected(self, sample: Sample) -> Sample:
        change = self._changes.get(sample.key)
        if change is None or not isinstance(sample, StoredSample):
            return sample
        if "mask_content" in change:
            return CorrectedMask(sample.key, sample.content, limits=sample.limits, **change)
        return dataclasses.replace(sample, **change)


def with_corrections(
    splits: Mapping[str, Sequence[Sample]],
    task: TaskName,
    labels: Labels,
    data: object,
    samples: Iterable[Sequence[Sample]],
) -> tuple[Mapping[str, Sequence[Sample]], str | None]:
    """Splits with the corrections that lie beside the data, and a sentence that says so; None where there are none.

    Args:
        splits: what is corrected; none of them is asked for yet.
        task: what the samples are for.
        labels: their classes.
        data: what was opened.
        samples: all of them, to be counted; looked through only where there are corrections.
    """
    folder = corrections_folder(data)
    if folder is None or not (folder / LINES).is_file() or not isinstance(data, str | Path):
        return splits, None
    corrected = Corrected(splits, task, labels, data)
    if not corrected.found:
        return splits, None
    there = {sample.key for some in samples for sample in some}
    return corrected, _told(corrected, task, [key for key in corrected.found if key not in there])


def _told(corrected: Corrected, task: TaskName, unknown: Sequence[str]) -> str:
    """How many samples are corrected, and which corrections are of none."""
    count = len(corrected.found) - len(unknown)
    what = "labels are" if task != "segmentation" else "mask is" if count == 1 else "masks are"
    noun, verb = what.split()
    told = (
        f"The {noun} of {counted(count, 'sample')} {verb} taken from {corrected.file}, and not from the data; without "
        "that file the data's own count."
        if count
        else f"Nothing in the data is corrected by {corrected.file}."
    )
    if not unknown:
        return told
    names = ", ".join(map(repr, unknown[:_NAMED])) + (", …" if len(unknown) > _NAMED else "")
    return (
        f"{told} It has {counted(len(unknown), 'correction')} of what is not in the data: {names}; mend such lines, or "
        "take them out."
    )


def _change(correction: Correction, task: TaskName, labels: Labels, folder: Path) -> dict[str, Any]:
    """What is to be another in a sample."""
    where = f"{folder / LINES} corrects {correction.sample}"
    if task == "segmentation":
        if correction.mask is None:
            raise DataError(f"{where} by labels, but the data have masks. Take its line out.")
        return {"mask_content": InFile(folder / correction.mask), "coding": Coding(labels, (labels.ignore,))}
    if correction.labels is None:
        raise DataError(f"{where} by a mask, but the data have labels. Take its line out.")
    if unknown := [name for name in correction.labels if same_text(name) not in labels.names]:
        raise DataError(
            f"{where} to {listed(unknown)}, which is no label; there is {listed(labels.names)}. Mend its line, or take "
            "it out."
        )
    ids = tuple(sorted({labels.index(name) for name in correction.labels}))
    if task == "multilabel":
        return {"target": ids}
    if len(ids) != 1:
        raise DataError(f"{where} to {len(ids)} labels, but each picture has one. Mend its line, or take it out.")
    return {"target": ids[0]}


# --- lines ------------------------------------------------------------------------------------------------------------


def _of_line(line: str, where: str) -> Correction:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}. Mend it, or take it out.") from error
    sample = values.get("sample") if isinstance(values, dict) else None
    labels, mask = (values.get(key) for key in ("labels", "mask")) if isinstance(values, dict) else (None, None)
    good_labels = labels is None or (isinstance(labels, list) and all(isinstance(name, str) for name in labels))
    good_mask = mask is None or (isinstance(mask, str) and _is_inside(mask))
    if not isinstance(sample, str) or not good_labels or not good_mask or (labels is None) == (mask is None):
        raise DataError(
            f'{where} is no correction; it should be {{"sample": KEY, "labels": [NAME]}} or {{"sample": KEY, "mask": '
            f'"{MASKS}/FILE.png"}}. Mend it, or take it out.'
        )
    return Correction(sample, None if labels is None else tuple(labels), mask)


def _is_inside(name: str) -> bool:
    """Whether a file lies in the folder of corrections."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def _folder_for(data: str | Path) -> Path:
    folder = corrections_folder(data)
    if folder is None:
        raise OutputError(f"{data} is no folder or file here, so there is no place beside it for corrections.")
    return folder


def _add(data: str | Path, values: dict[str, Any]) -> Path:
    """Add a line; whoever reads sees it whole or not at all."""
    folder = _folder_for(data)
    line = json.dumps({**values, "when": datetime.now(UTC).isoformat(timespec="seconds")}, ensure_ascii=False) + "\n"
    try:
        make_folder(folder)
        with locked(folder / _LOCK):
            path = folder / LINES
            before = path.read_bytes() if path.exists() else b""
            gap = b"\n" if before and not before.endswith(b"\n") else b""
            write_file(path, before + gap + line.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise _unwritten(folder, error) from error
    return folder / LINES


def _unwritten(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The correction could not be written to {folder}: {error.strerror or error}. Give yourself the right to write "
        "beside the data, or copy the data elsewhere."
    )
