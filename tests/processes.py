"""Functions run in a process of their own, as the same user or as one without rights."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


def in_a_process(work: Callable[[], object], *, without_rights: bool = False) -> str:
    """Run something in a forked process; return what it returned as text, or the error's name and message.

    Nothing is unreadable or read-only for root, so without rights the process becomes somebody else.
    """
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            if without_rights and os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writing, answer.encode()[:60_000])  # what a pipe holds
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="lumora-test-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(folder)
