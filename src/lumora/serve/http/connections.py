"""Connections: how many there are, and how long one may stay without a whole request."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from lumora.serve.http.logs import LOG

HEAD = 20.0
"""Seconds for a request's headers, from the connection or from their first byte."""
KEPT = 75
"""Seconds that a connection stays open without requests: longer than proxies keep theirs (usually a minute), so that
they are the ones who close, and send nothing into a connection that has just gone."""
_OTHER_FILES = 96
"""Files that are kept for all but connections: bundles that are loaded, decoders, logs, and connections that the system
has taken and we have not seen yet."""
_LEAST, _MOST = 16, 4096
_SAYS = b'{"error":"There are too many connections; come again in a moment.","request_id":null}'
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nRetry-After: 1\r\n"
    b"Connection: close\r\n\r\n%s"
) % (len(_SAYS), _SAYS)
_QUIET = 60.0
"""Seconds without another line in the log about connections that had to go."""


def most_connections() -> int:
    """As many as there are files for, once the server has what it needs itself."""
    if sys.platform == "win32":
        return _MOST
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if files == resource.RLIM_INFINITY else max(_LEAST, min(_MOST, files - _OTHER_FILES))


class Connections:
    """All connections of a server, of which there are never more than a number.

    Args:
        most: that number.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.closed = 0
        """How many were closed so far, because no whole request came or to make room for others."""
        self._all: set[Connection] = set()
        self._told = -_QUIET

    def let_in(self, one: Connection) -> bool:
        """Take a connection, in the place of the one that says nothing for the longest time if there are too many.

        False if all others are being answered.
        """
        if len(self._all) >= self.most:
            silent = [other for other in self._all if other.waits_since is not None]
            if not silent:
                self._tell("a connection is refused: there are too many that are being answered")
                return False
            # Those with half a request first: whoever was answered once may be a proxy, which is about to ask again.
            self.end(min(silent, key=lambda other: (other.is_answered, other.waits_since)))
            self._tell("connections are closed: there are too many, and nothing comes over them")
        self._all.add(one)
        return True

    def end(self, one: Connection) -> None:
        """Close a connection over which nothing is being answered."""
        self._all.discard(one)
        self.closed += 1
        one.transport.abort()

    def gone(self, one: Connection) -> None:
        """It is closed."""
        self._all.discard(one)

    def _tell(self, words: str) -> None:
        if time.monotonic() - self._told >= _QUIET:
            self._told = time.monotonic()
            LOG.warning(words, extra={"fields": {"most": self.most, "closed": self.closed}})


_Base: Any = H11Protocol  # and not httptools' where that is installed: it takes headers of any size


class Connection(_Base):
    """One connection: what it says is uvicorn's to read; how long it may say nothing is decided here."""

    def __init__(self, connections: Connections, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections = connections
        self._timer: asyncio.TimerHandle | None = None
        self._half_said = False
        self.waits_since: float | None = None
        """Since when there is nothing to answer; None while something is being answered."""

    @property
    def is_answered(self) -> bool:
        """Whether something was answered, and nothing was said since."""
        return self.cycle is not None and not self._half_said

    def connection_made(self, transport: Any) -> None:
        """Begin to listen, or say that there is no room."""
        super().connection_made(transport)
        if not self._connections.let_in(self):
            transport.write(_FULL)
            transport.close()
            return
        self._wait(HEAD)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        if not self._waits():
            self._wait_no_more()
        elif not self._half_said:  # what follows is no reason to wait longer
            self._half_said = True
            self._wait(HEAD)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._waits():  # and does not answer the next already
            self._half_said = False
            self._wait(KEPT + HEAD)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._wait_no_more()
        self._connections.gone(self)
        super().connection_lost(exc)

    def _waits(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _wait(self, seconds: float) -> None:
        self._wait_no_more()
        self.waits_since = time.monotonic()
        self._timer = self.loop.call_later(seconds, self._overdue, self.transport.get_write_buffer_size())

    def _wait_no_more(self) -> None:
        self.waits_since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _overdue(self, unread: int) -> None:
        if 0 < self.transport.get_write_buffer_size() < unread:  # the answer is still being read
            self._wait(HEAD)
        else:
            self._connections.end(self)
