"""The running server, from its first log line until all that it accepted is answered."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from lumora.errors import OutputError
from lumora.serve.hosting.pool import Pool
from lumora.serve.http.app import build
from lumora.serve.http.connections import KEPT, Connection, Connections, most_connections
from lumora.serve.http.gate import Gate
from lumora.serve.http.logs import LOG
from lumora.serve.http.settings import Settings

_BACKLOG = 1024
_AT_ONCE = 8
"""Connections that are taken from the system before those that are there are heard again, and counted."""
_HEARING = (0.2, 3.0)
"""Least and most seconds for requests to come over connections that were taken last."""
_PATIENCE = 5
"""Seconds beyond the deadline for answers that are on their way when the server is told to end."""


class Server(uvicorn.Server):
    """Goes on for a moment when it is told to end.

    Until then it says that it is not ready, and lets every connection end with its answer; what comes meanwhile is
    still answered. Then it takes no more connections, and ends when all that were taken have their answers.
    """

    def __init__(
        self, config: uvicorn.Config, gate: Gate, delay: float, begun: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self._gate, self._delay, self._begun = gate, delay, begun

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and tell so: from now on it can be asked, and told to end."""
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(_BACKLOG)  # asyncio lets as many wait as it takes at once: `_AT_ONCE`
        if not self.should_exit:
            self._begun()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; when told again, without waiting for others."""
        if self._gate.draining:
            self.should_exit, self.force_exit = True, sig == signal.SIGINT
            return
        self._gate.draining = True
        asyncio.get_running_loop().call_soon_threadsafe(self._drain, sig)  # not now: anything may be going on

    def _drain(self, sig: int) -> None:
        LOG.info("draining", extra={"fields": {"signal": signal.Signals(sig).name, "seconds": self._delay}})
        asyncio.get_running_loop().call_later(self._delay, setattr, self, "should_exit", True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, hear what the last ones want, and let all of them have their answers."""
        await self._take_last(sockets or [])
        least, most = _HEARING
        await asyncio.sleep(least)
        end = time.monotonic() + most
        while self._unheard() and time.monotonic() < end:
            await asyncio.sleep(least / 4)
        await super().shutdown(sockets)

    async def _take_last(self, sockets: Iterable[socket.socket]) -> None:
        """Close the ports; connections that clients have made until then are taken, and not cut off."""
        loop = asyncio.get_running_loop()
        for listening in sockets:
            loop.remove_reader(listening)
        await asyncio.sleep(0)  # what asyncio has taken joins its server, which it cannot once that is closed
        last = [connection for listening in sockets for connection in _waiting_at(listening)]
        for server in self.servers:
            server.close()
        for connection in last:
            with suppress(OSError):  # it has gone already
                await loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _unheard(self) -> bool:
        """Whether nothing was asked yet over some connection."""
        return any(getattr(one, "cycle", None) is None for one in self.server_state.connections)


def serve(
    pool: Pool, settings: Settings, *, preload: bool = False, told: Callable[[str], None] = lambda address: None
) -> None:
    """Answer requests until a signal says to end; then answer all that were accepted.

    Args:
        pool: the bundles.
        settings: where to listen, and the limits.
        preload: load all bundles before requests are taken; one that cannot be loaded is an error then.
        told: called with the address as soon as requests can be made.
    """
    with _bound(settings) as listening:  # first, so that a port that is taken is told before anything is loaded
        for name in pool.names if preload else ():
            pool.get(name)
        with _explained(settings):
            listening.listen(_BACKLOG)
        _run(listening, build(pool, settings), settings, partial(told, _address(listening)))


def leave(pool: Pool) -> None:
    """End the process, with 0, if bundles are still being loaded: nobody waits for them, and they may take for ever."""
    if pool.busy:
        logging.shutdown()
        os._exit(0)  # else the interpreter would wait for the threads that load


def _run(listening: socket.socket, gate: Gate, settings: Settings, begun: Callable[[], None]) -> None:
    config = uvicorn.Config(
        gate,
        log_config=None,
        ws="none",
        access_log=False,
        lifespan="on",
        http=partial(Connection, Connections(most_connections())),  # type: ignore[arg-type]
        backlog=_AT_ONCE,
        server_header=False,
        timeout_keep_alive=KEPT,
        timeout_graceful_shutdown=int(settings.deadline) + _PATIENCE,
        h11_max_incomplete_event_size=64 * 1024,
    )
    server = Server(config, gate, settings.drain_delay, begun)
    LOG.info("listening", extra={"fields": {"host": settings.host, "port": listening.getsockname()[1]}})
    server.run(sockets=[listening])


def _address(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _bound(settings: Settings) -> Generator[socket.socket]:
    """The port; nobody is listened to yet."""
    kind = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(kind, socket.SOCK_STREAM) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.setblocking(False)
        with _explained(settings):
            port.bind((settings.host, settings.port))
        yield port


@contextmanager
def _explained(settings: Settings) -> Generator[None]:
    """What the system says of a port, in words."""
    try:
        yield
    except OSError as error:
        advice = "Choose another port (--port), or end what uses it."
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            advice = "Name an address of this machine (--host)."
        raise OutputError(
            f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}. {advice}"
        ) from error


def _waiting_at(listening: socket.socket) -> Generator[socket.socket]:
    """The connections that clients have made and nobody has taken yet."""
    with suppress(OSError):  # there are no more of them
        while True:
            yield listening.accept()[0]
