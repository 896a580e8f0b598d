"""Who is let in, how long requests may take, and who waits for whom; without a process."""

import asyncio
import logging
import threading

import pytest
from tests.cli.bundles import damaged_file
from tests.serve.asking import asked
from tests.serve.making import base_folder, bundle

from lumora.bundle import names
from lumora.data.manifest import MANIFEST
from lumora.serve import Pool
from lumora.serve.hosting import catalogue, loading
from lumora.serve.http.access import Access
from lumora.serve.http.app import build
from lumora.serve.http.batching import Batcher
from lumora.serve.http.gate import Gate, Room
from lumora.serve.http.metrics import Metrics
from lumora.serve.http.refusals import RefusedError
from lumora.serve.http.settings import Settings


@pytest.fixture
def held(bundles, monkeypatch):
    """A pool in which `birds` is loaded only after the event that comes with it; `animals` is there."""
    pool, go_on = Pool([bundles], device="cpu"), threading.Event()
    pool.get("animals")
    load = pool._loader.load

    def slowly(name, origin):
        assert name != "birds" or go_on.wait(300)
        return load(name, origin)

    monkeypatch.setattr(pool._loader, "load", slowly)
    yield pool, go_on
    go_on.set()


def empty(client, name):
    """Ask for a prediction of no picture at all: 400, if nothing else is in the way."""
    return client.post(f"/predict/{name}", headers={"Content-Type": "image/png"})


async def until(true):
    async with asyncio.timeout(300):
        while not true():
            await asyncio.sleep(0.01)


def test_room__is_not_taken_by_requests_whose_bundle_is_being_loaded(held):
    pool, go_on = held
    gate = build(pool, Settings(queue=1))
    gauges = gate._metrics.gauges

    async def ask(client):
        waiting = asyncio.create_task(empty(client, "birds"))
        await until(lambda: gauges.loading)
        assert gauges.accepted == 0
        others = [await empty(client, name) for name in ("animals", "birds", "animals")]
        go_on.set()
        return [*others, await waiting]

    answers = asked(gate, ask)
    assert [answer.status_code for answer in answers] == [400, 503, 400, 400]
    assert int(answers[1].headers["retry-after"]) >= 1
    assert (gauges.accepted, gauges.loading) == (0, 0)


def test_room__is_there_again_for_whom_had_it_before():
    metrics = Metrics(Pool(device="cpu"))
    room = Room(4, Batcher(1, 0.0), metrics)
    with room.taken():
        with room.left(), room.taken(4), pytest.raises(RefusedError) as refused, room.left():
            pass
        assert refused.value.status == 503
        with room.left():
            others = room.taken(4)
            others.__enter__()
        assert metrics.gauges.accepted == 5
        with room.taken(0):
            pass
        with pytest.raises(RefusedError), room.taken():
            pass
        others.__exit__(None, None, None)
    assert metrics.gauges.accepted == 0


@pytest.fixture
def reading(held, monkeypatch):
    """The same pool; what bundles say of themselves is read after the event only."""
    pool, go_on = held
    real = loading.read_about_in
    monkeypatch.setattr(loading, "read_about_in", lambda home: go_on.wait(300) and real(home))
    return pool, go_on


def test_deadline__holds_for_what_is_said_of_a_bundle(reading):
    pool, _ = reading

    async def ask(client):
        return await client.get("/v2/models/birds", headers={"X-Deadline-Ms": "100"})

    answer = asked(build(pool, Settings()), ask)
    assert (answer.status_code, "0.1 seconds" in answer.json()["error"]) == (504, True)


@pytest.mark.parametrize(
    ("wish", "seconds"), [({}, "0.2"), ({"X-Deadline-Ms": "900000"}, "0.2"), ({"X-Deadline-Ms": "50"}, "0.05")]
)
def test_deadline__is_never_later_than_the_servers_own(held, wish, seconds):
    pool, _ = held

    async def ask(client):
        return await client.post("/predict/birds", headers={"Content-Type": "image/png", **wish})

    answer = asked(build(pool, Settings(deadline=0.2)), ask)
    assert (answer.status_code, f"within {seconds} seconds" in answer.json()["error"]) == (504, True)


def test_room__is_limited_for_those_who_ask_about_bundles_that_are_not_loaded(reading):
    pool, go_on = reading
    gate = build(pool, Settings(queue=8))

    async def ask(client):
        waiting = [asyncio.create_task(client.get("/v2/models/birds")) for _ in range(2)]
        await until(lambda: gate._metrics.gauges.loading == 2)
        others = [await client.get(f"/v2/models/{path}") for path in ("birds", "animals", "spots/ready")]
        go_on.set()
        return [*others, *await asyncio.gather(*waiting)]

    answers = asked(gate, ask)
    assert [answer.status_code for answer in answers] == [503, 200, 200, 200, 200]
    assert int(answers[0].headers["retry-after"]) >= 1
    assert gate._metrics.gauges.loading == 0


def test_models__are_described_without_being_loaded(bundles):
    pool = Pool([bundles], device="cpu")
    paths = [f"/v2/models/{name}" for name in pool.names]

    async def ask(client):
        return [(await client.get(path)).json() for path in paths]

    gate = build(pool, Settings())
    before = asked(gate, ask)
    assert pool.loaded == []
    for name in pool.names:
        pool.get(name)
    assert asked(gate, ask) == before
    assert [one["versions"] for one in before] == [[pool.get(name).version] for name in pool.names]
    assert [hosted.name for hosted in pool.loaded] == pool.names  # nobody seems to have been used


@pytest.mark.parametrize("is_loaded", [False, True])
def test_models__are_there_in_their_version_only(bundles, is_loaded):
    version = Pool([bundles], device="cpu").get("birds").version
    pool = Pool([bundles], device="cpu")
    if is_loaded:
        pool.get("birds")

    async def ask(client):
        paths = [f"/v2/models/birds/versions/{one}{ready}" for one in (version, "0") for ready in ("", "/ready")]
        return [await client.get(path) for path in (*paths, "/v2/models/nobody/ready")]

    answers = asked(build(pool, Settings()), ask)
    assert [answer.status_code for answer in answers] == [200, 200, 404, 404, 404]
    assert answers[0].json()["versions"] == [version]
    assert answers[1].json() == {"name": "birds", "ready": True}
    assert version in answers[2].json()["error"]
    assert bool(pool.loaded) == is_loaded


def test_admin__waits_for_a_bundle_as_long_as_it_takes_and_in_a_loading_thread(held, monkeypatch):
    pool, go_on = held
    threads, load = [], pool._loader.load
    monkeypatch.setattr(pool._loader, "load", lambda *a: threads.append(threading.current_thread().name) or load(*a))

    async def ask(client):
        waiting = asyncio.create_task(client.put("/admin/bundles/birds", headers={"X-Deadline-Ms": "1"}))
        await asyncio.sleep(0.2)
        go_on.set()
        return await waiting

    assert asked(build(pool, Settings()), ask).status_code == 200
    assert [name.startswith("lumora-loading") for name in threads] == [True]


@pytest.mark.parametrize("last", ["put", "delete"])
def test_admin__what_was_asked_for_last_counts_whatever_is_loaded_first(bundles, monkeypatch, last):
    pool, go_on = Pool([bundles], device="cpu"), threading.Event()
    begun, load = [], pool._loader.load

    def slowly(name, origin):
        first = not begun
        begun.append(name)
        hosted = load(name, origin)
        assert not first or go_on.wait(300)
        return hosted

    monkeypatch.setattr(pool._loader, "load", slowly)

    async def ask(client):
        first = asyncio.create_task(client.put("/admin/bundles/birds"))
        await until(lambda: begun)
        second = await client.request(last.upper(), "/admin/bundles/birds")
        there = pool.loaded
        go_on.set()
        answers = [await first, second]
        assert pool.loaded == there
        return [answer.status_code for answer in answers]

    assert asked(build(pool, Settings()), ask) == [409, 200]
    assert ("birds" in pool.names) == (last == "put")
    assert pool._wishes == {}


def test_names__that_are_not_known_are_looked_for_in_a_thread(bundles, monkeypatch):
    threads, real = [], catalogue._bundles_in
    pool = Pool([bundles], device="cpu")
    monkeypatch.setattr(
        catalogue, "_bundles_in", lambda folder: threads.append(threading.current_thread().name) or real(folder)
    )

    async def ask(client):
        answers = [await empty(client, "nobody"), await client.get("/v2/models/nobody/ready")]
        return [answer.status_code for answer in answers]

    assert asked(build(pool, Settings()), ask) == [404, 404]
    assert threads == ["lumora-looking_0"]


def test_ready__loads_no_bundle(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "all/one", *given)
    pool = Pool([tmp_path / "all"], device="cpu")
    bundle(tmp_path / "all/two", *given, seed=1)

    async def ask(client):
        return [(await client.get(f"/v2/models/{name}/ready")).status_code for name in ("one", "two", "three")]

    assert asked(build(pool, Settings()), ask) == [200, 200, 404]
    assert (pool.names, pool.loaded, pool.busy) == (["one", "two"], [], False)


def test_ready__is_no_bundle_that_could_not_be_loaded_until_it_can(tmp_path, monkeypatch):
    monkeypatch.setattr("lumora.serve.hosting.pool._REST", 0.0)
    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "bundle", *given)
    pool = Pool([f"it={tmp_path / 'bundle'}"], device="cpu")
    damaged_file(tmp_path)

    async def ask(client):
        first = [
            await client.get("/v2/models/it/ready"),
            await empty(client, "it"),
            await client.get("/v2/models/it/ready"),
        ]
        await until(lambda: not pool.busy)
        bundle(tmp_path / "bundle", *given)
        first.append(await client.get("/v2/models/it/ready"))
        await until(lambda: pool.loaded)
        return [*first, await client.get("/v2/models/it/ready")]

    answers = asked(build(pool, Settings()), ask)
    assert [answer.status_code for answer in answers] == [200, 503, 503, 503, 200]
    assert answers[2].json() == {"name": "it", "ready": False}


def test_ready__is_no_bundle_that_a_library_fails_for(tmp_path):
    vit, timm = (base_folder(kind, tmp_path / kind) for kind in ("vit", "timm"))
    folder = bundle(tmp_path / "it", *timm)
    pool = Pool([folder], device="cpu", base=vit[0]["name"], allow_other_base=True)

    async def ask(client):
        answers = [await empty(client, "it"), await client.put("/admin/bundles/it")]
        return [*answers, await client.get("/v2/models/it/ready")]

    answers = asked(build(pool, Settings()), ask)
    assert [answer.status_code for answer in answers] == [503, 422, 503]
    assert answers[2].json() == {"name": "it", "ready": False}


def test_metrics__count_what_is_refused_under_its_route(bundles):
    settings = Settings(tokens=("token-of-users",), admin_tokens=("token-of-admins",), max_body=10, queue=1)
    gate = build(Pool([bundles], device="cpu"), settings)
    token = {"Authorization": "Bearer token-of-users"}

    async def ask(client):
        answers = [
            await client.get("/v2/models/animals"),
            await client.delete("/admin/bundles/animals", headers=token),
            await client.post("/predict/animals", headers=token, content=bytes(11)),
            await client.get("/predict/animals", headers=token),
            await client.get("/nothing", headers=token),
        ]
        with gate._room.taken():
            answers.append(await client.post("/predict/animals", headers=token))
        return [answer.status_code for answer in answers]

    statuses = asked(gate, ask)
    counted = gate._metrics.registry.get_sample_value
    routes = ("/v2/models/{name}", "/admin/bundles/{name}", *["/predict/{adapter}"] * 2, "other", "/predict/{adapter}")
    assert statuses == [401, 403, 413, 405, 404, 429]
    for route, status in zip(routes, statuses, strict=True):
        assert counted("lumora_requests_total", {"route": route, "status": str(status)}) == 1


def test_metrics__that_only_grow_are_counters():
    text = asked(build(Pool(device="cpu"), Settings()), lambda client: client.get("/metrics")).text
    kinds = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    assert {kinds[f"lumora_{name}_total"] for name in ("requests", "evicted_bundles", "ended_decoders")} == {"counter"}
    assert kinds["lumora_waiting_requests"] == "gauge"


@pytest.mark.parametrize("file", [names.ABOUT, MANIFEST])
def test_models__that_cannot_be_read_are_told_so(tmp_path, file, caplog):
    folder = bundle(tmp_path / "it", *base_folder("vit", tmp_path / "base"))
    pool = Pool([folder], device="cpu")
    (folder / file).unlink()
    answer = asked(build(pool, Settings()), lambda client: client.get("/v2/models/it"))
    assert (answer.status_code, "log says why" in answer.json()["error"]) == (503, True)
    assert str(tmp_path) not in answer.text
    assert any(file in getattr(record, "fields", {}).get("reason", "") for record in caplog.records)


def test_bundles__says_why_one_has_a_model_of_its_own(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    pool = Pool([bundle(tmp_path / "whole", *given, method="full"), bundle(tmp_path / "it", *given)], device="cpu")
    for name in pool.names:
        pool.get(name)
    listed = asked(build(pool, Settings()), lambda client: client.get("/bundles")).json()["bundles"]
    assert [(one["shares_its_base"], one["why_alone"]) for one in listed] == [
        (False, "All its weights were trained."),
        (True, None),
    ]


def gone(app, *messages, deadline=300.0):
    """What a server sends, and its log's status, when a client says these messages and goes."""
    sent, left = [], list(messages)

    async def receive():
        if left:
            return left.pop(0)
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message.get("status", message["type"]))

    settings, batcher, metrics = Settings(deadline=deadline), Batcher(1, 0.0), Metrics(Pool(device="cpu"))
    gate = Gate(app, settings, Access(settings), Room(1, batcher, metrics), metrics)
    scope = {"type": "http", "method": "POST", "path": "/predict/it", "headers": [(b"host", b"localhost")]}
    asyncio.run(gate(scope, receive, send))
    batcher.close()
    assert metrics.gauges.accepted == 0
    return sent


def test_gate__gives_up_what_nobody_waits_for():
    given_up = []

    async def computes(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        try:
            await asyncio.sleep(300)
        except asyncio.CancelledError:
            given_up.append(True)
            raise

    body = [{"type": "http.request", "body": b"x", "more_body": more} for more in (True, False)]
    assert gone(computes, *body) == [499, "http.response.body"]
    assert given_up == [True]


@pytest.mark.parametrize("kind", ["image/png", "application/json", "multipart/form-data; boundary=x"])
def test_gate__tells_of_clients_that_go_within_their_request(bundles, caplog, kind):
    gate = build(Pool([bundles], device="cpu"), Settings())

    async def receive():
        return {"type": "http.disconnect"}

    async def send(_):
        """Nobody hears it."""

    headers = [(b"host", b"localhost"), (b"content-type", kind.encode()), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": "/predict/animals", "query_string": b"", "headers": headers}
    with caplog.at_level(logging.INFO, "lumora.serve"):
        asyncio.run(gate(scope, receive, send))
    assert [record.fields["status"] for record in caplog.records if record.message == "request"] == [499]


def test_gate__lets_an_answer_end_that_is_ready_when_the_client_goes():
    async def answers(scope, receive, send):
        assert not (await receive())["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    assert gone(answers, {"type": "http.request", "body": b"x", "more_body": False}) == [200, "http.response.body"]
