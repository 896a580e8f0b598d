"""Logs as lines of JSON, each with its request's id."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from contextvars import ContextVar
from typing import Any

LOG = logging.getLogger("lumora.serve")

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
request_id: ContextVar[str | None] = ContextVar("lumora_request_id", default=None)
"""The id of the request that is being answered."""


def id_for(given: str | None) -> str:
    r"""The id that a client gave its request if it looks like one, or a new one.

    >>> id_for("checkout-17"), len(id_for("line\nbreak"))
    ('checkout-17', 32)
    """
    return given if given is not None and _ID.fullmatch(given) else uuid.uuid4().hex


class JsonLines(logging.Formatter):
    """One JSON object on a line for each record; `extra={"fields": {…}}` adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        values: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if (known := request_id.get()) is not None:
            values["request_id"] = known
        values |= getattr(record, "fields", {})
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values, ensure_ascii=False, default=str)


def set_up() -> None:
    """Let the server, uvicorn and whatever else has something to say write such lines to the standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("lumora.serve", "uvicorn"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # forms that are none are clients' mistakes
    logging.getLogger("uvicorn.access").disabled = True  # a line of ours says more
