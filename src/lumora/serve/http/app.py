"""The server's parts put together."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from lumora.serve.hosting.pool import Pool
from lumora.serve.http import routes_admin, routes_inference, routes_pages, routes_predict
from lumora.serve.http.access import Access
from lumora.serve.http.batching import Batcher
from lumora.serve.http.decoding import Decoders
from lumora.serve.http.gate import Gate, Room
from lumora.serve.http.logs import LOG, request_id
from lumora.serve.http.metrics import Metrics
from lumora.serve.http.refusals import RefusedError
from lumora.serve.http.routes_admin import Added
from lumora.serve.http.serving import Serving
from lumora.serve.http.settings import Settings
from lumora.serve.http.tensors import InferenceRequest

_ABOUT = "Many bundles over one base: labels and masks of pictures."


def build(pool: Pool, settings: Settings) -> Gate:
    """The server as an ASGI application."""
    metrics = Metrics(pool)
    batcher = Batcher(settings.max_batch, settings.max_wait, metrics.batch)
    room = Room(settings.queue, batcher, metrics)
    decoders = Decoders(settings)
    metrics.gauges.ended_decoders = lambda: decoders.ended
    serving = Serving(settings, pool, batcher, decoders, metrics, room)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncGenerator[None]:
        await decoders.start()
        LOG.info("ready", extra={"fields": {"bundles": len(pool.names), "device": str(pool.device)}})
        yield
        batcher.close()
        await decoders.stop()
        pool.close()
        LOG.info("ended")

    # The pages that FastAPI has for this come from a network.
    app = FastAPI(title="Lumora", description=_ABOUT, lifespan=life, docs_url=None, redoc_url=None)
    routers = [
        routes_predict.routes(serving),
        routes_inference.server_routes(),
        routes_inference.model_routes(serving),
        routes_admin.routes(serving),
        routes_pages.routes(serving),
    ]
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    app.openapi = lambda: _described(app)
    routes = [route for router in routers for route in router.routes]
    gate = Gate(app, settings, Access(settings), room, metrics, routes)
    app.state.gate = gate
    return gate


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the bodies that are read by hand."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=_ABOUT, routes=app.routes)
        parts: dict[str, Any] = schema.setdefault("components", {})
        schemas: dict[str, Any] = parts.setdefault("schemas", {})
        for model in (InferenceRequest, Added):
            described = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= {**described.pop("$defs", {}), model.__name__: described}
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema


def _answer(status: int, reason: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"error": reason, "request_id": request_id.get()}, status, headers)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)
    return _answer(error.status, error.reason, error.headers)


async def _not_found(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(error.status_code, f"{error.detail}.", error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _answer(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.")


async def _failed(_: Request, error: Exception) -> Response:
    return _answer(500, "The server failed; its log says why.")  # where the error itself goes
