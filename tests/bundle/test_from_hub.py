"""Bundles in repositories of a Hub of our own."""

import pickle

import pytest
import torch
from tests.bundle.making import logits
from tests.hub_server import TOKEN, Client, FailedError, serving

import lumora
from lumora.bundle import load, read_about, write

REPOSITORY = "me/foxes"

pytestmark = pytest.mark.slow  # each client is a new process


@pytest.fixture
def hub():
    with serving() as hub:
        yield hub


@pytest.fixture
def client(hub, tmp_path):
    return Client(hub.url, tmp_path / "home")


def loaded_logits(where):
    """Plain values, which need no torch to travel."""
    return logits(load(where).model, 32).tolist()


def test_load__takes_a_repository(hub, client, vit):
    folder, model, _ = vit
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps("not asked for"))
    hub.add(REPOSITORY, folder)
    torch.testing.assert_close(torch.tensor(client.run(loaded_logits, REPOSITORY)), logits(model, 32))
    fetched = {path.name for path in (client.home).rglob("snapshots/*/*")}
    assert fetched == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "lumora.json",
        "manifest.json",
        "preprocessor_config.json",
        "proof.safetensors",
    }


def labels_of(where):
    return read_about(where).labels.names


def test_read_about__fetches_nothing_else(hub, client, vit):
    folder, _, about = vit
    hub.add(REPOSITORY, folder)
    assert client.run(labels_of, REPOSITORY) == about.labels.names
    assert [path.name for path in client.home.rglob("snapshots/*/*")] == ["lumora.json"]
    with pytest.raises(FailedError, match=r"HubError.*no such repository"):
        client.run(labels_of, "me/nothing")


def test_load__refuses_a_repository_that_is_not_whole(hub, client, vit):
    folder, _, _ = vit
    content = bytearray((folder / "adapter_model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(content)
    hub.add(REPOSITORY, folder)
    with pytest.raises(FailedError, match=r"BundleError.*\n.*adapter_model\.safetensors is damaged"):
        client.run(loaded_logits, REPOSITORY)
    (folder / "adapter_model.safetensors").unlink()
    hub.add("me/other", folder)
    with pytest.raises(
        FailedError, match=r"BundleError.*'me/other' is no bundle: .*no file 'adapter_model\.safetensors'"
    ):
        client.run(loaded_logits, "me/other")


def test_load__refuses_a_repository_that_is_no_bundle(hub, client, vit, tmp_path):
    _, model, _ = vit
    model.save_pretrained(tmp_path / "adapter")
    hub.add(REPOSITORY, tmp_path / "adapter")
    with pytest.raises(FailedError, match=r"BundleError.*'me/foxes' is no bundle: .*no file 'lumora\.json'"):
        client.run(loaded_logits, REPOSITORY)
    with pytest.raises(FailedError, match=r"HubError.*no folder 'me/nothing' here and no such repository"):
        client.run(loaded_logits, "me/nothing")


def said(where, **options):
    """What `lumora.load` gives."""
    return logits(lumora.load(where, device="cpu", **options).model, 32).tolist()


def test_load__takes_a_revision_and_a_token(hub, client, vit, tmp_path):
    folder, model, about = vit
    old = hub.add("user/foxes", folder, private=True)
    before = logits(model, 32)
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).add_(1.0)
    write(tmp_path / "newer", model, about)
    hub.add("user/foxes", tmp_path / "newer", branch="draft")
    with pytest.raises(FailedError, match=r"HubError.*if it is private, give a token"):
        client.run(said, "user/foxes")
    for options, expected in [({}, before), ({"revision": "draft"}, logits(model, 32)), ({"revision": old}, before)]:
        found = client.run(said, "user/foxes", token=TOKEN, **options)
        torch.testing.assert_close(torch.tensor(found), expected)
    with pytest.raises(FailedError, match=r"HubError.*has no revision 'nothing'"):
        client.run(said, "user/foxes", token=TOKEN, revision="nothing")


def test_load__a_folder_has_no_revisions(vit):
    folder, _, _ = vit
    for read in (load, lumora.load, read_about):
        with pytest.raises(lumora.LumoraError, match=r"is a folder here, which has no revision 'draft'; leave it out"):
            read(folder, revision="draft")
