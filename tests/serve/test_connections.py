"""Connections over which nothing comes, and more of them than there is room for."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import uvicorn
from tests.serve.pictures import a_picture
from tests.serve.running import Running

from lumora.serve.http import connections
from lumora.serve.http.connections import Connection, Connections, most_connections
from lumora.serve.http.running import Server

ASKING = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """A client that says what we want, when we want."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    def say(self, text):
        self._writer.write(text)

    async def heard(self):
        """The status of an answer, and its content."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 300)
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        return int(head.split()[1]), await self._reader.readexactly(length)

    async def ask(self):
        self.say(ASKING)
        return (await self.heard())[0]

    async def ended(self):
        """Wait until the server has closed the connection; nothing is said before."""
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(self._reader.read(), 300) == b""
        return True


def served(most, use):
    """What a coroutine gives that is called with a function that connects, and an event for answers to wait for."""

    async def run():
        go_on = asyncio.Event()

        async def app(scope, receive, send):
            if scope["path"] == "/wait":
                await go_on.wait()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

        http = partial(Connection, Connections(most))
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", http=http, backlog=8)
        config.load()
        server = Server(config, SimpleNamespace(draining=True), 0.0)
        server.lifespan = config.lifespan_class(config)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        await server.startup(sockets=[listening])

        async def connect():
            return Client(*await asyncio.open_connection(*listening.getsockname()))

        try:
            return await use(connect, go_on)
        finally:
            await server.shutdown([listening])

    return asyncio.run(run())


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(connections, "HEAD", 0.2)


@pytest.mark.parametrize("said", [b"", b"POST / HTTP/1.1\r\nHost: localhost\r\nX-Part: "])
def test_connection__ends_where_no_whole_request_comes_over_it(impatient, said):
    async def use(connect, _):
        kept, silent = await connect(), await connect()
        first = await kept.ask()
        silent.say(said)
        return first, await silent.ended(), await kept.ask()

    assert served(10, use) == (200, True, 200)


@pytest.mark.parametrize("before", [0, 1])
def test_connection__ends_where_a_request_comes_letter_by_letter(impatient, before):
    async def use(connect, _):
        client = await connect()
        for _ in range(before):
            await client.ask()
        client.say(b"GET / HTTP/1.1\r\nX-Part: ")
        ending = asyncio.create_task(client.ended())
        while not ending.done():
            client.say(b"x")
            await asyncio.sleep(0.01)
        return await ending

    assert served(10, use)


def test_connection__stays_while_a_request_is_answered(impatient):
    async def use(connect, go_on):
        slow, silent = await connect(), await connect()
        slow.say(ASKING.replace(b"/ ", b"/wait "))
        await silent.ended()
        other = await connect()
        await other.ended()
        go_on.set()
        return await slow.heard(), await slow.ask()

    assert served(10, use) == ((200, b"ok"), 200)


def test_connection__gives_the_next_that_was_asked_for_already(impatient):
    async def use(connect, go_on):
        client = await connect()
        client.say(ASKING.replace(b"/ ", b"/wait ") + ASKING)
        go_on.set()
        return [await client.heard(), await client.heard(), await client.ask()]

    assert served(10, use) == [(200, b"ok"), (200, b"ok"), 200]


def test_connections__make_room_for_new_ones(monkeypatch):
    monkeypatch.setattr(connections, "HEAD", 3600.0)

    async def use(connect, go_on):
        busy, kept, half, silent = [await connect() for _ in range(4)]
        busy.say(ASKING.replace(b"/ ", b"/wait "))
        await kept.ask()
        half.say(b"GET / HTTP/1.1\r\n")
        new = [await connect()]
        answers, ends = [await new[0].ask()], []
        for one in (silent, half, kept):  # whoever was answered once comes last
            new.append(await connect())
            answers.append(await new[-1].ask())
            ends.append(await one.ended())
        go_on.set()
        return answers, ends, await busy.heard()

    # Five at most: the first new one has room.
    assert served(5, use) == ([200] * 4, [True] * 3, (200, b"ok"))


def test_connections__are_refused_where_all_are_being_answered():
    async def use(connect, go_on):
        busy = [await connect() for _ in range(3)]
        for one in busy:
            one.say(ASKING.replace(b"/ ", b"/wait "))
        refused = await connect()
        for _ in range(100):  # until all have been heard
            await asyncio.sleep(0)
        status, content = await refused.heard()
        go_on.set()
        return status, json.loads(content)["error"], [await one.heard() for one in busy], await refused.ended()

    status, reason, answers, ended = served(3, use)
    assert (status, "too many connections" in reason, ended) == (503, True, True)
    assert answers == [(200, b"ok")] * 3


@pytest.mark.parametrize(
    ("files", "most"), [(1024, 928), (128, 32), (20, 16), (10**6, 4096), (resource.RLIM_INFINITY, 4096)]
)
def test_most_connections__leaves_files_for_all_else(monkeypatch, files, most):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert most_connections() == most


def test_connection__reads_headers_itself_where_there_is_httptools(tmp_path):
    """Which would take headers of any size."""
    (tmp_path / "httptools.py").touch()
    asked = "from lumora.serve.http.connections import Connection; print([one.__name__ for one in Connection.__mro__])"
    known = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", asked], env=known, capture_output=True, text=True, check=True).stdout
    assert "H11Protocol" in told
    assert "HttpToolsProtocol" not in told


@pytest.mark.slow
def test_serve__answers_while_more_connections_say_nothing_than_there_are_files_for(bundles):
    with Running(bundles, "--no-preload", files=128) as server, contextlib.ExitStack() as held:
        for _ in range(300):
            one = held.enter_context(socket.create_connection(("127.0.0.1", server.port), 300))
            with contextlib.suppress(ConnectionError):
                one.sendall(b"POST /predict/animals HTTP/1.1\r\nHost: x\r\n")
        assert server.client.get("/v2/health/live").status_code == 200
        for name in ("animals", "birds", "spots"):  # which are loaded now
            assert server.client.post(f"/predict/{name}", files={"image": a_picture()}).status_code == 200
        assert "connections are closed" in server.logged_any("there are too many")["message"]
        assert not [line for line in server.log if "too many open files" in str(line).lower()]
