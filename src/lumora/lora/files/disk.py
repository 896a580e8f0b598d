"""Writing several files so that all of them are there, or none."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors

from lumora.errors import AdapterFileError

Writer = Callable[[Path], Any]


def text_writer(text: str) -> Writer:
    """Something that writes this text."""
    return lambda path: path.write_text(text, encoding="utf-8")


def write_together(folder: Path, writers: Mapping[str, Writer]) -> None:
    """Write every file beside its old one and, only when all are on the disk, put them in place.

    On any failure, or when the process is killed, the old files are as they were. Only the moment between the renames
    is left, in which being killed leaves some old and some new.
    """
    temporaries: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in writers.items():
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{name} is a folder")
            temporary = folder / f".{name}.{secrets.token_hex(4)}"
            temporaries[temporary] = folder / name
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            temporary.chmod(mode)  # safetensors makes files that only their owner may read
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        for temporary, path in temporaries.items():
            temporary.replace(path)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AdapterFileError(
            f"Nothing could be written to {folder}: {reason}. What was there is unchanged."
        ) from error
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
