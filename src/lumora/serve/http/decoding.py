"""Pictures out of requests: their kind is looked at here, and all else is done by processes that may fail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from lumora.models import Preprocessing
from lumora.serve.hosting.hosted import Hosted, Seen
from lumora.serve.http.refusals import RefusedError, malformed, undecodable
from lumora.serve.http.settings import Settings

_LINE = 1 << 16
_START = 120.0
"""Seconds for a process to come up."""
_PAUSE = 1.0
"""Seconds between two tries."""
_NEEDED = (
    *("PATH", "PYTHON*", "VIRTUAL_ENV", "LD_*", "DYLD_*", "SYSTEMROOT", "OMP_NUM_THREADS"),
    *("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP", "LANG", "LC_*"),
)
"""The variables of the server's environment that decoders see."""


def kind_of(content: bytes) -> str | None:
    r"""The kind of picture that bytes begin as; None for all others.

    >>> kind_of(b"\x89PNG\r\n\x1a\n..."), kind_of(b"GIF89a")
    ('png', None)
    """
    if content.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


class _SilentError(Exception):
    """A decoder ended before it said anything."""


class Decoders:
    """Processes that decode; one that fails or takes too long is ended, and another one takes its place.

    One whose answer nobody waits for any more goes on: it is done soon, and another one would take seconds to come up.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._free: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
        self._all: set[asyncio.subprocess.Process] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[tuple[dict[str, Any], bytes]]] = set()
        self._stopped = False
        self.ended = 0
        """How many had to be ended so far."""

    async def start(self) -> None:
        """Let them come up."""
        await asyncio.gather(*(self._start_one() for _ in range(self._settings.decoders)))

    async def stop(self) -> None:
        """End them all."""
        self._stopped = True
        for task in (*self._starting, *self._busy):
            task.cancel()
        for process in list(self._all):
            await self._end(process)

    async def seen(self, hosted: Hosted, content: bytes) -> Seen:
        """What a bundle's model sees of an encoded picture."""
        kind = kind_of(content)
        if not content:
            raise malformed("There is no picture: it has 0 bytes.")
        if kind not in self._settings.formats:
            found = f"a {kind.upper()} file" if kind else "something else"
            wanted = ", ".join(name.upper() for name in self._settings.formats)
            raise RefusedError(415, f"Pictures are taken as {wanted}; this is {found}.")
        told, pixels = await self._ask(hosted.preprocessing, content)
        if "refused" in told:
            raise RefusedError(int(told["status"]), str(told["refused"]))
        shape, (height, width) = told["shape"], told["size"]
        return Seen(hosted, torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(shape), (height, width))

    async def _ask(self, preprocessing: Preprocessing, content: bytes) -> tuple[dict[str, Any], bytes]:
        try:
            return await self._ask_one(preprocessing, content)
        except _SilentError:  # it had failed before, perhaps; if it was the picture, it fails again
            pass
        try:
            return await self._ask_one(preprocessing, content)
        except _SilentError as error:
            raise undecodable("The picture made its decoder fail.") from error

    async def _ask_one(self, preprocessing: Preprocessing, content: bytes) -> tuple[dict[str, Any], bytes]:
        while (process := await self._free.get()).returncode is not None:  # something has ended it
            self._give_up(process)
        asking = asyncio.create_task(self._answer(process, preprocessing, content))
        self._busy.add(asking)
        asking.add_done_callback(self._busy.discard)
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody else looks
        await asyncio.wait([asking])  # which goes on when this is cancelled
        return asking.result()

    async def _answer(
        self, process: asyncio.subprocess.Process, preprocessing: Preprocessing, content: bytes
    ) -> tuple[dict[str, Any], bytes]:
        whole = False
        try:
            async with asyncio.timeout(self._settings.decode_time):
                answer = await _exchange(process, preprocessing, content)
            whole = True
            return answer
        except TimeoutError as error:
            raise undecodable(
                f"Decoding the picture took longer than {self._settings.decode_time:g} seconds; it was given up."
            ) from error
        except (ValueError, asyncio.IncompleteReadError) as error:
            raise undecodable("The picture made its decoder fail.") from error
        except (OSError, EOFError) as error:
            raise _SilentError from error
        finally:
            if whole:
                self._free.put_nowait(process)
            else:  # it may still be at it, or be no more
                self._give_up(process)

    def _give_up(self, process: asyncio.subprocess.Process) -> None:
        """End a process, and let another one come up."""
        self.ended += 1
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if self._stopped:
            return

        async def anew() -> None:
            await self._end(process)
            while True:
                try:
                    return await self._start_one()
                except (RuntimeError, TimeoutError, OSError):  # memory is short, say; others do the work meanwhile
                    await asyncio.sleep(_PAUSE)

        task = asyncio.get_running_loop().create_task(anew())
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_one(self) -> None:
        # What can be imported here can be imported there.
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "lumora.serve.http.decoder", str(self._settings.max_pixels)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE,
            env={**_needed(os.environ), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # a signal for the terminal's programs is for the server alone
        )
        self._all.add(process)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START):
                ready = await process.stdout.readline()
        except BaseException:  # too late, or nobody wants it any more
            await self._end(process)
            raise
        if ready != b"ready\n":
            await self._end(process)
            raise RuntimeError("A process for decoding pictures did not come up; its message is above.")
        self._free.put_nowait(process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        self._all.discard(process)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _needed(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that a decoder needs, and no others: a picture that gets hold of its decoder finds no secrets."""
    return {name: value for name, value in variables.items() if any(fnmatchcase(name.upper(), one) for one in _NEEDED)}


async def _exchange(
    process: asyncio.subprocess.Process, preprocessing: Preprocessing, content: bytes
) -> tuple[dict[str, Any], bytes]:
    assert process.stdin is not None
    assert process.stdout is not None
    head = json.dumps({"preprocessing": preprocessing.to_dict(), "bytes": len(content)}).encode()
    process.stdin.write(head + b"\n" + content)
    await process.stdin.drain()
    line = await process.stdout.readline()
    if not line:
        raise EOFError
    told = json.loads(line)
    return told, await process.stdout.readexactly(told["bytes"])
