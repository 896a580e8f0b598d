"""A dataset on the Hugging Face Hub, or one that was fetched from it before."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from lumora.data.layouts.base import Found, Layout, Wishes
from lumora.data.layouts.rows import read_rows
from lumora.data.near import near
from lumora.errors import HubError, LayoutError, LumoraError, MissingDataError

_NAME = re.compile(r"(hf:)?([\w][\w.-]*/)?[\w][\w.-]*")
_PATIENCE = 10.0
"""Seconds to wait for the Hub's first answer."""


def _sees(data: object) -> bool:
    return isinstance(data, str) and _NAME.fullmatch(data) is not None


def _read(data: str, wishes: Wishes) -> Found:
    import datasets

    name = data.removeprefix("hf:")
    unreachable = _unreachable(name)
    try:
        if unreachable is None:
            loaded = datasets.load_dataset(name, wishes.subset)
        else:
            with _offline():
                loaded = datasets.load_dataset(name, wishes.subset)
    except Exception as error:
        raise _explained(data, error, unreachable) from error
    return read_rows(loaded, wishes, f"the dataset {name} of the Hub", name)


def _unreachable(name: str) -> Exception | None:
    """Why the Hub does not answer; None if it does. Without this, a download retries for half a minute."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        huggingface_hub.HfApi().dataset_info(name, timeout=_PATIENCE)
    except (HfHubHTTPError, HFValidationError):  # it answers, if only that there is no such dataset
        return None
    except Exception as error:  # the network's errors have no base class in common
        return error
    return None


@contextmanager
def _offline() -> Generator[None]:
    """Ask no server inside the `with`: what was fetched before is found all the same."""
    import datasets.config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _explained(data: str, error: Exception, unreachable: Exception | None) -> LumoraError:
    """The error in words; the library raises the same kinds for a name that is wrong and a net that is down."""
    from datasets.exceptions import DatasetNotFoundError

    name = data.removeprefix("hf:")
    said = str(error).partition("\n")[0].strip().rstrip(".")
    if isinstance(error, ValueError) and "config" in str(error).lower():
        return LayoutError(f"The dataset {name} has several subsets; choose one with subset='…'. ({error})")
    if unreachable is not None:
        return _not_there(
            data,
            f"the Hub cannot be reached to look for a dataset of that name ({unreachable})",
            "For data of your own, check the path. For a dataset, fetch it once while online: it is kept, and needs no "
            "network then.",
        )
    if not isinstance(error, DatasetNotFoundError):
        return HubError(f"The dataset {name} of the Hub cannot be read: {said}.")
    return _not_there(
        data,
        f"the Hub gives no dataset of that name ({said})",
        "Check the spelling; for a private or gated one, log in with `hf auth login`.",
    )


def _not_there(data: str, on_the_hub: str, what_to_do: str) -> MissingDataError | HubError:
    """A name that could be a path was most likely meant as one; any other is the Hub's alone."""
    path = Path(data)
    could_be_a_path = not data.startswith("hf:") and path.parent.is_dir()
    hint = near(path) if could_be_a_path else ""
    kind = MissingDataError if could_be_a_path else HubError
    name = data.removeprefix("hf:")
    return kind(f"There is no file or folder {name!r} here, and {on_the_hub}.{hint} {what_to_do}")


HUB = Layout("hub", "a dataset's name on the Hub", _sees, _read, columns=True)
