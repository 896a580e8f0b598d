"""Adding and removing bundles while the server runs."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumora.errors import AdapterError, BundleError, LumoraError, UnknownAdapterError
from lumora.serve.hosting.catalogue import checked, checked_repository
from lumora.serve.hosting.loading import Origin
from lumora.serve.hosting.pool import OvertakenError
from lumora.serve.http.bodies import body_of, json_in
from lumora.serve.http.descriptions import REFUSALS
from lumora.serve.http.logs import LOG
from lumora.serve.http.refusals import RefusedError, malformed, too_large, undecodable, unknown
from lumora.serve.http.serving import Serving, told


class Added(BaseModel):
    """Where a bundle comes from: a repository on the Hub; if none is named, from where it is known to lie."""

    model_config = ConfigDict(extra="forbid", strict=True)
    repository: str | None = Field(default=None, max_length=200)
    revision: str | None = Field(default=None, max_length=200, pattern=r"^[A-Za-z0-9][\w.-]*$")


_MOST = 10_000
"""Bytes of a body."""
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Added"}}},
    }
}


def routes(serving: Serving) -> APIRouter:
    """Them."""
    router = APIRouter(prefix="/admin", tags=["administration"], responses=REFUSALS)

    @router.put("/bundles/{name}", openapi_extra=_BODY)
    async def add(request: Request, name: str) -> dict[str, Any]:
        """Load a bundle and let it be asked for, in the place of the one that has this name, if any.

        Without a body, it is the bundle of this name in the folders that are served, or else where it came from
        before: as it is there now.
        """
        origin = _origin(serving, name, await _wish(request))
        try:
            hosted = await asyncio.wrap_future(serving.pool.add_later(name, origin))
        except UnknownAdapterError as error:
            raise unknown(str(error)) from error
        except OvertakenError as error:
            raise RefusedError(409, str(error)) from error
        except LumoraError as error:
            LOG.error("a bundle cannot be added", extra={"fields": {"bundle": name, "reason": str(error)}})
            raise undecodable("This bundle cannot be loaded; the server's log says why.") from error
        told(request, bundle=hosted.name)
        return {"name": hosted.name, "version": hosted.version, "bytes": hosted.bytes, "why_alone": hosted.why_alone}

    @router.delete("/bundles/{name}")
    async def remove(request: Request, name: str) -> dict[str, Any]:
        """Let a bundle no longer be asked for; requests that wait for it are still answered."""
        try:
            serving.pool.remove(name)
        except UnknownAdapterError as error:
            raise unknown(str(error)) from error
        told(request, bundle=name)
        return {"name": name, "removed": True}

    return router


async def _wish(request: Request) -> Added:
    body = await body_of(request)
    if not body:
        return Added()
    if len(body) > _MOST:
        raise too_large(f"The body is larger than {_MOST:,} bytes; it names a repository.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(415, "The body should be JSON (Content-Type: application/json).")
    try:
        return Added.model_validate(await json_in(request))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise malformed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def _origin(serving: Serving, name: str, wish: Added) -> Origin | None:
    """Where to look on the Hub; None for where the bundle is known to lie. Never a path from a request."""
    try:
        checked(name)
        if wish.repository is None:
            return None
        if not serving.settings.hub:
            raise RefusedError(403, "Bundles are not added from the Hub here (lumora serve --hub allows it).")
        return Origin(repository=checked_repository(wish.repository), revision=wish.revision)
    except (AdapterError, BundleError) as error:
        raise malformed(str(error)) from error
