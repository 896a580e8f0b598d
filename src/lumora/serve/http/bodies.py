"""Pictures in the bodies of requests: as they are, in forms, in JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from typing import Any, TypeVar

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from lumora.serve.http.refusals import RefusedError, gone, malformed

_FIELD = "image"
_NESTED = "The JSON is nested too deeply."
_PARTS = 10_000
"""Commas and opening brackets in JSON: many more than a request has, and few enough for all that is done with them."""
_LARGE = 1 << 20
"""Bytes that take long enough to let others be answered meanwhile."""

Result = TypeVar("Result")


async def picture_in(request: Request) -> bytes:
    """The encoded picture in a request: its body, the file `image` of a form, or base64 in JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _of_form(request)
    if kind == "application/json":
        content = await json_in(request)
        text = content.get(_FIELD)
        return await apart(len(text) if isinstance(text, str) else 0, lambda: decoded(text, _FIELD))
    if kind.startswith("image/") or kind == "application/octet-stream":
        return await body_of(request)
    raise RefusedError(
        415,
        'Send the picture as the file "image" of a multipart/form-data form, as base64 in JSON ({"image": "…"}), or as '
        "the body with its own type (image/jpeg …).",
    )


async def json_in(request: Request, most: int = 0) -> dict[str, Any]:
    """The JSON object that a body is.

    Args:
        request: whose.
        most: how many values it may have beside those that every request has.
    """
    body = await body_of(request)
    return await apart(len(body), lambda: _object(body, _PARTS + most))


async def apart(size: int, work: Callable[[], Result]) -> Result:
    """What a function gives; it runs in a thread of its own if it has so much to read that others would wait."""
    return await asyncio.to_thread(work) if size > _LARGE else work()


def _object(body: bytes, most: int) -> dict[str, Any]:
    # Counted before it is parsed: millions of empty lists take a hundred times the memory of their text.
    if sum(map(body.count, (b",", b"[", b"{"))) > most:
        raise malformed(f"The JSON has more than {most:,} values.")
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise malformed(_NESTED) from error
    except ValueError as error:
        raise malformed(f"The body is not JSON: {str(error).partition(chr(10))[0]}.") from error
    if not isinstance(content, dict):
        raise malformed("The body should be a JSON object.")
    return content


async def body_of(request: Request) -> bytes:
    """All of a body."""
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise gone() from error


def decoded(text: Any, where: str) -> bytes:
    """The bytes that a base64 text stands for."""
    if not isinstance(text, str):
        raise malformed(f'"{where}" should be a picture as base64 text.')
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise malformed(f'"{where}" is not base64: {error}.') from error


async def _of_form(request: Request) -> bytes:
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=8)
    parser.spool_max_size = 1 << 62  # no file of a request is written to a disk, not even for a moment
    try:
        form: FormData = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise malformed(f"The form cannot be read: {getattr(error, 'message', error)}") from error
    except (KeyError, UnicodeError, ValueError, AssertionError) as error:  # of headers that no program writes
        raise malformed("The form cannot be read.") from error
    except ClientDisconnect as error:
        raise gone() from error
    try:
        found = form.get(_FIELD)
        if not isinstance(found, UploadFile):
            raise malformed(f'The form should have a file "{_FIELD}".')
        return await found.read()
    finally:
        await form.close()
