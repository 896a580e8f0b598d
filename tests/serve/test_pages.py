"""The server's pages in a real browser."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.browser import Browser
from tests.serve.pictures import a_picture, cut_off
from tests.serve.playing import choose, said
from tests.serve.running import Running, until

import lumora

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with Browser() as one:
        yield one


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (390, True)])
def test_playground__shows_labels_and_masks(server, bundles, browser, width, dark):
    browser.visit(f"{server.url}/playground", width, dark=dark)
    picture = a_picture(3)
    choose(browser, "birds", picture)
    right = lumora.load(bundles / "birds", device="cpu")
    prediction = right.predict(picture)
    found = said(browser)
    assert (found["shown"], found["mask"], found["wide"]) == (True, False, False)
    assert found["title"] == right.labels.names[prediction.chosen[0]]
    assert found["bars"][0] == found["title"]
    choose(browser, "spots", picture)
    until(lambda: said(browser)["mask"])
    found = said(browser)
    classes = lumora.load(bundles / "spots", device="cpu").predict(picture).mask.unique()
    assert len(found["bars"]) == len(classes)
    content = server.client.post("/predict/spots?mask=none", files={"image": picture}).json()
    colours = [tuple(bytes.fromhex(one["colour"].removeprefix("#"))) for one in content["classes"]]
    shown = browser.run("[...document.querySelectorAll('.swatch')].map(one => one.style.backgroundColor)")
    assert shown == [f"rgb{colour}" for colour in colours]
    assert not found["wide"]
    assert browser.complaints == []
    assert {address.split("/")[2] for address in browser.requests if address.startswith("http")} == {
        f"127.0.0.1:{server.port}"
    }


def test_playground__tells_what_is_wrong_with_a_picture(server, browser):
    browser.visit(f"{server.url}/playground")
    choose(browser, "animals", cut_off(), "jpeg")
    found = said(browser)
    assert (found["shown"], "damaged or cut off" in found["message"]) == (False, True)


def test_playground__asks_for_a_token(bundles, browser):
    with Running(bundles, "--no-preload", token="a-token-of-ours", LUMORA_TOKENS="a-token-of-ours") as server:
        browser.visit(f"{server.url}/playground")
        until(lambda: browser.run("!document.getElementById('asked').hidden"))
        browser.run(
            """(() => { const input = document.getElementById("token"); input.value = "a-token-of-ours";
            input.dispatchEvent(new Event("change")); })()"""
        )
        choose(browser, "animals", a_picture())
        assert said(browser)["shown"]


def test_pages__of_others_cannot_ask_for_predictions(server, tmp_path):
    before = len(server.log)
    with (
        ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as other,
        Browser() as browser,
    ):
        threading.Thread(target=other.serve_forever, daemon=True).start()
        browser.visit(f"http://127.0.0.1:{other.server_port}")
        browser.run(
            f"""(() => {{
                const body = new FormData(), place = "{server.url}/predict/animals";
                body.append("image", new Blob(["picture"]));
                return fetch(place, {{ method: "POST", mode: "no-cors", body }}).then(() => 0);
            }})()"""
        )
        other.shutdown()
    [line] = until(lambda: [line for line in server.log[before:] if line["message"] == "request"], server)
    assert (line["path"], line["status"]) == ("/predict/animals", 403)


def test_docs__lists_every_route(server, browser):
    browser.visit(f"{server.url}/docs", 390)
    until(lambda: browser.run("document.querySelectorAll('summary').length"))
    shown = browser.run("[...document.querySelectorAll('summary')].map(one => one.textContent)")
    described = server.client.get("/openapi.json").json()["paths"]
    assert sorted(shown) == sorted(verb.upper() + path for path, verbs in described.items() for verb in verbs)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.complaints == []
