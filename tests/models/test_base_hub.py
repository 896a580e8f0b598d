"""Bases from the Hub, or rather from one of our own: fetched once, then from the cache, and what is said otherwise."""

from __future__ import annotations

import json
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.hub_server import Hub, serving
from tests.models import checkpoints

from lumora.errors import LumoraError
from lumora.models import load_base
from lumora.models.base import fetch_base

VIT = "user/vit"
PROCESSOR = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}, "resample": 3}
PROCESSOR |= {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


class Here:
    """Runs a function here, with the settings that the Hub's client read when it was imported made anew.

    A process for each call, as `Client` has, would spend its time importing transformers.
    """

    def __init__(self, endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self.monkeypatch = home, monkeypatch
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        self.set(HF_HUB_CACHE=str(home / "hub"), HF_HUB_DISABLE_XET=True)
        self.connect(endpoint)

    def set(self, **settings: Any) -> None:
        for name, value in settings.items():
            self.monkeypatch.setattr(huggingface_hub.constants, name, value)

    def connect(self, endpoint: str) -> None:
        template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        self.set(ENDPOINT=endpoint, HUGGINGFACE_CO_URL_TEMPLATE=template)

    def disconnect(self) -> None:
        """Ask where nobody is."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.connect(f"http://127.0.0.1:{listener.getsockname()[1]}")

    def run(self, work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)


@pytest.fixture
def client(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    return Here(hub.url, tmp_path / "home", monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "vit"
    checkpoints.backbone("vit").save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return folder


def facts_of(name: str, **options: Any) -> dict[str, Any]:
    """What a process finds out about a base; plain values, which travel."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        base = load_base(name, task="classification", num_labels=3, **options)
    return {
        "fingerprint": base.fingerprint,
        "mean": base.preprocessing.mean,
        "origin": base.preprocessing.origin,
        "licence": base.licence,
        "source": base.source,
        "heads": base.heads,
        "name": getattr(getattr(base.module, "config", None), "name_or_path", None),
        "warned": [str(w.message) for w in caught if "Lumora" in w.category.__name__],
    }


def segmenter_of(name: str) -> list[Any]:
    base = load_base(name, task="segmentation", num_labels=3)
    return [base.fingerprint, base.preprocessing.mean, base.heads]


def structure_of(name: str) -> int:
    return len(load_base(name, task="classification", num_labels=3, meta=True).targets)


def test_hub__base_has_the_checkpoints_weights_and_facts(hub: Hub, client: Here, folder: Path) -> None:
    hub.add(VIT, folder)
    found = client.run(facts_of, VIT)
    here = load_base(str(folder), task="classification", num_labels=3)
    assert found == {
        "fingerprint": here.fingerprint,
        "mean": (0.1, 0.2, 0.3),
        "origin": "preprocessor_config.json",
        "licence": "mit",
        "source": f"https://huggingface.co/{VIT}",
        "heads": ("classifier",),
        "name": VIT,
        "warned": [],
    }


def test_hub__a_cached_base_asks_the_network_nothing(hub: Hub, client: Here, folder: Path) -> None:
    hub.add(VIT, folder)
    first = client.run(facts_of, VIT)
    asked = len(hub.requests)
    assert client.run(facts_of, VIT) == first
    assert len(hub.requests) == asked
    client.disconnect()
    assert client.run(facts_of, VIT) == first


@pytest.mark.parametrize("shard", ["50GB", "20kB"])
def test_hub__a_base_that_was_fetched_before_asks_the_network_nothing(
    hub: Hub, client: Here, folder: Path, shard: str
) -> None:
    (folder / "model.safetensors").unlink()
    checkpoints.backbone("vit").save_pretrained(folder, max_shard_size=shard)
    hub.add(VIT, folder)
    client.run(fetch_base, VIT)
    client.disconnect()
    here = load_base(str(folder), task="classification", num_labels=3)
    found = client.run(facts_of, VIT)
    assert (found["fingerprint"], found["licence"], found["warned"]) == (here.fingerprint, "mit", [])


def test_hub__shards_are_fetched(hub: Hub, client: Here, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    checkpoints.backbone("vit").save_pretrained(folder, max_shard_size="20kB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    hub.add(VIT, folder)
    here = load_base(str(folder), task="classification", num_labels=3)
    assert client.run(facts_of, VIT)["fingerprint"] == here.fingerprint


def test_hub__files_are_of_one_commit(hub: Hub, client: Here, folder: Path) -> None:
    hub.add(VIT, folder)
    client.run(structure_of, VIT)  # fetches the configuration alone
    before = load_base(str(folder), task="classification", num_labels=3).fingerprint
    transformers.ViTModel(checkpoints.config("vit")).save_pretrained(folder)
    hub.add(VIT, folder)
    assert client.run(facts_of, VIT)["fingerprint"] == before


def test_hub__structure_needs_no_weights(hub: Hub, client: Here, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    hub.add(VIT, folder)
    assert client.run(structure_of, VIT) > 0


def test_hub__without_preprocessing_the_architectures_is_taken(hub: Hub, client: Here, folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    hub.add(VIT, folder)
    found = client.run(facts_of, VIT)
    assert found["mean"] == (0.5, 0.5, 0.5)
    assert found["origin"] == "the usual values of vit; the checkpoint brings none"
    assert found["warned"] == []


def test_hub__preprocessing_that_cannot_be_seen_is_warned_about(hub: Hub, client: Here, folder: Path) -> None:
    hub.add(VIT, folder)
    client.run(facts_of, VIT)
    cached = list((client.home / "hub").rglob("preprocessor_config.json"))
    assert len(cached) == 1
    cached[0].unlink()
    client.disconnect()
    found = client.run(facts_of, VIT)
    assert "could not be seen" in found["warned"][0]
    assert found["mean"] == (0.5, 0.5, 0.5)


class Trap:
    """What opening a pickle of it does: it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_hub__tensors_in_torchs_own_file_are_the_same_base(hub: Hub, client: Here, folder: Path) -> None:
    hub.add(VIT, folder)
    before = client.run(facts_of, VIT)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    hub.add("user/old", folder)
    assert client.run(facts_of, "user/old")["fingerprint"] == before["fingerprint"]


def test_hub__torchs_own_file_is_not_fetched_where_there_are_safetensors(
    hub: Hub, client: Here, folder: Path, tmp_path: Path
) -> None:
    torch.save({"trap": Trap(tmp_path / "ran")}, folder / "pytorch_model.bin")
    hub.add(VIT, folder)
    client.run(facts_of, VIT)
    assert not any("pytorch_model" in path for _, path, _ in hub.requests)


def test_hub__a_pickle_of_more_than_tensors_does_not_run(hub: Hub, client: Here, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"trap": Trap(tmp_path / "ran")}, folder / "pytorch_model.bin")
    hub.add(VIT, folder)
    with pytest.raises(LumoraError, match=r"pytorch_model\.bin is no file of tensors alone.*not opened"):
        client.run(facts_of, VIT)
    assert not (tmp_path / "ran").exists()


def test_hub__a_pickle_in_timms_repository_does_not_run(hub: Hub, client: Here, tmp_path: Path) -> None:
    (tmp_path / "timm").mkdir()
    torch.save({"trap": Trap(tmp_path / "ran")}, tmp_path / "timm" / "pytorch_model.bin")
    hub.add("timm/lcnet_050.ra2_in1k", tmp_path / "timm")
    with pytest.raises(LumoraError, match=r"weights of timm's 'lcnet_050' could not be loaded.*blocked"):
        client.run(facts_of, "timm/lcnet_050")
    assert any("pytorch_model.bin" in path for _, path, _ in hub.requests)
    assert not (tmp_path / "ran").exists()


def test_hub__a_pickle_in_smps_repository_is_not_fetched(hub: Hub, client: Here, tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    settings = smp.encoders.encoders["mobilenet_v2"]["pretrained_settings"]["imagenet"]
    (tmp_path / "smp").mkdir()
    (tmp_path / "smp" / "config.json").write_text("{}")
    torch.save({"trap": Trap(tmp_path / "ran")}, tmp_path / "smp" / "pytorch_model.bin")
    sha = hub.add(settings["repo_id"], tmp_path / "smp")
    repository = hub.repositories[settings["repo_id"]]
    repository.commits[settings["revision"]] = repository.commits[sha]
    with pytest.raises(LumoraError, match=r"encoder 'mobilenet_v2' are not in model\.safetensors.*no pickles"):
        client.run(segmenter_of, "smp/unet?encoder=mobilenet_v2")
    assert not any("pytorch_model" in path for _, path, _ in hub.requests)
    assert not (tmp_path / "ran").exists()


def test_hub__no_such_repository(hub: Hub, client: Here) -> None:
    with pytest.raises(LumoraError, match="no such repository on the Hub"):
        client.run(facts_of, "user/nothing")


def test_hub__nobody_there(client: Here) -> None:
    client.disconnect()
    with pytest.raises(LumoraError, match="the Hub cannot be reached"):
        client.run(facts_of, VIT)
    with pytest.raises(LumoraError, match=r"timm/resnet18\.a1_in1k.*the Hub cannot be reached"):
        client.run(facts_of, "timm/resnet18.a1_in1k")
    with pytest.raises(LumoraError, match=r"smp-hub/resnet18\.imagenet.*the Hub cannot be reached"):
        client.run(segmenter_of, "smp/unet?encoder=resnet18")


def test_hub__timms_weights(hub: Hub, client: Here, tmp_path: Path) -> None:
    import timm

    model = timm.create_model("lcnet_050")
    (tmp_path / "timm").mkdir()
    save_file(model.state_dict(), tmp_path / "timm" / "model.safetensors")
    hub.add("timm/lcnet_050.ra2_in1k", tmp_path / "timm")
    found = client.run(facts_of, "timm/lcnet_050")
    here = load_base(model, task="classification", num_labels=3)
    assert found["fingerprint"] == here.fingerprint
    assert found["licence"] == "apache-2.0"
    assert found["source"] == "https://huggingface.co/timm/lcnet_050.ra2_in1k"
    client.disconnect()
    assert client.run(facts_of, "timm/lcnet_050") == found


def test_hub__smps_weights(hub: Hub, client: Here, tmp_path: Path) -> None:
    import segmentation_models_pytorch as smp

    model = smp.Unet("mobilenet_v2", encoder_weights=None)
    settings = smp.encoders.encoders["mobilenet_v2"]["pretrained_settings"]["imagenet"]
    (tmp_path / "smp").mkdir()
    save_file(model.encoder.state_dict(), tmp_path / "smp" / "model.safetensors")
    config = {"mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0], "input_range": [0, 1], "input_space": "RGB"}
    (tmp_path / "smp" / "config.json").write_text(json.dumps(config))
    sha = hub.add(settings["repo_id"], tmp_path / "smp")
    repository = hub.repositories[settings["repo_id"]]
    repository.commits[settings["revision"]] = repository.commits[sha]
    fingerprint, mean, heads = client.run(segmenter_of, "smp/unet?encoder=mobilenet_v2")
    here = load_base(model, task="segmentation", num_labels=3, heads=["decoder", "segmentation_head"])
    assert fingerprint == here.fingerprint
    assert mean == (0.1, 0.2, 0.3)
    assert heads == ("decoder", "segmentation_head")
