"""A dataset on the Hugging Face Hub."""

from __future__ import annotations

import re

from lumora.data.layouts.base import Found, Layout, Wishes
from lumora.data.layouts.rows import read_rows
from lumora.errors import HubError, LayoutError

_NAME = re.compile(r"(hf:)?([\w][\w.-]*/)?[\w][\w.-]*")


def _sees(data: object) -> bool:
    return isinstance(data, str) and _NAME.fullmatch(data) is not None


def _read(data: str, wishes: Wishes) -> Found:
    import datasets

    name = data.removeprefix("hf:")
    try:
        loaded = datasets.load_dataset(name, wishes.subset)
    except Exception as error:
        raise _explained(name, error) from error
    return read_rows(loaded, wishes, f"the dataset {name} of the Hub", name)


def _explained(name: str, error: Exception) -> HubError | LayoutError:
    """The error in words; the library raises the same kinds for a name that is wrong and a net that is down."""
    here = f"There is no file or folder {name!r} here, and"
    said = str(error).partition("\n")[0].strip().rstrip(".")
    if "Config name is missing" in str(error) or "BuilderConfig" in str(error):
        return LayoutError(f"The dataset {name} has several subsets; choose one with subset='…': {error}")
    if isinstance(error, ConnectionError) or "offline" in said.lower() or "reach" in said.lower():
        return HubError(
            f"{here} the Hub cannot be reached to look for a dataset of that name ({said}). For data of your own, "
            "check the path; for a dataset, go online once: it is kept then, and later runs need no network."
        )
    return HubError(
        f"{here} the Hub gives no dataset of that name ({said}). Check the spelling; for a private or gated one, log "
        "in with `hf auth login`."
    )


HUB = Layout("hub", "a dataset's name on the Hub", _sees, _read)
