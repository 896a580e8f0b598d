"""Lists of labels in files, as many programs write them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lumora.data.content import unopened
from lumora.data.labels import Colour, Labels
from lumora.data.listing import Folder
from lumora.errors import DataError, UnreadableError

_NAMES = (
    "labels classes class_names classnames names label_names labelnames labelmap label_map label_colors label_colours "
    "class_dict class_colors colors colours palette id2label codes categories objectInfo150"
).split()
_ENDINGS = (".txt", ".csv", ".tsv", ".json")


@dataclass(frozen=True)
class LabelList:
    """Labels, and how masks write them."""

    labels: Labels
    values: tuple[int, ...] | None = None
    """The number of each label in mask files, if the list says; else they are numbered from 0."""
    where: str = "the given labels"


def label_list(given: object) -> LabelList:
    """A list of labels from what a caller may give: names, `Labels`, a file, `"voc"`, `"ade20k"` or `"cityscapes"`."""
    from lumora.data import known_labels

    if isinstance(given, Labels):
        return LabelList(given)
    if isinstance(given, str | Path):
        lists = {"voc": known_labels.voc, "ade20k": known_labels.ade20k, "cityscapes": known_labels.cityscapes}
        known = lists.get(str(given).lower())
        return LabelList(known()) if known else read_labels(Path(given))
    if isinstance(given, Mapping):
        return _from_mapping(cast("Mapping[Any, Any]", given), "the given labels")
    if isinstance(given, Iterable):
        return LabelList(Labels(tuple(str(name) for name in cast("Iterable[object]", given))))
    raise DataError(
        f"labels is {given!r}; give names in the order of their ids, a file that lists them, or Labels(...)."
    )


def find_labels(folder: Folder) -> LabelList | None:
    """The list of labels in a file of a folder, if one is called as such files are; a table of samples is none."""
    wanted = {name.lower(): rank for rank, name in enumerate(_NAMES)}
    found = [
        (wanted[path.stem.lower()], name, path)
        for name, path in folder.files.items()
        if path.stem.lower() in wanted and path.suffix.lower() in _ENDINGS
    ]
    for _, _, path in sorted(found):
        try:
            return read_labels(path)
        except UnreadableError:  # the labels would get another order
            raise
        except DataError:
            continue
    return None


def read_labels(path: Path) -> LabelList:
    """The list of labels in a file.

    A text file with a name on each line, with or without a number or a colour (`128 64 0 road`, `road #804000`,
    `road:128,64,0::`); a table with a column for names and, if wanted, for numbers (`id`) and colours (`r`, `g`, `b` or
    `colour`); JSON with a list of names or of objects, or an object from numbers to names or from names to colours.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise DataError(
            f"There is no file {path} that lists labels. Check its path, or give 'voc', 'ade20k' or the names "
            "themselves."
        ) from error
    except OSError as error:
        raise unopened(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"The labels in {path} cannot be read: {error}. Save them as text in UTF-8.") from error
    if path.suffix.lower() == ".json":
        return _from_json(text, path)
    rows = _table_rows(text, path)
    found = _from_rows(rows, str(path)) if rows is not None else _from_lines(text, str(path))
    if found is None:
        raise DataError(f"{path} lists no labels; write one name on each line, in the order of their ids.")
    return found


def _from_json(text: str, path: Path) -> LabelList:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    if isinstance(value, Mapping):
        mapping = cast("Mapping[Any, Any]", value)
        for key in ("labels", "classes", "names", "categories", "id2label"):
            if isinstance(mapping.get(key), list | dict):
                return _from_json(json.dumps(mapping[key]), path)
        return _from_mapping(mapping, str(path))
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if items and all(isinstance(item, str) for item in items):
            return LabelList(Labels(tuple(items)), where=str(path))
        if items and all(isinstance(item, dict) for item in items):
            found = _from_rows([{str(k).lower(): v for k, v in item.items()} for item in items], str(path))
            if found is not None:
                return found
    raise DataError(f"{path} is JSON, but lists no labels; write a list of names, or {{'0': 'sky', '1': 'sea'}}.")


def _from_mapping(mapping: Mapping[Any, Any], where: str) -> LabelList:
    """From numbers to names, names to numbers, names to colours, or colours to names."""
    items = list(mapping.items())
    if items and all(_is_number(k) and isinstance(v, str) for k, v in items):
        return _made([(v, int(k), None) for k, v in items], where)
    if items and all(isinstance(k, str) and _is_number(v) for k, v in items):
        return _made([(k, int(v), None) for k, v in items], where)
    if items and all(isinstance(k, str) and colour_of(v) is not None for k, v in items):
        return _made([(k, None, colour_of(v)) for k, v in items], where)
    if items and all(colour_of(k) is not None and isinstance(v, str) for k, v in items):
        return _made([(v, None, colour_of(k)) for k, v in items], where)
    raise DataError(f"{where}: give labels as {{0: 'sky', 1: 'sea'}} or {{'sky': (0, 0, 255), 'sea': (0, 128, 0)}}.")


_COLUMN_NAMES = ("name", "names", "label", "class", "class_name", "label_name", "category", "title")
_COLUMN_IDS = ("id", "index", "idx", "value", "label_id", "class_id", "number", "key")


def _table_rows(text: str, path: Path) -> list[dict[str, Any]] | None:
    """The rows of a table with headings, or None if it is a plain list."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return None
    separator = max(("\t", ",", ";"), key=lines[0].count)
    headings = [heading.strip().lower() for heading in lines[0].split(separator)]
    if len(headings) < 2 or not any(heading in _COLUMN_NAMES for heading in headings):
        return None
    reader = csv.DictReader(io.StringIO("\n".join(lines)), fieldnames=headings, delimiter=separator)
    return [{str(k): v for k, v in row.items()} for row in list(reader)[1:]]


def _from_rows(rows: Sequence[Mapping[str, Any]], where: str) -> LabelList | None:
    if not rows:
        return None
    name = next((column for column in _COLUMN_NAMES if column in rows[0]), None)
    if name is None:
        return None
    number = next((column for column in _COLUMN_IDS if column in rows[0] and _is_number(rows[0][column])), None)
    made = [
        (str(row[name]).strip(), int(row[number]) if number and _is_number(row[number]) else None, _colour_in(row))
        for row in rows
        if row.get(name) is not None
    ]
    return _made(made, where)


def _colour_in(row: Mapping[str, Any]) -> Colour | None:
    for channels in (("r", "g", "b"), ("red", "green", "blue")):
        if all(_is_number(row.get(channel)) for channel in channels):
            return colour_of([row[channel] for channel in channels])
    return next((colour_of(row[c]) for c in ("color", "colour", "rgb", "hex") if row.get(c) is not None), None)


def _from_lines(text: str, where: str) -> LabelList | None:
    made = [
        _line(line) for line in (raw.strip() for raw in text.splitlines()) if line and not line.startswith(("# ", "//"))
    ]
    return _made(made, where) if made else None


def _line(line: str) -> tuple[str, int | None, Colour | None]:
    """A name with the colour beside it, in the ways that CamVid, CVAT and others write."""
    if found := re.fullmatch(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\S.*)", line):
        return found[4].strip(), None, colour_of(found.groups()[:3])
    if found := re.fullmatch(r"(.+?)\s*[:\s,;]\s*(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[:\s]*", line):
        return found[1].strip(), None, colour_of(found.groups()[1:4])
    if found := re.fullmatch(r"(.+?)[\s,:;]+(#[0-9a-fA-F]{6})", line):
        return found[1].strip(), None, colour_of(found[2])
    if found := re.fullmatch(r"(\d+)\s*[:,\t]\s*(\S.*)", line):
        return found[2].strip(), int(found[1]), None
    return line, None, None


def _made(entries: Sequence[tuple[str, int | None, Colour | None]], where: str) -> LabelList:
    """Labels of (name, number, colour); some programs list what counts nowhere as a label of its own."""
    entries = [entry for entry in entries if entry[0].strip("_").lower() != "ignore" and entry[1] != -1]
    if all(number is not None for _, number, _ in entries):
        entries = sorted(entries, key=lambda entry: entry[1] or 0)
        numbers = [number for _, number, _ in entries if number is not None]
    else:
        numbers = list(range(len(entries)))
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{where}: two labels have the same number; give each its own.")
    colours = [colour for _, _, colour in entries if colour is not None]
    try:
        labels = Labels(
            tuple(name for name, _, _ in entries), tuple(colours) if len(colours) == len(entries) and colours else None
        )
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return LabelList(labels, None if numbers == list(range(len(entries))) else tuple(numbers), where)


def colour_of(value: object) -> Colour | None:
    """A colour from `(128, 64, 0)`, `"128, 64, 0"` or `"#804000"`; None if it is none."""
    if isinstance(value, str):
        if found := re.fullmatch(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", value.strip()):
            red, green, blue = (int(part, 16) for part in found.groups())
            return red, green, blue
        value = re.findall(r"\d+", value)
    if not isinstance(value, Sequence):
        return None
    parts = cast("Sequence[Any]", value)
    if len(parts) != 3 or not all(_is_number(part) and 0 <= int(part) <= 255 for part in parts):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])


def _is_number(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value) is not None
    )
