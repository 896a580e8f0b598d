"""What a decoded sample is known by: its encoded content, and what was done to it."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cache
from importlib.metadata import version

from lumora.data.content import Content, InArchive
from lumora.data.sample import Sample, StoredSample
from lumora.data.transforms import Transform


def fingerprint(sample: Sample, fixed: tuple[Transform, ...]) -> str | None:
    """32 hexadecimal digits, other ones when the content, its meaning or the transforms change; None if unknown.

    A file is known by its path, size and time of change, and is not read; what lies in a table, by its bytes. A sample
    of one's own class can have an attribute `fingerprint`, a text that changes whenever its pixels do.
    """
    if isinstance(sample, StoredSample):
        try:
            mask = "" if sample.mask_content is None else f"{_of(sample.mask_content)} {sample.coding!r}"
            content = f"{_of(sample.content)} {mask}"
        except OSError:  # it is gone; reading it tells what to do
            return None
    else:
        content = getattr(sample, "fingerprint", None)
        if content is None:
            return None
    steps = [f"{type(step).__module__}.{step!r}" for step in fixed]
    text = "\0".join([str(content), *steps, *_decoders()])
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def is_known(step: Transform) -> bool:
    """Whether a step's text tells all about it, in every process: an object's address would not."""
    return dataclasses.is_dataclass(step) and " at 0x" not in repr(step)


def _of(content: Content) -> str:
    if isinstance(content, InArchive):
        status = content.archive.stat()
        place = f"{content.archive.absolute()} {content.offset} {content.length}"
    elif content.path is not None:
        status = content.path.stat()
        place = str(content.path.absolute())
    else:
        return hashlib.blake2b(content.read(), digest_size=16).hexdigest()
    return f"{place} {status.st_size} {status.st_mtime_ns}"


@cache
def _decoders() -> tuple[str, ...]:
    """Another version may round differently."""
    return tuple(f"{name} {version(name)}" for name in ("lumora", "pillow", "torch", "torchvision"))
