"""Who may speak with the page, and with whom the page may speak: this machine alone.

The page reads folders and starts trainings for whoever asks. It listens on 127.0.0.1 only; but any website that is open
in the same browser could ask as well, or could give itself a name that leads to 127.0.0.1. So requests must be for this
very address, and must come from this very page; other pages may lead to its beginning, and to nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_POLICY = "; ".join(
    (
        # Gradio's page has scripts and styles of its own inside, and makes templates into functions.
        "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
        "object-src 'none'",
    )
)
"""What the browser may load and send: nothing that is not from here."""
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class LocalOnly:
    """Refuses requests for other names and from other pages, and tells the browser to load nothing from elsewhere.

    Args:
        app: what answers all other requests.
        port: where it listens.
    """

    def __init__(self, app: App, port: int) -> None:
        self._app = app
        names = ("127.0.0.1", "localhost")
        self._hosts = {f"{name}:{port}".encode() for name in names}
        if port == 80:  # browsers leave it out
            self._hosts |= {name.encode() for name in names}
        self._origins = {b"http://" + host for host in self._hosts}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if headers.get(b"host") not in self._hosts or self._is_foreign(scope["path"], headers):
            await _refuse(scope, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await self._app(scope, receive, with_policy)

    def _is_foreign(self, path: str, headers: dict[bytes, bytes]) -> bool:
        """Whether another page asks. Browsers name no origin where a picture is loaded or a link is followed."""
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", b"none")
        if origin is not None and origin not in self._origins:
            return True
        return site not in (b"none", b"same-origin") and path != "/"


async def _refuse(scope: Message, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    text = b"This page answers requests for its own address only, from itself. Open it as http://127.0.0.1:PORT.\n"
    await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": text})
