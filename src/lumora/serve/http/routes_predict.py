"""The friendly routes: what there is, and `POST /predict/{adapter}`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from lumora.serve.http.answers import MaskForm, as_json
from lumora.serve.http.bodies import picture_in
from lumora.serve.http.descriptions import PREDICT_BODY, REFUSALS
from lumora.serve.http.serving import Serving, written


def routes(serving: Serving) -> APIRouter:
    """Them."""
    router = APIRouter(tags=["predictions"], responses=REFUSALS)

    @router.get("/bundles")
    async def bundles() -> dict[str, Any]:
        """The bundles that can be asked for; of those that are loaded, what they say."""
        loaded = {hosted.name: hosted for hosted in serving.pool.loaded}
        listed: list[dict[str, Any]] = []
        for name in serving.pool.names:
            entry: dict[str, Any] = {"name": name, "loaded": name in loaded}
            if (hosted := loaded.get(name)) is not None:
                entry |= {
                    "version": hosted.version,
                    "task": hosted.about.task,
                    "labels": list(hosted.about.labels.names),
                    "bytes": hosted.bytes,
                    "shares_its_base": hosted.shared is not None,
                    "why_alone": hosted.why_alone,
                }
            listed.append(entry)
        return {"bundles": listed}

    @router.post("/predict/{adapter}", openapi_extra=PREDICT_BODY)
    async def predict(
        request: Request,
        adapter: str,
        mask: Annotated[MaskForm, Query(description="How a mask's pixels are given.")] = "png",
        top: Annotated[int, Query(ge=1, le=10_000, description="Probabilities of so many labels.")] = 5,
    ) -> dict[str, Any]:
        """What a bundle says of a picture: labels with probabilities, or a mask and the classes in it."""
        hosted = await serving.hosted(adapter)
        answer = await serving.answer(request, hosted, await picture_in(request))
        said = await written(hosted, lambda: as_json(answer.computed.prediction(), hosted, mask, top))
        return {"bundle": hosted.name, "version": hosted.version, "task": hosted.about.task, **said}

    return router
