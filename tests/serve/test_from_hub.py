"""Bundles that a running server fetches from a Hub of our own."""

from pathlib import Path

import pytest
from tests.hub_server import serving
from tests.serve.making import base_folder, bundle
from tests.serve.pictures import a_picture
from tests.serve.running import Running
from tests.serve.test_server import check_labels

pytestmark = pytest.mark.slow


@pytest.fixture
def hub():
    with serving() as hub:
        yield hub


@pytest.fixture
def client_of(hub, tmp_path, monkeypatch):
    """What the Hub's client is told about this Hub."""
    monkeypatch.chdir(tmp_path)
    here = "127.0.0.1,localhost"
    return {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "",
        "NO_PROXY": here,
        "no_proxy": here,
    }


@pytest.fixture
def folders(hub, tmp_path):
    """Three bundles, the first two of which are repositories; the last one is another training of the second."""
    given = base_folder("vit", tmp_path / "base")
    made = {name: bundle(tmp_path / "made" / name, *given, seed=i) for i, name in enumerate(("foxes", "owls", "newer"))}
    hub.add("user/foxes", made["foxes"])
    hub.add("user/owls", made["owls"])
    hub.add("user/owls", made["newer"], branch="newer")
    bundle(tmp_path / "user/here", *given)  # which no name of a repository means
    return tmp_path / "made"


def fetched(client_of):
    return sorted(path.name for path in Path(client_of["HF_HOME"]).rglob("snapshots/*/*"))


def check(server, name, folders, made):
    picture = a_picture(7)
    check_labels(server.client.post(f"/predict/{name}", files={"image": picture}).json(), folders, made, picture)


def test_serve__takes_repositories(client_of, folders):
    with Running("user/foxes", "birds=user/owls", "--no-preload", **client_of) as server:
        about = server.client.get("/v2/models/foxes").json()
        assert fetched(client_of) == ["lumora.json", "manifest.json"]
        check(server, "foxes", folders, "foxes")
        check(server, "birds", folders, "owls")
        listed = server.client.get("/bundles").json()["bundles"]
        assert [one["name"] for one in listed] == ["foxes", "birds"]
        assert [listed[0]["version"]] == about["versions"]
        assert server.client.put("/admin/bundles/more", json={"repository": "user/owls"}).status_code == 403


def test_admin__adds_repositories_where_that_is_allowed(client_of, folders):
    with Running("user/foxes", "--hub", **client_of) as server:

        def put(name, **wish):
            return server.client.put(f"/admin/bundles/{name}", json=wish)

        first = put("owls", repository="user/owls")
        assert (first.status_code, first.json()["why_alone"]) == (200, None)
        check(server, "owls", folders, "owls")
        newer = put("owls", repository="user/owls", revision="newer").json()
        assert newer["version"] != first.json()["version"]
        check(server, "owls", folders, "newer")
        for wish in ({"repository": "user/nothing"}, {"repository": "user/owls", "revision": "older"}):
            assert put("owls", **wish).status_code == 422
        assert put("here", repository="user/here").status_code == 422
        check(server, "owls", folders, "newer")
        assert server.client.delete("/admin/bundles/owls").status_code == 200
        assert server.client.put("/admin/bundles/owls").json()["version"] == newer["version"]
        assert server.logged("a bundle cannot be added")["bundle"] == "owls"
