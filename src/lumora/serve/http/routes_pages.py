"""Pages for people, which fetch nothing from elsewhere, and Prometheus' page."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse, RedirectResponse, Response

from lumora.serve.http.serving import Serving

_PAGES = Path(__file__).with_name("pages")
_SAFE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


def routes(serving: Serving) -> APIRouter:
    """Them."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    async def start() -> Response:
        return RedirectResponse("/playground")

    @router.get("/playground")
    async def playground() -> Response:
        return HTMLResponse(_page("playground.html"), headers=_SAFE)

    @router.get("/docs")
    async def docs() -> Response:
        return HTMLResponse(_page("docs.html"), headers=_SAFE)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(serving.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


@cache
def _page(name: str) -> str:
    """One of the pages, with the style that they share."""
    style = (_PAGES / "style.css").read_text(encoding="utf-8")
    return (_PAGES / name).read_text(encoding="utf-8").replace("/* style.css */", style)
