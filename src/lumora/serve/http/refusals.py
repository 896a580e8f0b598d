"""Requests that are not answered as they wish: each with its status and its reason."""

from __future__ import annotations

from collections.abc import Mapping


class RefusedError(Exception):
    """Ends a request with a status, and says why."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


def malformed(reason: str) -> RefusedError:
    """What was sent is not what is expected."""
    return RefusedError(400, reason)


def too_large(reason: str) -> RefusedError:
    """The body, or the picture in it, is larger than is allowed."""
    return RefusedError(413, reason, {"Connection": "close"})


def undecodable(reason: str) -> RefusedError:
    """The picture is damaged, or none."""
    return RefusedError(422, reason)


def unknown(reason: str) -> RefusedError:
    """There is nothing of this name."""
    return RefusedError(404, reason)


def busy(seconds: float) -> RefusedError:
    """The queue is full."""
    wait = max(1, round(seconds))
    return RefusedError(
        429,
        f"The queue is full; come again in about {wait} seconds.",
        {"Retry-After": str(wait), "Connection": "close"},
    )


def loading() -> RefusedError:
    """Too many wait for bundles that are being loaded."""
    return RefusedError(
        503,
        "Too many requests wait for bundles that are being loaded; come again in a few seconds.",
        {"Retry-After": "5", "Connection": "close"},
    )


def gone() -> RefusedError:
    """Nobody waits for the answer any more. The log alone sees this status, which proxies have for it as well."""
    return RefusedError(499, "The client has gone.")


def late(seconds: float) -> RefusedError:
    """The deadline has passed."""
    return RefusedError(504, f"No answer was ready within {seconds:g} seconds; the request was given up.")
