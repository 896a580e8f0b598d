"""What the server promises, each tried on a running one."""

import json
import os
import random
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.cli.bundles import PROGRAM, run
from tests.serve.making import base_folder, bundle
from tests.serve.pictures import a_picture, bomb, cut_off
from tests.serve.running import PATIENCE, Running, until

from lumora.bundle import names

pytestmark = pytest.mark.slow


class Slow:
    """A request whose body comes when we say so: it is accepted, and waits."""

    def __init__(self, server, *headers, path="/predict/animals"):
        self._body = a_picture()
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=300)
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "Content-Type: image/png",
            f"Content-Length: {len(self._body)}",
            *headers,
        ]
        self._socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")

    def finish(self):
        """Send the body."""
        self._socket.sendall(self._body)

    def leave(self):
        """Wait no longer."""
        self._socket.close()

    def answer(self):
        """The status and the whole answer."""
        told = b""
        while b"\r\n\r\n" not in told:
            some = self._socket.recv(1 << 16)
            assert some, "the connection was lost"
            told += some
        self._socket.close()
        return int(told.split()[1]), told.decode("latin-1")


def test_queue__refuses_more_than_it_holds_and_says_when_to_come_again(bundles):
    with Running(bundles, "--queue", 2) as server:
        waiting = [Slow(server), Slow(server)]
        until(lambda: server.metric("lumora_accepted_pictures") == 2, server)
        refused = server.client.post("/predict/animals", files={"image": a_picture()})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        for one in waiting:
            one.finish()
        assert [one.answer()[0] for one in waiting] == [200, 200]
        assert server.client.post("/predict/animals", files={"image": a_picture()}).status_code == 200


def test_deadline__gives_a_request_up(server):
    late = Slow(server, "X-Deadline-Ms: 300")
    assert late.answer()[0] == 504
    assert server.client.post("/predict/animals", files={"image": a_picture()}).status_code == 200
    wrong = server.client.post("/predict/animals", files={"image": a_picture()}, headers={"X-Deadline-Ms": "soon"})
    assert wrong.status_code == 400


def test_predict__fails_for_bad_pictures_alone(server):
    pictures = [cut_off(i) if i % 4 == 3 else a_picture(i) for i in range(24)]

    def ask(picture):
        return httpx.post(f"{server.url}/predict/birds", files={"image": picture}, timeout=300)

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(ask, pictures))
    assert [answer.status_code for answer in answers] == [422 if i % 4 == 3 else 200 for i in range(24)]
    assert "damaged or cut off" in answers[3].json()["error"]


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"", 400, "0 bytes"),
        (b"GIF89a" + bytes(100), 415, "JPEG, PNG, WEBP"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "something else"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "something else"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), 422, "picture"),
        (bomb(), 413, "pixels"),
        (cut_off(), 422, "damaged"),
        (bytes(20_000_001), 413, "20,000,000 bytes"),
    ],
)
def test_limits__are_kept_before_a_picture_is_decoded(server, content, status, reason):
    answer = server.client.post("/predict/animals", content=content, headers={"Content-Type": "image/png"})
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True)


def test_limits__kinds_of_pictures_are_those_that_were_chosen(bundles):
    assert "formats has gif" in run("serve", bundles, "--formats", "png,gif", code=2).stderr
    with Running(bundles, "--formats", "png, webp", "--no-preload") as server:
        kinds = ("PNG", "JPEG", "WEBP")
        answers = [server.client.post("/predict/animals", files={"image": a_picture(kind=kind)}) for kind in kinds]
    assert [answer.status_code for answer in answers] == [200, 415, 200]
    assert "PNG, WEBP" in answers[1].json()["error"]


def test_limits__hold_for_bodies_of_unknown_length(server):
    def parts():
        for _ in range(30):
            yield bytes(1_000_000)

    answer = server.client.post("/predict/animals", content=parts(), headers={"Content-Type": "image/png"})
    assert answer.status_code == 413


def test_decoding__ends_a_decoder_that_takes_too_long_and_goes_on(bundles):
    with Running(bundles, "--decode-time", 10) as server:
        assert server.client.post("/predict/animals", files={"image": a_picture()}).status_code == 200
        [decoder] = server.children()
        os.kill(decoder, signal.SIGSTOP)  # it will not answer
        hung = server.client.post("/predict/animals", files={"image": a_picture()})
        assert (hung.status_code, "took longer" in hung.json()["error"]) == (422, True)
        assert server.client.post("/predict/animals", files={"image": a_picture()}).status_code == 200
        assert decoder not in server.children()
        [decoder] = server.children()
        os.kill(decoder, signal.SIGKILL)
        for _ in range(2):  # no picture suffers for it
            assert server.client.post("/predict/animals", files={"image": a_picture()}).status_code == 200
        assert server.metric("lumora_ended_decoders_total") == 2


def test_decoding__knows_no_secrets(bundles):
    secrets = {name: f"secret-{name}" for name in ("AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "OPENAI_API_KEY")}
    with Running(bundles, "--no-preload", **secrets) as server:
        [decoder] = server.children()
        known = Path(f"/proc/{decoder}/environ").read_bytes()
        assert b"PATH=" in known
        assert b"secret-" not in known


def test_predict__computes_nothing_for_clients_that_have_gone(bundles):
    with Running(bundles) as server:
        [decoder] = server.children()
        os.kill(decoder, signal.SIGSTOP)
        leaving = [Slow(server) for _ in range(3)]
        for one in leaving:
            one.finish()
        until(lambda: server.metric("lumora_accepted_pictures") == 3, server)
        for one in leaving:
            one.leave()
        until(lambda: [line.get("status") for line in list(server.log)].count(499) == 3, server)
        assert server.metric("lumora_accepted_pictures") == 0
        os.kill(decoder, signal.SIGCONT)
        assert server.client.post("/predict/animals", files={"image": a_picture()}).status_code == 200
        assert server.metric("lumora_pictures_total") == server.metric("lumora_batch_pictures_sum") == 1


def test_drain__ends_though_a_bundle_is_still_being_loaded(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    for name in ("one", "two"):
        bundle(tmp_path / "all" / name, *given)
    manifest = tmp_path / "all/two/manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)  # whoever reads it waits for somebody to write
    with Running(tmp_path / "all", "--no-preload") as server:
        late = Slow(server, "X-Deadline-Ms: 300", path="/predict/two")
        assert late.answer()[0] == 504
        assert server.client.post("/predict/one", files={"image": a_picture()}).status_code == 200
        server.told_to_end()
        server.logged("ended")
        assert server.process.wait(120) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_drain__ends_well_as_soon_as_it_has_told_where_it_listens(bundles, how):
    command = [PROGRAM, "serve", bundles, "--port", "0", "--device", "cpu", "--decoders", "1", "--json", "--no-preload"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert json.loads(process.stdout.readline())["address"]
        process.send_signal(how)
        assert process.wait(PATIENCE) == 0


def test_drain__answers_all_that_was_accepted(bundles):
    with Running(bundles) as server:
        waiting = [Slow(server) for _ in range(10)]
        until(lambda: server.metric("lumora_accepted_pictures") == 10, server)
        server.told_to_end()
        server.logged("draining")
        for one in waiting:
            one.finish()
        assert [one.answer()[0] for one in waiting] == [200] * 10
        assert server.ended() == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)


def test_drain__loses_no_request_of_clients_that_come_all_the_time(bundles):
    outcomes = []
    with Running(bundles, "--drain-delay", 1) as server:
        seen = threading.Event()

        def ask_until_refused():
            with httpx.Client(base_url=server.url, timeout=300) as client:
                while True:
                    try:
                        answer = client.post("/predict/birds", files={"image": a_picture()})
                    except httpx.ConnectError:
                        return  # nobody took this connection
                    except httpx.HTTPError as error:
                        outcomes.append(repr(error))
                        return
                    outcomes.append(answer.status_code)
                    seen.set()

        clients = [threading.Thread(target=ask_until_refused) for _ in range(8)]
        for client in clients:
            client.start()
        seen.wait(300)
        server.told_to_end()
        assert server.ended() == 0
        for client in clients:
            client.join()
    assert set(outcomes) == {200}


def test_tokens__are_asked_for(bundles, tmp_path):
    (tmp_path / "tokens").write_text("# for the shop\ntoken-of-users\n\nother-of-users\n")
    with Running(
        bundles, "--token-file", tmp_path / "tokens", token="token-of-users", LUMORA_ADMIN_TOKENS="token-of-admins"
    ) as server:

        def status(method, path, token):
            headers = {} if token is None else {"Authorization": token}
            files = {"image": a_picture()} if method == "POST" else None
            return httpx.request(method, server.url + path, headers=headers, files=files, timeout=300).status_code

        for wrong in (
            None,
            "Bearer",
            "Bearer x token-of-users",
            "Bearer token-of-user",
            "Basic token-of-users",
            "token-of-users",
        ):
            for method, path in (("POST", "/predict/birds"), ("GET", "/bundles"), ("GET", "/metrics"), ("GET", "/no")):
                assert status(method, path, wrong) == 401
        assert status("GET", "/v2/health/ready", None) == 200
        assert status("POST", "/predict/birds", "Bearer token-of-users") == 200
        assert status("POST", "/predict/birds", "bearer other-of-users") == 200
        assert status("DELETE", "/admin/bundles/birds", "Bearer token-of-users") == 403
        assert status("DELETE", "/admin/bundles/birds", "Bearer token-of-admins") == 200
        assert status("POST", "/predict/birds", "Bearer token-of-admins") == 404
        assert not any("token-of" in str(line) for line in server.log)
        [decoder] = server.children()
        assert b"token-of" not in Path(f"/proc/{decoder}/environ").read_bytes()


def test_serve__does_not_listen_beyond_this_machine_without_tokens(bundles):
    refused = run("serve", bundles, "--host", "0.0.0.0", code=2)
    assert "there is no token" in refused.stderr


def test_serve__says_that_a_port_is_taken_before_it_loads_anything(tmp_path, server):
    (tmp_path / names.ABOUT).write_text("{}")  # which cannot be loaded
    refused = run("serve", f"it={tmp_path}", "--port", server.port, code=1)
    assert "Choose another port" in refused.stderr


def test_hosts__others_names_are_not_answered_without_tokens(server):
    assert server.client.get("/bundles", headers={"Host": "evil.example"}).status_code == 403
    assert server.client.get("/bundles", headers={"Host": f"localhost:{server.port}"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_pages__of_others_are_not_answered_without_tokens(server, headers, status):
    own = {name: value.format(port=server.port) for name, value in headers.items()}
    answer = server.client.post("/predict/animals", files={"image": a_picture()}, headers=own)
    assert answer.status_code == status


@pytest.mark.parametrize(("path", "status"), [("/", 307), ("/docs", 200), ("/playground", 200), ("/bundles", 403)])
def test_pages__of_others_may_lead_to_the_servers_own(server, path, status):
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.client.get(path, headers=followed).status_code == status


def test_headers__of_any_size_are_refused(server):
    with socket.create_connection(("127.0.0.1", server.port), 300) as one:
        one.sendall(b"GET /bundles HTTP/1.1\r\nHost: localhost\r\nX-Part: " + bytes(1_000_000).replace(b"\0", b"x"))
        assert one.recv(12) == b"HTTP/1.1 400"


CANARY = "canary-4711"
WATCHER = """
import os, sys
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def told(*call):
    if any(word in repr(call) for word in ({canary!r}, "spots")):
        os.write(log, (repr(call) + "\\n").encode())
def watched(real):
    return lambda *given, **options: (told(real.__name__, *given), real(*given, **options))[1]
for name in ("stat", "lstat", "access", "readlink"):
    setattr(os, name, watched(getattr(os, name)))
files = ("open", "os.", "shutil.", "subprocess.")
sys.addaudithook(lambda event, given: told(event, *given) if event.startswith(files) else None)
"""
"""Python runs it at the start of the server and of its decoders: what reaches for a file is written down."""


def test_requests__never_reach_the_file_system_by_what_they_say(bundles, tmp_path):
    log, form = tmp_path / "asked", {"image": (f"../../{CANARY}", a_picture(), "image/png")}
    (tmp_path / "sitecustomize.py").write_text(WATCHER.format(log=str(log), canary=CANARY))
    with Running(bundles, PYTHONPATH=str(tmp_path)) as server:
        assert server.client.post("/predict/spots", files=form).status_code == 200
        answers = [server.client.get(f"/{CANARY}", headers={"X-Request-Id": f"/{CANARY}"})]
        for name in (CANARY, f"..%2F{CANARY}", f"%2Fetc%2F{CANARY}", f"{CANARY}%00"):
            answers += [
                server.client.post(f"/predict/{name}", files=form),
                server.client.get(f"/v2/models/{name}"),
                server.client.get(f"/v2/models/spots/versions/{name}"),
                server.client.put(f"/admin/bundles/{name}"),
                server.client.delete(f"/admin/bundles/{name}"),
            ]
        answers.append(server.client.put(f"/admin/bundles/{CANARY}", json={"repository": f"/tmp/{CANARY}"}))
    assert {answer.status_code for answer in answers} <= {400, 403, 404}
    reached = log.read_text()
    assert "/spots/" in reached  # the watcher sees what the server itself reaches for
    assert CANARY not in reached


def test_base__is_for_the_bundles_that_were_made_on_it(tmp_path):
    vit, timm = (base_folder(kind, tmp_path / kind) for kind in ("vit", "timm"))
    bundle(tmp_path / "all/one", *vit)
    bundle(tmp_path / "all/other", *timm)
    moved = (tmp_path / "vit").rename(tmp_path / "moved")
    with Running(tmp_path / "all", "--base", moved) as server:
        for name in ("one", "other"):
            assert server.client.post(f"/predict/{name}", files={"image": a_picture()}).status_code == 200
        assert server.metric("lumora_loaded_bases") == 2


def test_admin__adds_and_removes_while_others_are_answered(tmp_path):
    given = base_folder("vit", tmp_path / "base")
    bundle(tmp_path / "all/one", *given)
    with Running(tmp_path / "all") as server:
        bundle(tmp_path / "all/two", *given, labels=5, seed=1)
        stop, statuses = threading.Event(), []

        def ask():
            while not stop.is_set():
                answer = httpx.post(f"{server.url}/predict/one", files={"image": a_picture()}, timeout=300)
                statuses.append(answer.status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        until(lambda: statuses, server)
        added = server.client.put("/admin/bundles/two")
        assert (added.status_code, added.json()["why_alone"]) == (200, None)
        first = server.client.post("/predict/two?top=10", files={"image": a_picture()}).json()
        assert len(first["probabilities"]) == 5
        bundle(tmp_path / "all/two", *given, labels=2, seed=2)  # another training's
        again = server.client.put("/admin/bundles/two").json()
        assert again["version"] != added.json()["version"]
        second = server.client.post("/predict/two?top=10", files={"image": a_picture()}).json()
        assert len(second["probabilities"]) == 2
        assert server.client.delete("/admin/bundles/two").status_code == 200
        assert server.client.post("/predict/two", files={"image": a_picture()}).status_code == 404
        assert server.client.delete("/admin/bundles/two").status_code == 404
        stop.set()
        asking.join()
        assert set(statuses) == {200}
        for name in ("..", "a.b", "a%2Fb", "x" * 65):
            assert server.client.put(f"/admin/bundles/{name}").status_code in (400, 404, 405)
        hub = server.client.put("/admin/bundles/three", json={"repository": "some/body"})
        assert hub.status_code == 403
        path = server.client.put("/admin/bundles/three", json={"repository": "/etc", "folder": "/etc"})
        assert path.status_code == 400


def test_fuzz__a_thousand_malformed_requests_never_make_the_server_fail(bundles):
    program = run.__globals__["PROGRAM"].with_name("schemathesis")
    with Running(bundles, "--no-preload") as server:
        done = subprocess.run(
            [
                *(program, "run", f"{server.url}/openapi.json", "--mode", "negative", "--max-examples", "200"),
                *("--phases", "fuzzing", "--checks", "not_a_server_error", "--seed", "7", "--continue-on-failure"),
                *("--suppress-health-check", "all", "--no-color", "--generation-database", "none"),
            ],
            cwd=bundles.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        server.client.get("/bundles", headers={"X-Request-Id": "the-last"})
        until(lambda: any(line.get("request_id") == "the-last" for line in list(server.log)), server)
        statuses = [line["status"] for line in server.log if line["message"] == "request"]
        refused = [status for status in statuses if 400 <= status < 500]
        assert not [status for status in statuses if status >= 500]
        assert len(refused) >= 1000
        assert server.client.post("/predict/animals", files={"image": a_picture()}).status_code == 200


def test_fuzz__mangled_bodies_for_bundles_that_there_are_never_make_the_server_fail(server):
    numbers = random.Random(7)
    form = httpx.Request("POST", server.url, files={"image": ("x.png", a_picture(), "image/png")})
    text = json.dumps({"image": "iVBORw0KGgo=", "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES"}]})
    bodies = [(form.headers["content-type"], form.read()), ("application/json", text.encode())]
    bodies += [("image/jpeg", a_picture(kind="JPEG")), ("image/webp", a_picture(kind="WEBP"))]
    nested = [b"[" * 100_000, b'{"image":' * 50_000, b"NaN", b"null", b'{"image": 1e999}', b'"\\ud800"', b"\xff\xfe"]
    asked = [("application/json", body) for body in nested]
    for _ in range(300):
        kind, body = numbers.choice(bodies)
        mangled = bytearray(body)
        for _ in range(numbers.randint(1, 30)):
            mangled[numbers.randrange(len(mangled))] = numbers.randrange(256)
        asked.append((kind, bytes(mangled[: numbers.choice((len(mangled), numbers.randrange(len(mangled))))])))
    statuses = set()
    for kind, body in asked:
        path = numbers.choice(("/predict/animals", "/predict/spots?mask=rle", "/v2/models/birds/infer"))
        statuses.add(server.client.post(path, content=body, headers={"Content-Type": kind}).status_code)
    assert statuses <= {200, 400, 413, 415, 422}
    assert {400, 415, 422} & statuses
