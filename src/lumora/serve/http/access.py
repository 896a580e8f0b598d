"""Who may ask for what."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection

from lumora.serve.http.refusals import RefusedError
from lumora.serve.http.settings import Settings, is_loopback

OPEN = frozenset({"/", "/docs", "/playground", "/openapi.json", "/v2/health/live", "/v2/health/ready"})
"""What is told to everyone: it says nothing of the bundles."""
ADMIN = "/admin/"


class Access:
    """Decides by the token, or without tokens by the name that this machine was called by."""

    def __init__(self, settings: Settings) -> None:
        self._admins = [_digest(token.encode()) for token in settings.admin_tokens]
        self._users = [_digest(token.encode()) for token in settings.tokens] + self._admins
        self._asks = bool(self._users)

    def check(self, path: str, authorization: bytes | None, host: bytes | None) -> None:
        """Raise unless a request with these headers may have what is at a path."""
        if not self._asks:
            # A page of somebody else's that a browser here has open reaches this machine, but by another name.
            if not is_loopback(_name_of((host or b"").decode("latin-1"))):
                raise RefusedError(403, "Without tokens the server answers to localhost and 127.0.0.1 only.")
            return
        if path in OPEN:
            return
        scheme, _, token = (authorization or b"").partition(b" ")
        given = _digest(token.strip())
        if scheme.lower() != b"bearer" or not _among(given, self._users):
            raise RefusedError(
                401, "Bring a token: Authorization: Bearer …", {"WWW-Authenticate": 'Bearer realm="lumora"'}
            )
        if path.startswith(ADMIN) and not _among(given, self._admins):
            raise RefusedError(403, "This token may not add or remove bundles.")


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
