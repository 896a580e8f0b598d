"""The Hub, or rather one of our own: sending adapters, fetching them, and what is said when that does not work."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.hub_server import TOKEN, Client, FailedError, Hub, serving
from tests.lora.adapter_folders import CONFIG, PICKLE, WEIGHTS, adapted, base, bytes_of, pixels, tensors_of

from lumora import LoraConfig, PeftConfig, PeftModel

ADAPTER = "user/adapter"
CARD = "README.md"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub.url, tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adapted().save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


# What the client's processes do. They give back plain values, which need no torch to travel.


def load(where: str = ADAPTER, **options: Any) -> list[Any]:
    """An adapter from the Hub: everything that its tensors hold, and an output."""
    from_hub = PeftModel.from_pretrained(base(), where, **options)
    return [{k: v.tolist() for k, v in tensors_of(from_hub).items()}, from_hub(pixels()).tolist()]


def expected(model: PeftModel | None = None) -> list[Any]:
    model = model or adapted()
    return [{k: v.tolist() for k, v in tensors_of(model).items()}, model(pixels()).tolist()]


def load_config(**options: Any) -> dict[str, Any]:
    return PeftConfig.from_pretrained(ADAPTER, **options).to_dict()


def push(repo_id: str = ADAPTER, model: dict[str, Any] | None = None, **options: Any) -> str:
    return adapted(**model or {}).push_to_hub(repo_id, **options)


def save_and_push(folder: Path, **options: Any) -> None:
    model = adapted()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["body"]))
    model.save_pretrained(folder, push_to_hub=True, token=TOKEN, **options)


# --- sending ----------------------------------------------------------------------------------------------------------


def test_push__makes_a_repository_that_holds_the_adapter(hub: Hub, client: Client, folder: Path) -> None:
    address = client.run(push, token=TOKEN)
    repository = hub.repositories[ADAPTER]
    assert address == f"{hub.url}/{ADAPTER}/commit/{repository.branches['main']}"
    assert {k: v for k, v in repository.files().items() if k != ".gitattributes"} == bytes_of(folder)
    assert not repository.private and repository.messages[-1] == "Upload adapter"
    assert ("PUT", f"/storage/{next(iter(hub.large))}", False) in hub.requests  # no token for the other host
    assert client.run(load) == expected()


def test_push__again_changes_what_has_changed(hub: Hub, client: Client) -> None:
    client.run(push, token=TOKEN)
    client.run(push, model={"r": 1}, token=TOKEN, commit_message="Smaller", private=True)
    repository = hub.repositories[ADAPTER]
    assert json.loads(repository.files()[CONFIG])["r"] == 1
    assert repository.messages[-1] == "Smaller" and not repository.private
    commits = len(repository.commits)
    client.run(push, model={"r": 1}, token=TOKEN)
    assert len(repository.commits) == commits


def test_push__to_a_private_repository_a_branch_and_a_request(hub: Hub, client: Client) -> None:
    client.run(push, token=TOKEN, private=True, revision="trial")
    repository = hub.repositories[ADAPTER]
    assert repository.private
    assert WEIGHTS in repository.files("trial") and WEIGHTS not in repository.files("main")
    client.run(push, token=TOKEN, create_pr=True)
    assert any(name.startswith("refs/pr/") and WEIGHTS in repository.files(name) for name in repository.branches)
    assert WEIGHTS not in repository.files("main")


def test_save_and_push__sends_what_it_wrote_and_nothing_else(hub: Hub, client: Client, tmp_path: Path) -> None:
    home = tmp_path / "run"
    home.mkdir()
    (home / "secret.txt").write_text("not to be sent")
    (home / f".{WEIGHTS}.1234").write_text("left over from a save that was killed")
    (home / CARD).write_text("# My own card\n")
    client.run(save_and_push, home, repo_id=ADAPTER)
    sent = hub.repositories[ADAPTER].files()
    files = {CONFIG, WEIGHTS, CARD}
    assert sent.keys() - {".gitattributes"} == files | {f"second/{name}" for name in files}
    assert sent[CARD] == b"# My own card\n"


def test_save_and_push__takes_the_name_of_the_folder(hub: Hub, client: Client, tmp_path: Path) -> None:
    client.run(save_and_push, tmp_path / "leaves-r2", selected_adapters=["default"])
    assert hub.repositories.keys() == {"user/leaves-r2"}
    assert "second/" + WEIGHTS not in hub.repositories["user/leaves-r2"].files()


def test_save_and_push__only_in_the_main_process(hub: Hub, client: Client, tmp_path: Path) -> None:
    client.run(save_and_push, tmp_path / "run", is_main_process=False)
    assert not hub.repositories and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "token"),
        ({"token": "hf_wrong"}, "refused the token"),
        ({"token": TOKEN, "repo_id": "other/adapter"}, "refused the token"),
        ({"token": TOKEN, "repo_id": "a/b/c"}, "not a name for a repository"),
        ({"token": TOKEN, "repo_id": "bad name!"}, "not a name for a repository"),
    ],
)
def test_push__that_is_not_allowed_says_why(hub: Hub, client: Client, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FailedError, match=rf"HubError: .*{message}"):
        client.run(push, **options)
    assert not hub.repositories


def test_push__that_the_hub_breaks_off_is_reported(hub: Hub, client: Client, tmp_path: Path) -> None:
    hub.broken.add(f"/api/models/{ADAPTER}/commit")
    with pytest.raises(FailedError, match=r"HubError: Nothing was sent to 'user/adapter'"):
        client.run(save_and_push, tmp_path / "run", repo_id=ADAPTER)
    assert WEIGHTS not in hub.repositories[ADAPTER].files()
    assert WEIGHTS in bytes_of(tmp_path / "run")


# --- fetching ---------------------------------------------------------------------------------------------------------


def test_load__from_a_branch_a_commit_and_a_request(hub: Hub, client: Client, folder: Path) -> None:
    first = hub.add(ADAPTER, folder)
    other = adapted(r=1)
    shutil.rmtree(folder)
    other.save_pretrained(folder)
    hub.add(ADAPTER, folder, branch="small")
    hub.add(ADAPTER, folder, branch="refs/pr/1")
    hub.add(ADAPTER, folder)
    assert client.run(load, revision=first) == expected()
    for revision in ("small", "refs/pr/1", "main", None):
        assert client.run(load, revision=revision) == expected(other)


def test_load__fetches_nothing_twice(hub: Hub, client: Client, folder: Path) -> None:
    hub.add(ADAPTER, folder)
    client.run(load)
    hub.requests.clear()
    client.run(load)
    assert {method for method, _, _ in hub.requests} == {"HEAD"}
    client.run(load, force_download=True)
    assert ("GET", f"/{ADAPTER}/resolve/main/{CONFIG}", False) in hub.requests


def test_load__sees_a_newer_version(hub: Hub, client: Client, folder: Path) -> None:
    hub.add(ADAPTER, folder)
    client.run(load)
    other = adapted(lora_alpha=11)
    other.save_pretrained(folder)
    hub.add(ADAPTER, folder)
    assert client.run(load) == expected(other)


def test_load__of_a_private_repository_needs_its_token(hub: Hub, client: Client, folder: Path) -> None:
    hub.add(ADAPTER, folder, private=True)
    hub.tokens["hf_stranger"] = "stranger"
    for token in (None, False, "hf_stranger"):
        with pytest.raises(
            FailedError, match=r"HubError: .*no such repository on the Hub; if it is private, give a token"
        ):
            client.run(load, token=token)
    assert client.run(load, token=TOKEN) == expected()
    assert ("GET", f"/{ADAPTER}/resolve/main/{CONFIG}", True) in hub.requests
    assert not any(token for _, path, token in hub.requests if path.startswith("/storage/"))


def test_load__of_a_subfolder(hub: Hub, client: Client, tmp_path: Path) -> None:
    adapted().save_pretrained(tmp_path / "all" / "inner" / "second")
    hub.add(ADAPTER, tmp_path / "all")
    assert client.run(load, subfolder="inner/second") == expected()
    with pytest.raises(FailedError, match=rf"AdapterFileError: .*no file '{CONFIG}'"):
        client.run(load)


def test_configuration__comes_without_the_weights(hub: Hub, client: Client, folder: Path) -> None:
    sha = hub.add(ADAPTER, folder)
    assert client.run(load_config, revision=sha) == PeftConfig.from_pretrained(str(folder)).to_dict()
    assert not any(WEIGHTS in path for _, path, _ in hub.requests)


def test_folder__here_comes_before_a_repository_of_that_name(hub: Hub, client: Client, folder: Path) -> None:
    assert client.run(load, str(folder)) == expected()
    assert not hub.requests


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"where": "user/nothing"}, "HubError: .*no folder 'user/nothing' here and no such repository"),
        ({"revision": "nowhere"}, "HubError: .*no revision 'nowhere'"),
        ({"revision": "0" * 40}, "HubError: .*no revision"),
        ({"subfolder": "missing"}, f"AdapterFileError: .*no file 'missing/{CONFIG}'"),
        ({"token": "hf_wrong"}, "HubError: .*refused the token"),
        ({"where": "a/b/c"}, "AdapterFileError: .*neither a folder here nor the name of a repository"),
        ({"where": "user/gated"}, "HubError: .*gated"),
    ],
    ids=["repository", "branch", "commit", "subfolder", "token", "name", "gated"],
)
def test_load__that_cannot_be_says_why(
    hub: Hub, client: Client, folder: Path, options: dict[str, Any], error: str
) -> None:
    hub.add(ADAPTER, folder)
    hub.add("user/gated", folder, gated=True)
    with pytest.raises(FailedError, match=error):
        client.run(load, **options)


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_load__of_half_an_adapter_names_the_missing_file(hub: Hub, client: Client, folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    hub.add(ADAPTER, folder)
    with pytest.raises(FailedError, match=rf"AdapterFileError: .*{missing}"):
        client.run(load)


def test_pickle__is_not_even_fetched_unless_allowed(hub: Hub, client: Client, folder: Path) -> None:
    import safetensors.torch
    import torch

    torch.save(safetensors.torch.load_file(folder / WEIGHTS), folder / PICKLE)
    (folder / WEIGHTS).unlink()
    hub.add(ADAPTER, folder)
    with pytest.raises(FailedError, match=r"AdapterFileError: .*allow_pickle=True"):
        client.run(load)
    assert not any(method == "GET" and PICKLE in path for method, path, _ in hub.requests)
    assert client.run(load, allow_pickle=True) == expected()


# --- without a network ------------------------------------------------------------------------------------------------


def offline(client: Client) -> Client:
    return Client(client.endpoint, client.home, {"HF_HUB_OFFLINE": "1"})


def test_cache__serves_while_the_hub_is_away(hub: Hub, client: Client, folder: Path) -> None:
    sha = hub.add(ADAPTER, folder)
    client.run(load)
    asked = len(hub.requests)
    assert offline(client).run(load) == expected()
    assert client.run(load, local_files_only=True) == expected()
    assert client.run(load, revision=sha) == expected()
    assert len(hub.requests) == asked
    hub.stop()
    assert client.run(load) == expected()
    assert client.run(load, revision=sha) == expected()
    assert client.run(load_config) == PeftConfig.from_pretrained(str(folder)).to_dict()


def test_missing_network__is_said_at_once(hub: Hub, client: Client, folder: Path) -> None:
    # Left to itself, the Hub's client retries for longer than the seconds that are granted here.
    hub.add(ADAPTER, folder)
    hub.stop()
    message = "HubError: .*the Hub cannot be reached"
    for work, options in ((load, {}), (load_config, {}), (load, {"force_download": True}), (push, {"token": TOKEN})):
        with pytest.raises(FailedError, match=message):
            client.run(work, seconds=20, **options)
    for options in ({}, {"force_download": True}):
        with pytest.raises(FailedError, match=r"HubError: .*(cannot be reached|offline)"):
            offline(client).run(load, seconds=20, **options)
    with pytest.raises(FailedError, match=r"HubError: .*(cannot be reached|offline)"):
        offline(client).run(push, token=TOKEN, seconds=20)
    with pytest.raises(FailedError, match=r"HubError: .*not in the cache"):
        client.run(load, local_files_only=True, seconds=20)


def test_half_a_cache__is_no_broken_adapter(hub: Hub, client: Client, folder: Path) -> None:
    hub.add(ADAPTER, folder)
    client.run(load_config)
    hub.stop()
    for someone in (client, offline(client)):
        with pytest.raises(FailedError, match=rf"HubError: .*{WEIGHTS} (is not in the cache|could not be fetched)"):
            someone.run(load, seconds=20)


def test_pickle__in_the_cache_serves_while_the_hub_is_away(hub: Hub, client: Client, folder: Path) -> None:
    import safetensors.torch
    import torch

    torch.save(safetensors.torch.load_file(folder / WEIGHTS), folder / PICKLE)
    (folder / WEIGHTS).unlink()
    hub.add(ADAPTER, folder)
    client.run(load, allow_pickle=True)
    hub.stop()
    assert offline(client).run(load, allow_pickle=True) == expected()


def test_hub_that_never_answers__is_given_up(folder: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = Client(endpoint, tmp_path / "home")
        with pytest.raises(FailedError, match=r"HubError: .*cannot be reached"):
            client.run(load_impatiently, seconds=20)


def load_impatiently() -> None:
    from lumora.lora import hub

    hub._PATIENCE = 0.5
    load()
