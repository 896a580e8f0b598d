import pytest
import transformers
from torch import nn

from lumora.errors import LumoraError
from lumora.models import ModelName, build, parse


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("google/vit-base-patch16-224", ModelName("transformers", "google/vit-base-patch16-224")),
        ("./folder", ModelName("transformers", "./folder")),
        ("timm/resnet50.a1_in1k", ModelName("timm", "resnet50.a1_in1k")),
        ("torchvision/vit_b_16", ModelName("torchvision", "vit_b_16")),
        ("python:package.module:factory", ModelName("python", "package.module:factory")),
    ],
)
def test_parse__tells_the_library_by_the_first_part(name, expected):
    assert parse(name) == expected


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/resnet18.a1_in1k", "torchvision/fcn_resnet50"])
def test_build__on_meta_has_structure_and_no_memory(name):
    assert {p.device.type for p in build(name, meta=True).parameters()} == {"meta"}


def test_build__on_meta_gives_the_class_that_a_checkpoint_was_saved_from(vit_folder):
    model = build(str(vit_folder), meta=True)
    assert type(model) is transformers.ViTForImageClassification
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_build__loads_the_weights_of_a_folder(vit_folder, vit):
    loaded = build(str(vit_folder)).state_dict()
    assert all(loaded[key].equal(value) for key, value in vit.state_dict().items())


def test_build__class_names_from_a_file_are_taken_only_if_they_are_models(vit_folder):
    config = vit_folder / "config.json"
    config.write_text(config.read_text().replace("ViTForImageClassification", "pipeline"))
    assert type(build(str(vit_folder), meta=True)) is transformers.ViTModel


def test_build__remote_code_is_refused_and_not_run(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "code.Config"}}')
    (tmp_path / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(LumoraError, match="transformers"):
        build(str(tmp_path), meta=True)
    assert not (tmp_path / "ran").exists()


def test_build__constructor_that_computes_with_weights_gets_real_ones():
    model = build("torchvision/regnet_x_400mf", meta=True)
    assert {p.device.type for p in model.parameters()} == {"cpu"}


@pytest.fixture
def module_here(tmp_path, monkeypatch):
    """A module `my_models` with functions of all sorts."""
    (tmp_path / "my_models.py").write_text(
        "from torch import nn\n"
        "def small(): return nn.Linear(3, 2)\n"
        "def sized(width): return nn.Linear(width, 2)\n"
        "def words(): return 'no model'\n"
        "made = nn.Linear(2, 2)\n"
    )
    (tmp_path / "my_broken.py").write_text("import a_library_that_is_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("module_here")
def test_build__python_names_call_the_function():
    assert isinstance(build("python:my_models:small"), nn.Linear)
    assert build("python:my_models:small", meta=True).weight.device.type == "meta"
    assert build("python:my_models:made").in_features == 2


@pytest.mark.usefixtures("module_here")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/resnet5O", r"no model 'resnet5O' \(did you mean timm/resnet50"),
        ("timm/resnet18.a1_in2k", r"no weights 'a1_in2k' \(did you mean timm/resnet18.a1_in1k"),
        ("torchvision/vit_b_17", r"no model 'vit_b_17' \(did you mean torchvision/vit_b_16"),
        ("python:my_models", "must name a function in a module"),
        ("python:my_modells:small", "no module 'my_modells'"),
        ("python:my_broken:small", "needs 'a_library_that_is_not_installed'"),
        ("python:my_models:smal", r"no function 'smal' \(did you mean small"),
        ("python:my_models:sized", "needs width"),
        ("python:my_models:words", "gives a str"),
        ("resnet5O", r"no folder 'resnet5O' \(did you mean timm/resnet50"),
    ],
)
def test_build__names_that_do_not_exist_are_answered_with_what_does(name, message):
    with pytest.raises(LumoraError, match=message):
        build(name, meta=True)
