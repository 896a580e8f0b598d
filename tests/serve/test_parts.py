"""Parts of the server, without a process."""

import asyncio
import hmac
import json
import signal
import socket
import threading
from types import SimpleNamespace

import pytest
import torch
import uvicorn
from tests.serve.asking import asked
from tests.serve.pictures import a_picture, bomb, cut_off

import lumora
from lumora.data.reading import Limits
from lumora.errors import ConfigError
from lumora.models import Preprocessing
from lumora.serve import Pool
from lumora.serve.hosting.hosted import Seen, compute
from lumora.serve.http import access, decoder
from lumora.serve.http.access import Access
from lumora.serve.http.app import build
from lumora.serve.http.batching import Batcher
from lumora.serve.http.decoding import Decoders
from lumora.serve.http.gate import Gate, Room
from lumora.serve.http.metrics import Metrics
from lumora.serve.http.refusals import RefusedError
from lumora.serve.http.running import Server
from lumora.serve.http.settings import Settings
from lumora.serve.http.tensors import asked_in, pictures_in, wanted_of


@pytest.fixture
def pool(bundles):
    return Pool([bundles], device="cpu")


def seen(pool, name="animals", seed=0):
    hosted = pool.get(name)
    return Seen(hosted, torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8), (50, 60))


def test_batcher__computes_what_waits_in_one_batch(pool):
    sizes = []
    batcher = Batcher(4, 60.0, lambda *told: sizes.append(told[:2]))
    batcher._gap = 0.0  # others are to be expected
    futures = [batcher.submit(seen(pool, ("animals", "birds")[i % 2])) for i in range(8)]
    answers = [future.result(300) for future in futures]
    batcher.close()
    assert sizes == [(4, 2), (4, 2)]
    assert {answer.batch for answer in answers} == {4}


def test_batcher__does_not_let_a_lone_picture_wait(pool):
    batcher = Batcher(32, 1000.0)
    batcher._gap = 2000.0  # nobody else is to be expected
    assert batcher.submit(seen(pool)).result(300).batch == 1
    batcher.close()


def test_batcher__keeps_companies_apart_and_leaves_out_whom_nobody_waits_for(pool):
    batcher = Batcher(8, 60.0)
    batcher._gap = 0.0
    pictures = [seen(pool, name) for name in ("animals", "places", "birds", "spots")]
    cancelled = batcher.submit(seen(pool))
    assert cancelled.cancel()
    futures = [batcher.submit(picture) for picture in pictures]
    batcher.close()
    answers = [future.result(300) for future in futures]
    assert {answer.batch for answer in answers} == {2}
    assert len(answers[1].computed.prediction().mask) == 50


def test_batcher__leaves_masks_to_those_who_want_them(pool):
    small = seen(pool, "spots")
    endless = Seen(small.hosted, small.pixels, (2**31, 2**31))
    batcher = Batcher(2, 60.0)
    batcher._gap = 0.0
    computed = [future.result(300).computed for future in [batcher.submit(one) for one in (endless, small)]]
    batcher._gap = 2000.0  # nobody else is to be expected
    assert batcher.submit(seen(pool)).result(300).batch == 1
    batcher.close()
    assert computed[1].prediction().mask.equal(compute([small])[0].mask)
    with pytest.raises(RuntimeError, match="memory"):
        computed[0].prediction()


def test_batcher__computes_all_before_it_closes(pool):
    batcher = Batcher(2, 60.0)
    batcher._gap = 0.0
    futures = [batcher.submit(seen(pool)) for _ in range(5)]
    batcher.close()
    assert all(future.done() for future in futures)


def test_batcher__fails_for_the_picture_that_it_cannot_compute_alone(pool):
    batcher = Batcher(3, 60.0)
    batcher._gap = 0.0
    good = seen(pool)
    bad = Seen(good.hosted, torch.zeros(3, 30, 32, dtype=torch.uint8), (50, 60))
    futures = [batcher.submit(one) for one in (good, bad, seen(pool, "birds"))]
    assert futures[0].result(300).batch == 1
    with pytest.raises(Exception, match=r"."):
        futures[1].result(300)
    assert futures[2].result(300).batch == 1
    batcher.close()


def test_pool__goes_on_predicting_while_another_bundle_is_loaded(pool, monkeypatch):
    going_on, loading = threading.Event(), threading.Event()
    pool.get("animals")
    load = pool._loader.load

    def slowly(name, origin):
        loading.set()
        assert going_on.wait(300)
        return load(name, origin)

    monkeypatch.setattr(pool._loader, "load", slowly)
    coming = pool.fetch("birds")
    assert loading.wait(300)
    picture = torch.zeros(3, 40, 40, dtype=torch.uint8)
    assert pool.predict([("animals", picture)])
    assert not coming.done()
    going_on.set()
    assert coming.result(300).name == "birds"


@pytest.mark.parametrize(
    ("content", "status"), [(a_picture(), None), (bomb(), 413), (cut_off(), 422), (b"\xff\xd8\xff" + bytes(9), 422)]
)
def test_decoder__says_what_the_model_sees_or_why_not(content, status):
    preprocessing = Preprocessing(resize=(16, 24))
    told, pixels = decoder.answer(preprocessing, content, Limits(10_000_000))
    assert told.get("status") == status
    if status is None:
        assert (told["size"], told["shape"]) == ([50, 60], [3, 16, 24])
        right = preprocessing.framed(lumora.data.read_picture(content))
        assert pixels == right.numpy().tobytes()
        json.dumps(told)


@pytest.mark.slow
def test_decoders__keep_a_process_whose_answer_nobody_waits_for_any_more(pool):
    hosted = pool.get("animals")

    async def ask():
        decoders = Decoders(Settings(decoders=1, decode_time=600))
        await decoders.start()
        try:
            [process] = decoders._all
            process.send_signal(signal.SIGSTOP)
            given_up = asyncio.create_task(decoders.seen(hosted, a_picture()))
            while decoders._free.qsize():
                await asyncio.sleep(0)
            given_up.cancel()
            await asyncio.wait([given_up])
            process.send_signal(signal.SIGCONT)
            found = await decoders.seen(hosted, a_picture(1))
            return given_up.cancelled(), decoders._all == {process}, decoders.ended, found
        finally:
            await decoders.stop()

    *facts, found = asyncio.run(ask())
    assert facts == [True, True, 0]
    assert found.pixels.equal(hosted.preprocessing.framed(lumora.data.read_picture(a_picture(1))))


@pytest.mark.parametrize("shape", [[-1], [2], [10**4000, 10**4000], [1] * 9, [True], ["1"]])
def test_inference__refuses_shapes_that_do_not_count_the_pictures(shape):
    tensor = {"name": "image", "datatype": "BYTES", "shape": shape, "data": ["AAAA"]}
    with pytest.raises(RefusedError) as refused:
        pictures_in(asked_in({"inputs": [tensor]}), 256)
    assert refused.value.status == 400


def an_input(**others):
    return {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AAAA"], **others}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"inputs": []}, "one input"),
        ({"inputs": [0] * 5000}, "one input.*5000"),
        ({"inputs": [an_input(name="picture")]}, 'called "image"'),
        ({"inputs": [an_input(shape=["x"] * 5000)]}, "inputs.0.shape"),
        ({"inputs": [an_input()], "outputs": [0] * 5000}, "outputs"),
        ({"inputs": [an_input()], "outputs": [{"name": "labels"}] * 5000}, "outputs.*100"),
        ({"inputs": [an_input(shape=[9], data=["not base64"] * 9)]}, "9 pictures .* 8 are allowed"),
    ],
)
def test_inference__finds_one_mistake_and_looks_for_no_others(content, reason):
    with pytest.raises(RefusedError, match=reason) as refused:
        pictures_in(asked_in(content), 8)
    cause = refused.value.__cause__
    assert cause is None or cause.error_count() == 1


@pytest.mark.parametrize("path", ["/v2/models/animals/infer", "/predict/animals", "/admin/bundles/animals"])
def test_json__of_very_many_values_is_refused_before_it_is_parsed(pool, path):
    async def ask(client):
        verb, kind = "PUT" if path.startswith("/admin") else "POST", {"Content-Type": "application/json"}
        return [
            await client.request(verb, path, content=b'{"inputs":[' + many * 20_000, headers=kind)
            for many in (b"0,", b"[],", b'{"a":', b"[[[[0]]]],")
        ]

    for answer in asked(build(pool, Settings()), ask):
        reason = answer.json()["error"]  # and not that it is no JSON, which it is not
        assert (answer.status_code, "more than" in reason) in [(400, True), (413, False)], reason


def test_inference__gives_an_output_once_however_often_it_is_asked_for(pool):
    asked = asked_in({"inputs": [an_input()], "outputs": [{"name": "labels"}] * 3})
    assert wanted_of(asked, pool.get("animals")) == ["labels"]


def test_gate__begins_no_second_answer_when_the_deadline_passes_within_one():
    sent = []

    async def begins(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message["type"])

    settings, batcher, metrics = Settings(deadline=0.05), Batcher(1, 0.0), Metrics(Pool(device="cpu"))
    gate = Gate(begins, settings, Access(settings), Room(1, batcher, metrics), metrics)
    scope = {"type": "http", "method": "POST", "path": "/predict/it", "headers": [(b"host", b"localhost")]}
    asyncio.run(gate(scope, receive, send))
    batcher.close()
    assert sent == ["http.response.start"]


def test_server__answers_connections_that_it_has_not_taken_yet_when_it_ends():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def ask():
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
        config.load()
        server = Server(config, SimpleNamespace(draining=True), 0.0)
        server.lifespan = config.lifespan_class(config)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        await server.startup(sockets=[listening])
        clients = [socket.create_connection(listening.getsockname(), 300) for _ in range(5)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        await server.shutdown([listening])  # the loop has had no turn since they came
        told = [client.recv(12) for client in clients]
        for client in clients:
            client.close()
        return told

    assert asyncio.run(ask()) == [b"HTTP/1.1 200"] * 5


@pytest.mark.parametrize("token", ["right-of-users", "wrong", "", "wr\u00f6ng", "right-of-admins"])
def test_access__compares_with_every_token_in_constant_time(monkeypatch, token):
    compared, compare = [], hmac.compare_digest

    def counting(one, other):
        compared.append((one, other))
        return compare(one, other)

    settings = Settings(tokens=("right-of-users", "others-of-users"), admin_tokens=("right-of-admins",))
    asked = Access(settings)
    monkeypatch.setattr(access.hmac, "compare_digest", counting)
    if token.startswith("right"):
        asked.check("/bundles", {"authorization": f"Bearer {token}"})
    else:
        with pytest.raises(RefusedError):
            asked.check("/bundles", {"authorization": f"Bearer {token}"})
    assert len(compared) == 3  # the first that is right does not end it
    assert all(len(one) == len(other) == 32 for one, other in compared)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"host": "0.0.0.0"}, "can be reached from other machines"),
        ({"host": "192.168.1.7"}, "can be reached from other machines"),
        ({"tokens": ("short",)}, "fewer than 8"),
        ({"formats": ("png", "gif")}, "formats has gif"),
        ({"max_batch": 0, "deadline": 0.0}, "max_batch is 0.*deadline is 0"),
        ({"deadline": float("inf"), "max_wait": float("nan")}, "deadline is inf.*max_wait is nan"),
    ],
)
def test_settings__that_cannot_be_are_refused(wrong, reason):
    with pytest.raises(ConfigError, match=reason):
        Settings(**wrong)


@pytest.mark.slow
def test_pool__leaves_nothing_behind_in_memory_after_many_batches(pool):
    """The batches' own tensors go when they are answered."""
    import gc

    picture = torch.zeros(3, 40, 40, dtype=torch.uint8)
    pool.predict([("animals", picture), ("birds", picture)])
    gc.collect()
    before = sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())
    for _ in range(20):
        pool.predict([("animals", picture), ("birds", picture)])
    gc.collect()
    assert sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects()) <= before
