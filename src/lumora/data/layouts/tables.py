"""Tables with the paths of pictures and their labels or masks: CSV, JSON lines, Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lumora.data.columns import roles, wanted
from lumora.data.content import InFile
from lumora.data.label_cells import labels_of_cells, labels_of_flags
from lumora.data.label_files import LabelList, find_labels
from lumora.data.labels import Labels, listed, same_text
from lumora.data.layouts.base import Found, Item, Layout, RawLabel, Wishes
from lumora.data.listing import Folder, key_of
from lumora.data.sample import TaskName
from lumora.data.split_names import in_order, split_of
from lumora.data.table_files import TABLES, read_table
from lumora.errors import DataError, LayoutError, UnreadableError

_PEEK = 20


def _sees(place: Folder | Path) -> bool:
    if isinstance(place, Path):
        return place.suffix.lower() in TABLES
    return bool(_tables(place, {}))


def _read(place: Folder | Path, wishes: Wishes) -> Found:
    tables = [place] if isinstance(place, Path) else _tables(place, wishes.columns)
    root = place.parent if isinstance(place, Path) else place.path
    if not tables:
        raise LayoutError(
            f"{root} has no table with paths of pictures that are there and the columns that are asked for "
            f"({listed(wishes.columns.values())}); give the table itself instead of its folder."
        )
    notes: list[str] = []
    parts: dict[str | None, list[Item]] = {}
    flags: tuple[str, ...] = ()
    kinds: set[TaskName] = set()
    for path in tables:
        table = _Table(path, root, wishes)
        flags = flags or table.roles.flags
        kinds.add(table.task)
        for split, items in table.parts().items():
            parts.setdefault(split, []).extend(items)
        notes += table.notes
    if len(kinds) > 1:
        raise LayoutError(
            f"{listed([p.name for p in tables])} hold different things ({listed(sorted(kinds))}); name one."
        )
    if None in parts and len(parts) > 1:
        raise LayoutError(
            f"Of {listed([p.name for p in tables])} some are splits and some are not; name the one to read."
        )
    labels = LabelList(Labels(flags)) if flags else find_labels(Folder(root))
    names = ", ".join(path.name for path in tables)
    return Found(f"table {names}", kinds.pop(), in_order(parts), labels, notes=tuple(dict.fromkeys(notes)), root=root)


class _Table:
    """One table and what its columns hold."""

    def __init__(self, path: Path, root: Path, wishes: Wishes) -> None:
        self.path, self.root, self.wishes = path, root, wishes
        self.columns = read_table(path)
        self.notes: list[str] = []
        self.files = _Files(path.parent, root)
        if not next(iter(self.columns.values()), []):
            raise DataError(f"The table {path} has no rows below its heading.")
        named = wanted(wishes.columns, list(self.columns), str(path))
        found = roles(self.columns, named, lambda _, value: self.files.find(value) is not None)
        if found is None:
            raise LayoutError(
                f"No column of {path} has the paths of pictures that are there: {listed(self.columns)}. Paths are "
                f"relative to the table's folder. Name the column: columns={{'picture': {next(iter(self.columns))!r}}}."
            )
        self.roles = found
        self.task: TaskName = self._task()
        self._note_roles()

    def _task(self) -> TaskName:
        asked, found = self.wishes.task, self.roles
        if asked is not None:
            return asked
        if found.mask is not None:
            return "segmentation"
        if found.label is None and not found.flags:
            raise LayoutError(
                f"No column of {self.path} is sure to hold the labels: {listed(self.columns)}. Name it: "
                "columns={'label': …}, or several columns of 0 and 1 as a list."
            )
        several = found.flags or any(isinstance(label, tuple) for label in self.labels())
        return "multilabel" if several else "classification"

    def labels(self) -> list[RawLabel]:
        """The label of each row."""
        if self.roles.flags:
            return labels_of_flags(self.columns, self.roles.flags)
        if self.roles.label is None:
            raise LayoutError(f"{self.path} has no column of labels; name it: columns={{'label': …}}.")
        return labels_of_cells(self.columns[self.roles.label], self.wishes.task, [])

    def parts(self) -> Mapping[str | None, list[Item]]:
        """The items of each split."""
        splits = self._splits()
        masks: Sequence[Any] = [None] * len(splits)
        labels: Sequence[RawLabel] = [None] * len(splits)
        if self.task == "segmentation":
            if self.roles.mask is None:
                raise LayoutError(f"{self.path} has no column of masks; name it: columns={{'mask': …}}.")
            masks = self.columns[self.roles.mask]
        elif self.roles.flags or self.roles.label is None:
            labels = self.labels()
        else:
            labels = labels_of_cells(self.columns[self.roles.label], self.wishes.task, self.notes)
        found: dict[str | None, list[Item]] = {}
        missing: list[str] = []
        for split, name, label, mask in zip(splits, self.columns[self.roles.picture], labels, masks, strict=True):
            path = self.files.find(name)
            of = self.files.find(mask) if mask else None
            if path is None or (mask and of is None):
                missing.append(str(name if path is None else mask))
                continue
            item = Item(key_of(path, self.root), InFile(path), label, InFile(of) if of else None)
            found.setdefault(split, []).append(item)
        self._check_missing(missing, len(splits))
        return found

    def _splits(self) -> list[str | None]:
        split = split_of(self.path.stem)
        if split is None and self.path.parent != self.root:
            split = split_of(self.path.parent.name)
        if self.roles.split is None:
            return [split] * len(self.columns[self.roles.picture])
        cells = self.columns[self.roles.split]
        unknown = {str(cell) for cell in cells if split_of(str(cell)) is None}
        if unknown:
            if self.wishes.columns.get("split"):
                raise LayoutError(
                    f"Column {self.roles.split!r} says {listed(sorted(unknown))}; say train, validation, test."
                )
            return [split] * len(cells)
        return [split_of(str(cell)) for cell in cells]

    def _check_missing(self, missing: list[str], rows: int) -> None:
        if missing:
            raise UnreadableError(
                f"{len(missing):,} of {rows:,} files in {self.path} are not there: {listed(missing, 4)}. Paths are "
                f"relative to {self.path.parent}; put the files there, or take their rows out."
            )

    def _note_roles(self) -> None:
        found = self.roles
        said = [f"pictures from {found.picture!r}"]
        said += [f"labels from {found.label!r}"] if found.label and self.task != "segmentation" else []
        said += [f"labels from the columns {listed(found.flags)}"] if found.flags else []
        said += [f"masks from {found.mask!r}"] if found.mask and self.task == "segmentation" else []
        said += [f"splits from {found.split!r}"] if found.split else []
        self.notes.append(f"{self.path.name}: {', '.join(said)}; for others say columns={{'label': …}}.")


class _Files:
    """Finds the files that a table names, in whatever letters: é is one character here and two there."""

    def __init__(self, folder: Path, root: Path) -> None:
        beside = [inner.path for inner in Folder(root).folders.values()]
        self.places = list(dict.fromkeys([folder, root, *beside]))
        self._listed: dict[Path, dict[str, Path]] = {}

    def find(self, name: object) -> Path | None:
        """The file of a name, which may lack its ending, in the table's folder or one of the folders beside it."""
        if not isinstance(name, str | int) or name == "":
            return None
        relative = str(name).replace("\\", "/")
        for place in self.places:
            path = place / relative
            if _is_there(path):
                return path
            if (same := self._in(path.parent).get(same_text(path.name))) is not None:
                return same
        return None

    def _in(self, folder: Path) -> dict[str, Path]:
        """The files of a folder, by name and, pictures, by name without ending."""
        if folder not in self._listed:
            inner = Folder(folder) if _is_there(folder, folders=True) else None
            stems = {name.rpartition(".")[0]: path for name, path in inner.pictures.items()} if inner else {}
            self._listed[folder] = stems | (inner.files if inner else {})
        return self._listed[folder]


def _is_there(path: Path, *, folders: bool = False) -> bool:
    try:
        return path.is_dir() if folders else path.is_file()
    except PermissionError as error:
        raise UnreadableError(
            f"Nothing in {path.parent} can be looked at: {error.strerror}. Give yourself the right to (chmod +rx)."
        ) from error
    except OSError:  # a text too long to be a name
        return False


def _tables(folder: Folder, columns: Mapping[str, str | Sequence[str]]) -> list[Path]:
    """The tables of a folder, and of the folders in it, that name pictures which are there."""
    inside = [inner for name, inner in folder.folders.items() if split_of(name) is not None]
    paths = [path for place in (folder, *inside) for path in place.files.values() if path.suffix.lower() in TABLES]
    found = [path for path in paths if _names_pictures(path, folder.path, columns)]
    splits = [path for path in found if split_of(path.stem) or path.parent != folder.path]
    return splits or found[:1]


def _names_pictures(path: Path, root: Path, named: Mapping[str, str | Sequence[str]]) -> bool:
    try:
        columns = read_table(path, rows=_PEEK)
        named = wanted(named, list(columns), str(path))
    except UnreadableError:  # what it names would be overlooked
        raise
    except DataError:
        return False
    files = _Files(path.parent, root)
    found = roles(columns, named, lambda _, value: files.find(value) is not None)
    return found is not None and bool(found.label or found.flags or found.mask)


TABLE = Layout(
    "table", "a table (CSV, JSON lines, Parquet) with paths and labels", _sees, _read, files=True, columns=True
)
