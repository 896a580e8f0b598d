"""What `Dataset.save_to_disk` wrote."""

from __future__ import annotations

from lumora.data.layouts.base import Found, Layout, Wishes
from lumora.data.layouts.rows import read_rows
from lumora.data.listing import Folder
from lumora.errors import LayoutError


def _sees(folder: Folder) -> bool:
    return "dataset_dict.json" in folder.files or {"state.json", "dataset_info.json"} <= set(folder.files)


def _read(folder: Folder, wishes: Wishes) -> Found:
    import datasets

    try:
        data = datasets.load_from_disk(str(folder.path))
    except Exception as error:  # damaged Arrow files and JSON raise all sorts
        raise LayoutError(
            f"The dataset saved in {folder.path} cannot be read: {error}. Save it again with save_to_disk."
        ) from error
    return read_rows(data, wishes, "a saved dataset", str(folder.path))


SAVED = Layout("saved", "a folder written by Dataset.save_to_disk", _sees, _read, columns=True)
