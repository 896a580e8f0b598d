"""Decoders that end when nobody expects it."""

import asyncio
from types import SimpleNamespace

import pytest
import torch
from tests.serve.pictures import a_picture

from lumora.models import Preprocessing
from lumora.serve.http import decoding
from lumora.serve.http.decoding import Decoders
from lumora.serve.http.refusals import RefusedError
from lumora.serve.http.settings import Settings

HOSTED = SimpleNamespace(preprocessing=Preprocessing())


class Process:
    """A decoder in name only; as it is said it ends without a word, is dead already, or answers."""

    def __init__(self, does="answers"):
        self.does, self.asked = does, 0
        self.returncode = -9 if does == "is dead" else None

    def kill(self):
        self.returncode = -9

    async def wait(self):
        return self.returncode


@pytest.fixture
def decoders(monkeypatch):
    """Decoders whose processes are these."""

    async def exchange(process, _preprocessing, _content):
        process.asked += 1
        if process.does == "ends":
            raise EOFError
        if process.does == "ends within":
            raise asyncio.IncompleteReadError(b"", 12)
        return {"shape": [3, 1, 1], "size": [1, 1], "bytes": 3}, bytes(3)

    async def another(self):
        self._free.put_nowait(Process())

    monkeypatch.setattr(decoding, "_exchange", exchange)
    monkeypatch.setattr(Decoders, "_start_one", another)


def seen(*processes):
    """What two pictures are, one after the other; and how many processes had to be ended."""

    async def ask():
        made = Decoders(Settings())
        for process in processes:
            made._free.put_nowait(process)
        found = []
        for _ in range(2):
            try:
                found.append((await made.seen(HOSTED, a_picture())).pixels.shape)
            except RefusedError as error:
                found.append(error.status)
        await made.stop()
        return found, made.ended

    return asyncio.run(ask())


RIGHT = torch.Size([3, 1, 1])


@pytest.mark.parametrize(
    ("processes", "found", "ended"),
    [
        (["answers"], [RIGHT, RIGHT], 0),
        (["is dead", "is dead", "answers"], [RIGHT, RIGHT], 2),
        (["ends", "answers"], [RIGHT, RIGHT], 1),
        (["ends", "ends", "answers"], [422, RIGHT], 2),
        (["ends within", "answers"], [422, RIGHT], 1),
    ],
)
def test_decoders__let_no_picture_suffer_from_what_ended_a_decoder_before(decoders, processes, found, ended):
    assert seen(*map(Process, processes)) == (found, ended)


def test_decoders__are_told_only_what_they_need():
    needed = {"PATH": "/bin", "LC_ALL": "C", "PYTHONHASHSEED": "7", "SystemRoot": "C:", "LD_LIBRARY_PATH": "/lib"}
    others = {"AWS_SECRET_ACCESS_KEY": "x", "DB_PASSWORD": "x", "OPENAI_API_KEY": "x", "HF_TOKEN": "x", "PATHS": "x"}
    assert decoding._needed(needed | others) == needed
