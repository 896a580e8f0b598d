import huggingface_hub
import pytest

from lumora.errors import HubError, LumoraError
from lumora.models import places


def folder_with(path, *files):
    path.mkdir(parents=True)
    for file in files:
        (path / file).write_text("{}")
    return str(path)


def test_is_adapter__looks_at_the_configuration_that_lies_there(tmp_path):
    assert places.is_adapter(folder_with(tmp_path / "adapter", "adapter_config.json"))
    assert not places.is_adapter(folder_with(tmp_path / "model", "config.json"))
    assert places.is_adapter(folder_with(tmp_path / "both", "adapter_config.json", "config.json"))


def test_find__names_what_a_folder_lacks_and_the_adapters_inside_it(tmp_path):
    folder_with(tmp_path / "saved" / "cats", "adapter_config.json")
    with pytest.raises(LumoraError, match=r"no adapter_config.json and no config.json.*folders of their own: cats"):
        places.is_adapter(str(tmp_path / "saved"))


def test_find__a_folder_that_is_not_there_is_never_asked_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(places.hub, "fetch", lambda *_, **__: pytest.fail("asked the Hub"))
    folder_with(tmp_path / "adapters")
    with pytest.raises(LumoraError, match=r"did you mean .*adapters"):
        places.find(str(tmp_path / "adapter"), "config.json")
    monkeypatch.chdir(tmp_path)
    folder_with(tmp_path / "adapters" / "first")
    with pytest.raises(LumoraError, match="did you mean adapters/first"):
        places.find("adapters/frst", "config.json")


def test_find__a_file_is_no_folder(tmp_path):
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(LumoraError, match="is a file"):
        places.find(str(tmp_path / "weights.safetensors"), "config.json")


@pytest.mark.parametrize("name", ["a" * 5000, "~nobody-of-this-name/x", "nul\0byte", ""])
def test_find__names_that_cannot_be_paths_are_refused(name):
    with pytest.raises(LumoraError):
        places.find(name, "config.json")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the Hub with one model in it, and no network."""
    snapshot = tmp_path / "hub" / "models--team--flowers" / "snapshots" / "0123abc"
    folder_with(snapshot, "config.json")
    references = snapshot.parent.parent / "refs"
    references.mkdir()
    (references / "main").write_text("0123abc")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return snapshot


def test_find__takes_the_cached_copy_without_asking(cache):
    assert places.find("team/flowers", "adapter_config.json", "config.json") == cache / "config.json"


@pytest.mark.usefixtures("cache")
def test_find__without_network_says_so_and_names_what_is_cached():
    with pytest.raises(HubError, match=r"cannot be reached.*did you mean team/flowers\?"):
        places.find("team/flower", "config.json")
