"""Who may ask for what."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping

from lumora.serve.http.refusals import RefusedError
from lumora.serve.http.settings import Settings, is_loopback

PAGES = frozenset({"/", "/docs", "/playground"})
"""What pages of others may lead to."""
OPEN = PAGES | {"/openapi.json", "/v2/health/live", "/v2/health/ready"}
"""What is told to everyone: it says nothing of the bundles."""
ADMIN = "/admin/"


class Access:
    """Decides by the token, or without tokens by the name that this machine was called by and the page that asks."""

    def __init__(self, settings: Settings) -> None:
        self._admins = [_digest(token.encode()) for token in settings.admin_tokens]
        self._users = [_digest(token.encode()) for token in settings.tokens] + self._admins
        self._asks = bool(self._users)

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise unless a request with these headers, whose names are in small letters, may have what is at a path."""
        if not self._asks:
            _check_local(path, headers)
            return
        if path in OPEN:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = _digest(token.encode("latin-1").strip())  # the bytes that were sent
        if scheme.lower() != "bearer" or not _among(given, self._users):
            raise RefusedError(
                401, "Bring a token: Authorization: Bearer …", {"WWW-Authenticate": 'Bearer realm="lumora"'}
            )
        if path.startswith(ADMIN) and not _among(given, self._admins):
            raise RefusedError(403, "This token may not add or remove bundles.")


def _check_local(path: str, headers: Mapping[str, str]) -> None:
    """Raise if a page of somebody else's asks, which a browser on this machine has open."""
    host, origin = headers.get("host", ""), headers.get("origin")
    if not is_loopback(_name_of(host)):  # by which such a page may reach this machine
        raise RefusedError(403, "Without tokens the server answers to localhost and 127.0.0.1 only.")
    own = headers.get("sec-fetch-site", "none") in ("none", "same-origin") or path in PAGES
    if not own or origin not in (None, f"http://{host}"):
        raise RefusedError(403, "Without tokens the server answers no page but its own.")


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _among(given: bytes, known: Collection[bytes]) -> bool:
    """Whether a digest is among others; takes the same time wherever it is, and if it is not."""
    found = False
    for one in known:
        found |= hmac.compare_digest(given, one)
    return found


def _name_of(host: str) -> str:
    """The host without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
