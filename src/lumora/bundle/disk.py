"""What a disk refuses, as the system says it."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager

from safetensors import SafetensorError

from lumora.errors import AdapterFileError

_OS_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def disk_errors() -> Generator[None]:
    """Inside, a write that the disk refused is an `OSError`, from which it can be told what to do, whoever wrote."""
    try:
        yield
    except (SafetensorError, AdapterFileError) as error:
        cause = error.__cause__ if isinstance(error, AdapterFileError) else error
        if isinstance(cause, SafetensorError) and (found := _OS_ERROR.search(str(cause))):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        if isinstance(cause, OSError):
            raise cause from error
        raise
