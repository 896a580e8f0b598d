"""Where data lie, and in which layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lumora.data.layouts import ELSEWHERE, HUB, LAYOUTS, NAMED, TABLE, Found, Layout, Wishes
from lumora.data.listing import Folder, contents_in_words, opened
from lumora.data.near import near
from lumora.data.table_files import TABLES
from lumora.errors import DataError, LayoutError, UnreadableError
from lumora.paths import at_home

Place = Any
"""A `Folder`, the path of a file, a name, or the dataset itself."""


def layout_of(data: object, wishes: Wishes) -> tuple[Layout, Place]:
    """The layout that reads the data, and the data as it wants them."""
    place = _place(data)
    fitting = _fitting(place, wishes)
    if wishes.layout is not None:
        return _asked_for(data, place, NAMED[wishes.layout], fitting, wishes), place
    for each in fitting:
        if each.sees(place):
            return each, place
    if wishes.columns and fitting:  # a table whose columns have to be named cannot be seen
        return fitting[-1], place
    raise _nothing_seen(place)


def read(data: object, layout: Layout, place: Place, wishes: Wishes) -> Found:
    """What a layout finds, which is something."""
    found = layout.read(place, wishes)
    if not any(found.parts.values()):
        raise DataError(f"{data} holds no samples. {' '.join(found.notes)}".strip())
    return found


def _place(data: object) -> Place:
    if not isinstance(data, str | Path):
        return data
    if data == "":
        raise DataError(
            "The path of the data is empty; give a folder, a file or a name ('.' for the folder you are in)."
        )
    path = at_home(data)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:
        raise UnreadableError(
            f"{data} cannot be reached: {error.strerror}. Check the path, and that you may look into each folder above "
            "it (chmod +x)."
        ) from error
    if is_folder:
        return opened(path)
    if is_file:
        return path
    if isinstance(data, str) and HUB.sees(data) and not path.suffix:
        return data
    raise DataError(f"There is no file or folder {data}.{near(path)}")


def _fitting(place: Place, wishes: Wishes) -> list[Layout]:
    """The layouts that data of this kind may have."""
    if not isinstance(place, Folder | Path):
        return [each for each in ELSEWHERE if each.sees(place)]
    fitting = [each for each in LAYOUTS if each.files or isinstance(place, Folder)]
    if wishes.columns and wishes.layout is None:
        return [each for each in fitting if each.columns]
    return fitting


def _asked_for(data: object, place: Place, layout: Layout, fitting: list[Layout], wishes: Wishes) -> Layout:
    """The layout of the caller's choice, if the data may lie so."""
    if layout not in fitting:
        names = ", ".join(repr(each.name) for each in fitting)
        raise LayoutError(f"{data} cannot be read as {layout.looks_like}; it may be {names}.")
    if layout.sees(place) or (wishes.columns and layout.columns):
        return layout
    there = f" It has {contents_in_words(place)}." if isinstance(place, Folder) else ""
    hint = " Name the columns (columns={'picture': …, 'label': …})." if layout.columns else ""
    raise LayoutError(
        f"{data} does not look like {layout.looks_like}.{there}{hint} Leave out layout={layout.name!r} to have it "
        "looked at in every way."
    )


def _nothing_seen(place: Place) -> LayoutError:
    if isinstance(place, Folder):
        if place.pictures and not place.folders:
            return LayoutError(
                f"{place.path} has {len(place.pictures):,} pictures, but nothing that says what they show. Put the "
                "pictures of each class into a folder with the class's name, write a table (path,label), or add a "
                f"folder of masks.{_why_no_table(place)}"
            )
        return LayoutError(
            f"No pictures with labels or masks were found in {place.path}: it has {contents_in_words(place)}."
            f"{_why_no_table(place)} Pictures end in .jpg, .png, .tif, .webp or the like. Data may be"
            f"{_layouts_in_words()}"
        )
    if isinstance(place, Path):
        return LayoutError(
            f"{place} is a single file that is no table or archive. Give a folder; data may be{_layouts_in_words()}"
        )
    return LayoutError(f"A {type(place).__name__} is nothing that can be opened; give a path, a dataset, or a name.")


def _why_no_table(folder: Folder) -> str:
    """Why the first table in a folder cannot be used, if there is one."""
    tables = (path for path in folder.files.values() if path.suffix.lower() in TABLES)
    try:
        for path in tables:
            TABLE.read(path, Wishes())
    except DataError as error:
        return f" There is a table, but it cannot be used: {error}"
    return ""


def _layouts_in_words() -> str:
    """A line for each layout that files can have."""
    return "".join(f"\n  - {each.looks_like} ({name!r})" for name, each in NAMED.items() if name != "in-memory")
