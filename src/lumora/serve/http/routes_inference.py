"""The routes of the Open Inference Protocol, version 2."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib.metadata import version as installed
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from lumora.serve.hosting.hosted import Hosted
from lumora.serve.hosting.loading import Description
from lumora.serve.http.batching import Answer
from lumora.serve.http.bodies import apart, body_of, json_in
from lumora.serve.http.descriptions import REFUSALS
from lumora.serve.http.refusals import RefusedError, unknown
from lumora.serve.http.serving import Serving, loaded, written
from lumora.serve.http.tensors import asked_in, metadata, outputs_of, pictures_in, wanted_of

Said = TypeVar("Said", Hosted, Hosted | Description)

_BINARY = "inference-header-content-length"
"""How much of a body is JSON; tensors as they lie in memory follow it."""
_PREFIX: dict[str, Any] = {"prefix": "/v2", "tags": ["Open Inference Protocol"], "responses": REFUSALS}
_INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/InferenceRequest"}}},
    }
}


def server_routes() -> APIRouter:
    """Those about the server itself."""
    router = APIRouter(**_PREFIX)

    @router.get("/health/live")
    async def live() -> dict[str, bool]:
        """Whether the server runs."""
        return {"live": True}

    @router.get("/health/ready")
    async def ready(request: Request, response: Response) -> dict[str, bool]:
        """Whether it takes requests; no more once it was told to end."""
        draining = request.app.state.gate.draining
        response.status_code = 503 if draining else 200
        return {"ready": not draining}

    @router.get("")
    async def server() -> dict[str, Any]:
        """What the server is."""
        return {"name": "lumora", "version": installed("lumora"), "extensions": []}

    return router


def model_routes(serving: Serving) -> APIRouter:
    """Those about its models, which are the bundles."""
    router = APIRouter(**_PREFIX)

    @router.get("/models/{name}")
    @router.get("/models/{name}/versions/{version}")
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        """What a bundle takes and gives."""
        return metadata(_of_version(await serving.described(name), version))

    @router.get("/models/{name}/ready")
    @router.get("/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, response: Response, version: str | None = None) -> dict[str, Any]:
        """Whether a bundle can be asked: it is loaded, or is going to be for the first who asks.

        One that could not be loaded is not ready until it can be, which is tried again from now on.
        """
        if version is not None:
            _of_version(await serving.described(name), version)
        else:
            await serving.check_known(name)
        ready = serving.pool.here(name) is not None or not serving.pool.failed(name)
        if not ready:
            again = asyncio.ensure_future(loaded(await serving.coming(name)))  # which tells the log if it still cannot
            again.add_done_callback(lambda done: done.cancelled() or done.exception())
        response.status_code = 200 if ready else 503
        return {"name": name, "ready": ready}

    @router.post("/models/{name}/infer", openapi_extra=_INFER_BODY)
    @router.post("/models/{name}/versions/{version}/infer", openapi_extra=_INFER_BODY)
    async def infer(request: Request, name: str, version: str | None = None) -> dict[str, Any]:
        """A bundle's predictions of one or several pictures."""
        _check_no_binary(request)
        hosted = _of_version(await serving.hosted(name), version)
        most = serving.settings.queue
        asked = asked_in(await json_in(request, most))
        wanted = wanted_of(asked, hosted)
        pictures = await apart(len(await body_of(request)), lambda: pictures_in(asked, most))
        with serving.room.taken(len(pictures) - 1):
            answers = await _all(serving, request, hosted, pictures)
        outputs = await written(hosted, partial(outputs_of, answers, hosted))
        answer: dict[str, Any] = {"model_name": hosted.name, "model_version": hosted.version}
        if asked.id is not None:
            answer["id"] = asked.id
        return {**answer, "outputs": [outputs[name] for name in wanted]}

    return router


async def _all(serving: Serving, request: Request, hosted: Hosted, pictures: list[bytes]) -> list[Answer]:
    """The answers for all pictures; nothing more is computed once one of them has none."""
    tasks = [asyncio.create_task(serving.answer(request, hosted, picture)) for picture in pictures]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


def _check_no_binary(request: Request) -> None:
    if _BINARY in request.headers:
        raise RefusedError(
            415,
            "Binary tensors are not taken. Send all of the request as JSON, the pictures in base64; with tritonclient, "
            "set_data_from_numpy(pictures, binary_data=False).",
        )


def _of_version(hosted: Said, version: str | None) -> Said:
    if version is not None and version != hosted.version:
        raise unknown(f"The bundle {hosted.name!r} is here in version {hosted.version} only.")
    return hosted
