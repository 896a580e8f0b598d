"""The process that decodes pictures: whatever a picture does to a decoder, the server goes on.

`python -m lumora.serve.http.decoder PIXELS` reads from its standard input, for each picture, a line of JSON
(`{"preprocessing": …, "bytes": n}`) and the picture's bytes; it writes a line of JSON and what the model is to see.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

from lumora.data.reading import Limits, read_picture
from lumora.errors import LumoraError, TooLargeError
from lumora.models.preprocessing import Preprocessing

_ROOM = 1 << 30
"""Bytes that may be taken beyond what the largest picture takes."""
_PER_PIXEL = 24
"""Bytes that decoding and resizing take at most."""


def answer(preprocessing: Preprocessing, content: bytes, limits: Limits) -> tuple[dict[str, Any], bytes]:
    """What is said of a picture, and what the model sees of it."""
    try:
        picture = read_picture(content, limits=limits)
        framed = preprocessing.framed(picture).contiguous()
    except TooLargeError:
        return {"refused": f"The picture has more than {limits.pixels:,} pixels.", "status": 413}, b""
    except (LumoraError, MemoryError, RuntimeError, ValueError, OverflowError) as error:
        known = isinstance(error, LumoraError)
        reason = str(error).replace("the given bytes", "The picture") if known else "The picture cannot be decoded."
        return {"refused": reason, "status": 422}, b""
    size = list(picture.shape[1:])
    return {"size": size, "shape": list(framed.shape)}, framed.numpy().tobytes()


def serve(reading: BinaryIO, writing: BinaryIO, limits: Limits) -> None:
    """Answer until nobody asks any more."""
    known: dict[str, Preprocessing] = {}
    while line := reading.readline():
        asked = json.loads(line)
        key = json.dumps(asked["preprocessing"], sort_keys=True)
        preprocessing = known.setdefault(key, Preprocessing.from_dict(asked["preprocessing"]))
        told, pixels = answer(preprocessing, reading.read(asked["bytes"]), limits)
        writing.write(json.dumps({**told, "bytes": len(pixels)}).encode() + b"\n" + pixels)
        writing.flush()


def _limit_memory(pixels: int) -> None:
    """Let a picture that takes more memory than it should fail, and not the machine; where the system can."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a file of the system
            now = int(file.read().split()[0]) * resource.getpagesize()
        limit = now + _ROOM + _PER_PIXEL * pixels
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _warm_up(preprocess: Callable[[Preprocessing, bytes, Limits], object]) -> None:
    """Import and try all that decoding needs, so that the first picture does not wait for it."""
    import io
    import warnings

    import torch
    from PIL import Image

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for kind in ("JPEG", "PNG", "WEBP"):
        file = io.BytesIO()
        Image.new("RGB", (16, 12)).save(file, kind)
        preprocess(Preprocessing(resize=(8, 8)), file.getvalue(), Limits())


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when this ends, not the terminal
    most = int(sys.argv[1])
    _warm_up(answer)
    _limit_memory(most)
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    serve(sys.stdin.buffer, sys.stdout.buffer, Limits(most))
