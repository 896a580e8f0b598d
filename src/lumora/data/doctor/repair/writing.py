"""Writing a repaired copy: class folders, pictures and masks, or a table."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from lumora.data.content import Content, InFile
from lumora.data.doctor.examined import Examined
from lumora.data.doctor.repair.plan import Kept, Plan
from lumora.data.labels import IGNORE, Labels
from lumora.data.listing import is_hidden
from lumora.data.masks import Coding
from lumora.data.reading import Limits, RawMask, read_header, read_picture, read_raw_mask, upright
from lumora.data.split_names import split_of
from lumora.errors import DataError, MaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Progress = Callable[[int, int], None]

_ENDINGS = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp", "GIF": ".gif"}


def write(examined: Examined, plan: Plan, out: Path, threads: int | None, progress: Progress | None) -> None:
    """Write all samples of a plan into a new folder, which appears when it is complete."""
    if not plan.kept:
        raise DataError("Nothing is left that could be written: every sample has an error. See the findings.")
    with _appearing(out) as folder:
        if examined.data.task == "segmentation":
            places = _beside_masks(examined, plan.kept)
            _write_labels(examined.data.labels, folder)
        elif _fits_folders(examined, plan.kept):
            places = _in_class_folders(examined, plan.kept)
        else:
            places = _in_table(examined, plan.kept)
            _write_table(plan.kept, places, folder, several=examined.data.task == "multilabel")
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            work = pool.map(_write_one, repeat(examined), plan.kept, places, repeat(folder))
            for done, _ in enumerate(work, start=1):
                if progress is not None:
                    progress(done, len(plan.kept))


@contextmanager
def _appearing(out: Path) -> Generator[Path]:
    """A folder beside the wanted one, which takes its place at the end or is removed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        folder.chmod(0o777 & ~_umask())
        yield folder
        if out.is_dir():
            out.rmdir()  # it is empty
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_one(examined: Examined, kept: Kept, place: PurePosixPath, folder: Path) -> None:
    record = examined.data.records[kept.index]
    _write_picture(record.picture, kept.decode, folder / place, examined.data.limits)
    if record.mask is None or examined.data.task != "segmentation":
        return
    mask = folder / "masks" / place.relative_to("images")
    if kept.rewrite and examined.data.coding is not None:
        _write_mask(examined, kept.index, examined.data.coding, mask.with_suffix(".png"))
    else:
        _copy(record.mask, mask.with_suffix(_ending(record.mask, examined.data.limits)))


def _write_picture(content: Content, decode: bool, path: Path, limits: Limits) -> None:
    if not decode:
        _copy(content, path)
        return
    from PIL import Image

    pixels = read_picture(content, limits=limits).permute(1, 2, 0).contiguous().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _copy(content: Content, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.read())


def _write_mask(examined: Examined, index: int, coding: Coding, path: Path) -> None:
    """The ids of a mask as a grey PNG, upright; what belongs to no label counts nowhere."""
    import torch
    from PIL import Image

    record, facts = examined.data.records[index], examined.facts[index]
    assert record.mask is not None
    raw = read_raw_mask(record.mask, limits=examined.data.limits)
    ids = torch.from_numpy(np.ascontiguousarray(_ids(raw, coding)))
    picture, orientation = facts.picture.header, raw.orientation
    if orientation == 1 and picture is not None and ids.shape == (picture.height, picture.width):
        orientation = picture.orientation  # drawn on the picture as it is stored
    path.parent.mkdir(parents=True, exist_ok=True)
    depth = np.uint8 if len(coding.labels) <= IGNORE else np.uint16
    Image.fromarray(upright(ids, orientation).contiguous().numpy().astype(depth)).save(path)


def _ids(raw: RawMask, coding: Coding) -> NDArray[Any]:
    """The id of each value; value for value where some have none."""
    colours = raw.values.ndim == 3
    read = coding.ids_of_colours if colours else coding.ids_of_numbers
    try:
        if raw.palette is not None:
            return coding.ids_of_palette(raw.values, raw.palette, "")
        return read(raw.values, "")
    except MaskError:
        flat = raw.values.reshape(-1, 3) if colours else raw.values.reshape(-1)
    seen, places = np.unique(flat, axis=0, return_inverse=True)
    ids = np.full(len(seen), coding.labels.ignore, dtype=np.int32)
    for i, value in enumerate(seen):
        with suppress(MaskError):
            ids[i] = read(np.asarray(value)[None, None], "")[0, 0]
    return ids[places.reshape(raw.values.shape[:2])]


# --- where everything goes


def _in_class_folders(examined: Examined, kept: Sequence[Kept]) -> list[PurePosixPath]:
    return _different([PurePosixPath(each.split or "") / each.labels[0] / _name(examined, each) for each in kept])


def _in_table(examined: Examined, kept: Sequence[Kept]) -> list[PurePosixPath]:
    return _different([PurePosixPath("pictures", each.split or "") / _name(examined, each) for each in kept])


def _beside_masks(examined: Examined, kept: Sequence[Kept]) -> list[PurePosixPath]:
    return _different([PurePosixPath("images", each.split or "") / _name(examined, each) for each in kept])


def _name(examined: Examined, kept: Kept) -> str:
    """The picture's own name, with the ending of what is written."""
    record = examined.data.records[kept.index]
    name = PurePosixPath(record.key).name
    if kept.decode:
        return f"{PurePosixPath(name).stem if '.' in name else name}.png"
    if isinstance(record.picture, InFile):
        return name
    return f"{name}{_ending(record.picture, examined.data.limits)}"


def _ending(content: Content, limits: Limits) -> str:
    if isinstance(content, InFile):
        return content.path.suffix
    return _ENDINGS.get(read_header(content, limits=limits).format, ".png")


def _different(places: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """The same places, with a number where two would be one but for the ending: masks have another."""
    taken: set[str] = set()
    made: list[PurePosixPath] = []
    for place in places:
        number, new = 1, place
        while str(new.with_suffix("")).lower() in taken:
            number += 1
            new = place.with_name(f"{place.stem}-{number}{place.suffix}")
        taken.add(str(new.with_suffix("")).lower())
        made.append(new)
    return made


def _fits_folders(examined: Examined, kept: Sequence[Kept]) -> bool:
    """Whether each sample has one label, and each label can be a folder's name that is not taken for a split."""
    if examined.data.task != "classification" or any(len(each.labels) != 1 for each in kept):
        return False
    names = {each.labels[0] for each in kept}
    unsafe = [name for name in names if set(name) & set('/\\:*?"<>|') or is_hidden(name) or name.strip(" .") != name]
    return not unsafe and not any(split_of(name) for name in names)


def _write_table(kept: Sequence[Kept], places: Sequence[PurePosixPath], folder: Path, several: bool) -> None:
    lines: list[str] = []
    for each, place in zip(kept, places, strict=True):
        label = list(each.labels) if several else next(iter(each.labels), None)
        row = {"path": str(place), "label": label}
        lines.append(json.dumps(row if each.split is None else {**row, "split": each.split}, ensure_ascii=False))
    (folder / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_labels(labels: Labels | None, folder: Path) -> None:
    if labels is None:
        return
    value: object = list(labels.names)
    if labels.colours is not None:
        value = [{"name": n, "r": r, "g": g, "b": b} for n, (r, g, b) in zip(labels.names, labels.colours, strict=True)]
    (folder / "labels.json").write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
