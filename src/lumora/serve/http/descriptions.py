"""What the OpenAPI page says of bodies and refusals, where FastAPI cannot see it."""

from __future__ import annotations

from typing import Any

_PICTURE = {"type": "string", "format": "binary"}

PREDICT_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["image"], "properties": {"image": _PICTURE}}
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "format": "byte", "description": "The picture's file in base64."}
                    },
                }
            },
            "image/jpeg": {"schema": _PICTURE},
            "image/png": {"schema": _PICTURE},
            "image/webp": {"schema": _PICTURE},
        },
    }
}

_ERROR = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["error", "request_id"],
            "properties": {"error": {"type": "string"}, "request_id": {"type": "string"}},
        }
    }
}
_WORDS = {
    400: "What was sent is not what is expected.",
    401: "There is no token, or a wrong one.",
    403: "The token is not enough for this; or, without tokens, another name or the page of another asks.",
    404: "There is no bundle of this name, or none of this version.",
    405: "This cannot be done with what is at this address.",
    409: "While the bundle was being loaded, a later request has put another one in its place, or removed it.",
    413: "The body, or the picture, is too large.",
    415: "The body, or the picture, is of a kind that is not taken.",
    422: "The picture cannot be decoded.",
    429: "The queue is full; the header Retry-After says when to come again.",
    503: "The bundle cannot be loaded now, or too many requests wait for bundles that are being loaded.",
    504: "No answer was ready before the deadline.",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": _ERROR} for status, words in _WORDS.items()
}
