"""What every request goes through before anything is read of it: its id, who asks, whether there is room, how much."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lumora.serve.http.access import ADMIN, Access
from lumora.serve.http.batching import Batcher
from lumora.serve.http.logs import LOG, id_for, request_id
from lumora.serve.http.metrics import Metrics
from lumora.serve.http.refusals import RefusedError, busy, gone, late, loading, malformed, too_large
from lumora.serve.http.settings import Settings

DEADLINE = "x-deadline-ms"
_LATE = 504
_LISTENING = 2.0
_MOST_HEARD = 1 << 26
"""Seconds and bytes for which a client that is refused is listened to."""


class Room:
    """How many pictures are accepted and not answered yet.

    Those whose bundle is being loaded are counted apart, and a quarter as many may be: they are not to keep others out.
    Who asks about a bundle whose description has to be read is one of these.
    """

    def __init__(self, most: int, batcher: Batcher, metrics: Metrics) -> None:
        self._most, self._batcher, self._gauges = most, batcher, metrics.gauges
        self._most_loading = max(1, most // 4)

    @contextmanager
    def taken(self, count: int = 1) -> Generator[None]:
        """Inside, there is room for so many more pictures; refused if there is none."""
        if count and self._gauges.accepted + count > self._most:
            raise busy(self._gauges.accepted * self._batcher.seconds)
        self._gauges.accepted += count
        try:
            yield
        finally:
            self._gauges.accepted -= count

    @contextmanager
    def left(self) -> Generator[None]:
        """Inside, a picture that has room waits for its bundle to be loaded; refused if too many do.

        Afterwards it has room again, though there may be more than the most for a moment: it was accepted before.
        """
        with self.waiting():
            self._gauges.accepted -= 1
            try:
                yield
            finally:
                self._gauges.accepted += 1

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Inside, a request waits for files of a bundle; refused if too many do."""
        if self._gauges.loading >= self._most_loading:
            raise loading()
        self._gauges.loading += 1
        try:
            yield
        finally:
            self._gauges.loading -= 1


class Gate:
    """The outermost part of the server.

    Args:
        app: what is inside.
        settings: the limits.
        access: decides who is let in.
        room: for pictures.
        metrics: count every request, those that are refused here among them.
        routes: by which they are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        access: Access,
        room: Room,
        metrics: Metrics,
        routes: Sequence[BaseRoute] = (),
    ) -> None:
        self._app, self._settings, self._access, self._room, self._metrics = app, settings, access, room, metrics
        self._routes = routes
        self.draining = False
        """Whether the server is about to end; connections are not kept then."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        headers = Headers(scope=scope)
        own_id = id_for(headers.get("x-request-id"))
        mark = request_id.set(own_id)
        told: dict[str, Any] = {"status": 500, "started": False}
        heard = asyncio.Event()

        async def hearing() -> Message:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                heard.set()
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                told["status"] = message["status"]
                if not heard.is_set() and message["status"] != _LATE:
                    await _let_speak(headers, hearing)
                added = MutableHeaders(scope=message)
                added["x-request-id"] = own_id
                added["x-content-type-options"] = "nosniff"
                if self.draining:
                    added["connection"] = "close"
            await send(message)
            told["started"] = True

        try:
            await self._answer(scope, headers, hearing, sending, heard)
        except Exception as error:
            refusal = _as_refusal(error)
            if not told["started"]:  # else the answer ends where it is
                await _refuse(refusal, own_id, scope, hearing, sending)
        finally:
            self._told(scope, int(told["status"]), time.monotonic() - began)
            request_id.reset(mark)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send, heard: asyncio.Event) -> None:
        self._access.check(scope["path"], headers)
        deadline = self._deadline(headers)
        self._check_length(headers)
        limited = _limited(receive, self._settings.max_body)
        if scope["method"] == "PUT" and scope["path"].startswith(ADMIN):  # loading takes as long as it takes
            await self._app(scope, limited, send)
            return
        with self._room.taken() if _predicts(scope) else contextlib.nullcontext():
            await self._within(deadline, scope, limited, send, heard)

    async def _within(self, deadline: float, scope: Scope, receive: Receive, send: Send, heard: asyncio.Event) -> None:
        """Answer before the deadline, and only as long as there is somebody who waits."""
        alone = asyncio.Event()

        async def watch(limit: asyncio.Timeout) -> None:
            await heard.wait()
            if (await receive())["type"] == "http.disconnect":
                alone.set()
                limit.reschedule(0.0)

        try:
            async with asyncio.timeout(deadline) as limit:
                watching = asyncio.create_task(watch(limit))
                try:
                    await self._app(scope, receive, send)
                finally:
                    watching.cancel()
        except TimeoutError as error:
            raise (gone() if alone.is_set() else late(deadline)) from error

    def _deadline(self, headers: Headers) -> float:
        given = headers.get(DEADLINE)
        if given is None:
            return self._settings.deadline
        if not (given.isascii() and given.isdigit() and len(given) < 10 and int(given) > 0):
            raise malformed(f"{DEADLINE} is a whole number of milliseconds above 0.")
        return min(int(given) / 1000, self._settings.deadline)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self._settings.max_body:
            raise too_large(_larger(self._settings.max_body))

    def _told(self, scope: Scope, status: int, seconds: float) -> None:
        matching = (route for route in self._routes if route.matches(scope)[0] is not Match.NONE)
        route = getattr(next(matching, None), "path", "other")  # its pattern: names of all sorts are not counted apart
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        fields = {
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(1000 * seconds, 1),
            **scope.get("lumora.told", {}),
        }
        LOG.info("request", extra={"fields": fields})


def _predicts(scope: Scope) -> bool:
    path: str = scope["path"]
    return scope["method"] == "POST" and (path.startswith("/predict/") or path.endswith("/infer"))


def _limited(receive: Receive, most: int) -> Receive:
    """The same body, refused as soon as it is larger than allowed."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise too_large(_larger(most))
        return message

    return limited


def _larger(most: int) -> str:
    return f"The body is larger than {most:,} bytes, the most that is taken."


def _as_refusal(error: Exception) -> RefusedError:
    """What is told of an error: of one that nobody meant, only that the log says more."""
    if isinstance(error, RefusedError):
        return error
    LOG.error("a request failed", exc_info=error)
    return RefusedError(500, "The server failed; its log says why.")


async def _refuse(error: RefusedError, own_id: str, scope: Scope, receive: Receive, send: Send) -> None:
    content = {"error": error.reason, "request_id": own_id}
    await JSONResponse(content, error.status, error.headers)(scope, receive, send)


async def _let_speak(headers: Headers, receive: Receive) -> None:
    """Take in what a client is still sending, within limits: most hear nothing before they have said all."""
    if headers.get("expect") is not None:
        return  # it asks before it sends
    got = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LISTENING):
            while got < _MOST_HEARD:
                message = await receive()
                got += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
