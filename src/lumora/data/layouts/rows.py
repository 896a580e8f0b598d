"""Tables of the `datasets` library, however they came here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumora.data.columns import Roles, roles, wanted
from lumora.data.content import InCell, InFile
from lumora.data.label_cells import labels_of_cells, labels_of_flags
from lumora.data.label_files import LabelList
from lumora.data.labels import Labels, listed
from lumora.data.layouts.base import Found, Item, RawLabel, Wishes
from lumora.data.listing import PICTURES
from lumora.data.sample import TaskName
from lumora.data.split_names import in_order, split_of
from lumora.errors import LayoutError

if TYPE_CHECKING:
    from datasets import Dataset

_PEEK = 50


def is_dataset(data: object) -> bool:
    """Whether it is a `Dataset` or `DatasetDict`; does not import the library."""
    return any(kind.__module__.partition(".")[0] == "datasets" for kind in type(data).__mro__)


def read_rows(data: object, wishes: Wishes, words: str, name: str) -> Found:
    """The samples of a dataset; pictures stay encoded until they are asked for."""
    from datasets import Dataset, DatasetDict

    if not isinstance(data, Dataset | DatasetDict):
        raise LayoutError(
            f"A {type(data).__name__} cannot be read; give a Dataset or DatasetDict (of a stream, take the part you "
            "want: Dataset.from_list(list(stream.take(1000)), features=stream.features))."
        )
    notes: list[str] = []
    tables: dict[str | None, list[_Rows]] = {}
    for split, rows in data.items() if isinstance(data, DatasetDict) else [(None, data)]:
        meant = None if split is None else split_of(str(split))
        if split is not None and meant is None and len(data) > 1:
            notes.append(f"Left out: {split!r}, which is none of the splits train, validation and test.")
            continue
        tables.setdefault(meant, []).append(_Rows(rows, wishes, f"{name} {split}" if split else name))
    if not tables:
        raise LayoutError(f"None of {listed(map(str, data))} is a split train, validation or test; give one of them.")
    first = next(iter(tables.values()))[0]
    parts = {
        split: [item for part in several for item in part.items(split, notes)] for split, several in tables.items()
    }
    notes.append(first.note())
    if None not in parts:
        parts = in_order(parts)
        words += f"; in {', '.join(map(str, parts))}"
    return Found(words, first.task, parts, first.labels(), notes=tuple(dict.fromkeys(notes)))


class _Rows:
    """One table and what its columns hold."""

    def __init__(self, rows: Dataset, wishes: Wishes, name: str) -> None:
        from datasets import Image

        self.name, self.wishes = name, wishes
        features: Mapping[str, Any] = dict(rows.features)
        self.features = features
        self.pictures = [column for column, kind in features.items() if isinstance(kind, Image)]
        for column in self.pictures:
            rows = rows.cast_column(column, Image(decode=False))
        self.rows = rows.with_format(None)
        plain = [column for column in features if column not in self.pictures]
        self.roles = self._roles(plain)
        asked = wishes.task
        self.task: TaskName = asked or self._task()
        if self.task == "segmentation" and self.roles.mask is None:
            raise LayoutError(
                f"{name} has no column of masks among {listed(features)}; name it: columns={{'mask': …}}."
            )

    def _roles(self, plain: Sequence[str]) -> Roles:
        named = wanted(self.wishes.columns, list(self.features), self.name)
        peek: dict[str, list[Any]] = {column: self._column(column, _PEEK) for column in plain}
        # A picture shows itself by its type, and a mask is the second one; what is read as text may be a path.
        peek |= {column: ["picture.png"] for column in self.pictures}
        found = roles(peek, named, lambda column, value: column in self.pictures or _is_file(value))
        if found is None:
            raise LayoutError(
                f"{self.name} has no column of pictures: {listed(self.features)}. Cast the one that holds them: "
                "dataset.cast_column('…', datasets.Image())."
            )
        mask = found.mask
        if mask is None and len(self.pictures) > 1:
            mask = next(column for column in self.pictures if column != found.picture)
        label = found.label if found.label not in self.pictures else None
        if label is None or "label" not in named:
            label = next((c for c in plain if self._names(c) is not None), label) if "label" not in named else label
        return Roles(found.picture, label, found.flags, mask, found.split)

    def _task(self) -> TaskName:
        if self.roles.mask is not None:
            return "segmentation"
        if self.roles.flags and self.roles.label is None:
            return "multilabel"
        if self.roles.label is None:
            raise LayoutError(
                f"No column of {self.name} is sure to hold the labels: {listed(self.features)}. Name it: "
                "columns={'label': …}."
            )
        cells = labels_of_cells(self._column(self.roles.label, _PEEK), None, [])
        return "multilabel" if any(isinstance(cell, tuple) for cell in cells) else "classification"

    def items(self, split: str | None, notes: list[str]) -> list[Item]:
        """One item for each row."""
        count = len(self.rows)
        labels: Sequence[RawLabel] = [None] * count
        if self.task != "segmentation":
            labels = self._labels(notes)
        picture, mask = self.roles.picture, self.roles.mask if self.task == "segmentation" else None
        pictures, masks = self._contents(picture), self._contents(mask) if mask else [None] * count
        prefix = f"{split}/" if split else ""
        return [
            Item(f"{prefix}{i:08}", content, label, of)
            for i, (content, label, of) in enumerate(zip(pictures, labels, masks, strict=True))
        ]

    def labels(self) -> LabelList | None:
        """The names that the table's own types give."""
        if self.task == "segmentation":
            return None
        if self.roles.label is None:
            return LabelList(Labels(self.roles.flags))
        names = self._names(self.roles.label)
        return LabelList(Labels(tuple(names)), where=self.name) if names else None

    def note(self) -> str:
        """What was taken from which column."""
        found = self.roles
        second = f"masks from {found.mask!r}" if self.task == "segmentation" else f"labels from {found.label!r}"
        if found.label is None and found.flags and self.task != "segmentation":
            second = f"labels from the columns {listed(found.flags)}"
        return f"Pictures from {found.picture!r}, {second}; for others say columns={{'label': …}}."

    def _labels(self, notes: list[str]) -> list[RawLabel]:
        if self.roles.label is None:
            return labels_of_flags({name: self._column(name) for name in self.roles.flags}, self.roles.flags)
        cells = self._column(self.roles.label)
        # A class label of -1 means that there is none.
        return labels_of_cells([None if cell == -1 else cell for cell in cells], self.wishes.task, notes)

    def _contents(self, column: str) -> list[InCell] | list[InFile]:
        if column in self.pictures:
            rows = self.rows.select_columns([column])
            return [InCell(rows, i, column, f"{self.name} row") for i in range(len(rows))]
        return [InFile(Path(path)) for path in self._column(column)]

    def _column(self, name: str, most: int | None = None) -> list[Any]:
        rows = self.rows.select_columns([name])
        return rows[: len(rows) if most is None else most][name]

    def _names(self, column: str) -> Sequence[str] | None:
        """The names of a column of class labels, alone or in lists."""
        kind = self.features[column]
        while hasattr(kind, "feature"):
            kind = kind.feature
        return list(kind.names) if type(kind).__name__ == "ClassLabel" else None


def _is_file(value: object) -> bool:
    return isinstance(value, str) and Path(value).suffix.lower() in PICTURES and Path(value).is_file()
