"""Bundles sent to a Hub of our own, and fetched from there."""

import shutil

import pytest
import torch
from tests.bundle.making import logits
from tests.hub_server import TOKEN, Client, FailedError, serving

from lumora.bundle import load
from lumora.bundle.hub import pull, push
from lumora.data.durable import check_folder

REPOSITORY = "user/foxes"

pytestmark = pytest.mark.slow  # each client is a new process


@pytest.fixture
def hub():
    with serving() as hub:
        yield hub


@pytest.fixture
def client(hub, tmp_path):
    return Client(hub.url, tmp_path / "home")


def push_it(folder, repository=REPOSITORY, **options):
    return push(folder, repository, token=TOKEN, **options)


def pull_it(repository, folder, **options):
    return str(pull(repository, folder, token=TOKEN, **options))


def test_push__and_pull_give_the_same_bundle(hub, client, vit, tmp_path):
    folder, model, about = vit
    (folder / "notes.txt").write_text("mine alone")
    address = client.run(push_it, str(folder), private=True, seconds=300)
    assert "/user/foxes/commit/" in address
    there = hub.repositories[REPOSITORY]
    assert there.private
    assert sorted(there.files()) == sorted(
        [".gitattributes", *(p.name for p in folder.iterdir() if p.suffix != ".txt")]
    )
    card = there.files()["README.md"].decode()
    assert 'lumora.load("user/foxes")' in card
    assert f"{sum(p.numel() for p in model.parameters() if p.requires_grad):,} numbers are kept here" in card
    for name in ("adapter_model.safetensors", "lumora.json", "manifest.json"):
        assert there.files()[name] == (folder / name).read_bytes()
    client.run(pull_it, REPOSITORY, str(tmp_path / "here"), seconds=300)
    assert check_folder(tmp_path / "here") == []
    loaded = load(tmp_path / "here")
    assert loaded.about == about
    torch.testing.assert_close(logits(loaded.model, 32), logits(model, 32))


def test_push__keeps_a_card_that_was_edited(hub, client, vit):
    folder, _, _ = vit
    (folder / "README.md").write_text("My own words.")
    client.run(push_it, str(folder), revision="draft", seconds=300)
    assert hub.repositories[REPOSITORY].files("draft")["README.md"] == b"My own words."


def test_push__sends_nothing_that_is_damaged(hub, client, vit, tmp_path):
    folder, _, _ = vit
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(FailedError, match=r"BundleError.*does not get the same model.*could not be loaded"):
        client.run(push_it, str(folder), seconds=300)
    (folder / "proof.safetensors").unlink()
    with pytest.raises(FailedError, match=r"BundleError.*\n.*proof\.safetensors is missing"):
        client.run(push_it, str(folder), seconds=300)
    assert REPOSITORY not in hub.repositories


def test_pull__keeps_what_was_there_when_the_bundle_is_damaged(hub, client, vit, tmp_path):
    folder, _, _ = vit
    shutil.copytree(folder, tmp_path / "here")
    content = bytearray((folder / "adapter_model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "adapter_model.safetensors").write_bytes(content)
    hub.add(REPOSITORY, folder)
    with pytest.raises(FailedError, match=r"BundleError.*\n.*adapter_model\.safetensors is damaged"):
        client.run(pull_it, REPOSITORY, str(tmp_path / "here"), seconds=300)
    assert check_folder(tmp_path / "here") == []
    with pytest.raises(FailedError, match=r"BundleError.*is a folder here"):
        client.run(pull_it, str(folder), str(tmp_path / "there"), seconds=300)
