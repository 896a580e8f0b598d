"""What answering needs, in one place; and a prediction from a request's bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from lumora.errors import LumoraError, UnknownAdapterError
from lumora.serve.hosting.hosted import Hosted
from lumora.serve.hosting.loading import Description
from lumora.serve.hosting.pool import Pool
from lumora.serve.http.batching import Answer, Batcher
from lumora.serve.http.decoding import Decoders
from lumora.serve.http.gate import Room
from lumora.serve.http.logs import LOG
from lumora.serve.http.metrics import Metrics
from lumora.serve.http.refusals import RefusedError, unknown
from lumora.serve.http.settings import Settings


@dataclass(frozen=True, eq=False)
class Serving:
    """The parts of a running server."""

    settings: Settings
    pool: Pool
    batcher: Batcher
    decoders: Decoders
    metrics: Metrics
    room: Room

    async def coming(self, name: str) -> Future[Hosted]:
        """The bundle of a name, which is loaded from now on if it is not yet."""
        if (known := self.pool.fetch_known(name)) is not None:
            return known
        try:
            return await asyncio.wrap_future(self.pool.fetch_later(name))
        except UnknownAdapterError as error:
            raise unknown(str(error)) from error

    async def hosted(self, name: str) -> Hosted:
        """The bundle of a name for a picture that has room; it takes none while the bundle is being loaded."""
        future = await self.coming(name)
        if future.done():
            return await loaded(future)
        with self.room.left():
            return await loaded(future)

    async def described(self, name: str) -> Hosted | Description:
        """What there is to say of the bundle of a name, which is not loaded for it."""
        if (hosted := self.pool.here(name)) is not None:
            return hosted
        with self.room.waiting():
            try:
                return await asyncio.wrap_future(self.pool.describe_later(name))
            except UnknownAdapterError as error:
                raise unknown(str(error)) from error
            except LumoraError as error:
                LOG.error("a bundle cannot be read", extra={"fields": {"bundle": name, "reason": str(error)}})
                raise RefusedError(503, "This bundle cannot be read now; the server's log says why.") from error

    async def check_known(self, name: str) -> None:
        """Refuse a name that no bundle has."""
        if not self.pool.knows(name):
            with self.room.waiting():
                try:
                    await asyncio.wrap_future(self.pool.find_later(name))
                except UnknownAdapterError as error:
                    raise unknown(str(error)) from error

    async def answer(self, request: Request, hosted: Hosted, content: bytes) -> Answer:
        """What a bundle says of an encoded picture."""
        began = time.monotonic()
        seen = await self.decoders.seen(hosted, content)
        decoded = time.monotonic() - began
        waiting = self.batcher.submit(seen)
        answer = await asyncio.wrap_future(waiting)  # which takes it out of the queue when this is cancelled
        self.metrics.pictures.labels(hosted.name).inc()
        told(
            request,
            bundle=hosted.name,
            batch=answer.batch,
            bundles=answer.bundles,
            decode_ms=_ms(decoded),
            queue_ms=_ms(answer.waited),
            compute_ms=_ms(answer.seconds),
        )
        return answer


async def written(hosted: Hosted, write: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a function makes of what a bundle computed; masks, which may be large, while others are answered."""
    return await asyncio.to_thread(write) if hosted.about.task == "segmentation" else write()


def told(request: Request, **fields: Any) -> None:
    """Let the request's line in the log say more."""
    request.scope.setdefault("lumora.told", {}).update(fields)


async def loaded(future: Future[Hosted]) -> Hosted:
    """A bundle that is being loaded; that it cannot be is the server's fault, and its reason is not for everyone.

    A load that somebody no longer waits for goes on: others may wait for it too.
    """
    try:
        return await asyncio.shield(asyncio.wrap_future(future))
    except LumoraError as error:
        LOG.error("a bundle cannot be loaded", extra={"fields": {"reason": str(error)}})
        raise RefusedError(503, "This bundle cannot be loaded now; the server's log says why.") from error


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
