"""A bundle of every kind of base comes back as the model that it was written from."""

import json

import pytest
import safetensors.torch
import torch
from tests.bundle.making import (
    KINDS,
    about_of,
    adapted,
    base_of,
    logits,
    pyramid,
    ready_base,
    trained_whole,
    untouched,
)

from lumora.bundle import load, read_about, write
from lumora.bundle.verify import check_outputs
from lumora.data.durable import check_folder
from lumora.lora import PeftModel


def check_comes_back(folder, model, about, **options):
    """What was written gives the same logits, in a model that shares nothing with the one before."""
    loaded = load(folder, **options)
    assert loaded.about == about == read_about(folder)
    assert not any(module.training for module in loaded.model.modules())
    torch.testing.assert_close(logits(loaded.model, about.size[0]), logits(model, about.size[0]))
    mine = {p.data_ptr() for p in model.parameters()}
    assert not mine & {p.data_ptr() for p in loaded.model.parameters()}
    return loaded


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["lora", *(pytest.param(name, marks=pytest.mark.slow) for name in ("head", "full"))])
def test_bundle__comes_back(kind, method, tmp_path):
    base, side = base_of(kind, tmp_path / "base")
    about = about_of(base, side, method)
    model = adapted(base) if method == "lora" else trained_whole(base, only_head=method == "head")
    write(tmp_path / "bundle", model, about)
    assert check_folder(tmp_path / "bundle") == []
    loaded = check_comes_back(tmp_path / "bundle", model, about)
    assert isinstance(loaded.model, PeftModel) == (method == "lora")
    assert loaded.base.heads == base.heads
    check_outputs(tmp_path / "bundle")


def test_bundle__holds_what_it_should_and_no_more(tmp_path):
    base, side = base_of("embedded", None)
    picture = torch.randint(0, 255, (3, 40, 60), dtype=torch.uint8)
    write(tmp_path / "bundle", adapted(base), about_of(base, side), thumbnail=picture)
    assert sorted(path.name for path in (tmp_path / "bundle").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "lumora.json",
        "manifest.json",
        "preprocessor_config.json",
        "proof.safetensors",
        "thumbnail.jpg",
    ]
    from PIL import Image

    with Image.open(tmp_path / "bundle/thumbnail.jpg") as thumbnail:
        assert thumbnail.size == (60, 40)


def test_bundle__of_a_head_is_small(tmp_path):
    base, side = base_of("embedded", None)
    model = trained_whole(base, only_head=True)
    write(tmp_path / "bundle", model, about_of(base, side, "head"))
    stored = safetensors.torch.load_file(tmp_path / "bundle/weights.safetensors")
    assert sorted(stored) == ["classifier.bias", "classifier.weight"]
    assert stored["classifier.weight"].equal(model.classifier.weight)


def test_bundle__of_a_head_takes_other_tensors_that_were_trained(tmp_path):
    base, side = base_of("embedded", None)
    model = trained_whole(base, only_head=True)
    with torch.no_grad():
        model.bn1.weight *= 1.5
        model.bn1.running_mean += 0.1
    state = model.state_dict()
    names = ["classifier.weight", "classifier.bias", "bn1.weight", "bn1.running_mean"]
    about = about_of(base, side, "head")
    write(tmp_path / "bundle", model, about, trained={name: state[name] for name in names})
    check_comes_back(tmp_path / "bundle", model, about)


def test_bundle__norms_trained_through_modules_to_save_come_back(tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    norms = [n for n, m in base.module.named_modules() if isinstance(m, torch.nn.LayerNorm)]
    model = adapted(base, saved=norms)
    about = about_of(base, side)
    write(tmp_path / "bundle", model, about)
    loaded = check_comes_back(tmp_path / "bundle", model, about)
    changed = loaded.model.state_dict()
    assert len(norms) == 5
    for norm in norms:
        key = f"base_model.model.{norm}.modules_to_save.default.weight"
        assert changed[key].equal(model.state_dict()[key])
        assert not changed[key].equal(torch.ones(16))


def test_bundle__batch_norm_statistics_come_back(tmp_path):
    base, side = base_of("embedded", None)
    model, about = adapted(base, batch_norm="saved"), about_of(base, side)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.05
    write(tmp_path / "bundle", model, about)
    check_comes_back(tmp_path / "bundle", model, about)


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "all"},
        {"bias": "lora_only"},
        {"use_dora": True},
        {"use_rslora": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
    ],
)
def test_bundle__of_other_adapters_comes_back(options, tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    model, about = adapted(base, **options), about_of(base, side)
    write(tmp_path / "bundle", model, about)
    check_comes_back(tmp_path / "bundle", model, about)


def test_bundle__of_an_adapter_with_another_name_lies_in_the_folder_itself(tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    model, about = adapted(base), about_of(base, side)
    model.rename_adapter("default", "winter")
    write(tmp_path / "bundle", model, about)
    assert not (tmp_path / "bundle/winter").exists()
    check_comes_back(tmp_path / "bundle", model, about)


def test_bundle__names_the_base_in_pefts_configuration(vit):
    folder, _, about = vit
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == about.base.name


# --- models of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "multilabel", "segmentation"])
@pytest.mark.parametrize("method", ["lora", "head", "full"])
def test_ready__module_comes_back_on_a_base_that_is_given(task, method, tmp_path):
    base = ready_base(task=task)
    about = about_of(base, 64, method)
    model = adapted(base) if method == "lora" else trained_whole(base, only_head=method == "head")
    write(tmp_path / "bundle", model, about)
    raw = pyramid()
    were = untouched(raw)
    check_comes_back(tmp_path / "bundle", model, about, base=raw)
    assert raw.score.out_features == were.score.out_features
    assert all(raw.state_dict()[n].equal(t) for n, t in were.state_dict().items())


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_ready__base_that_has_the_head_already_is_taken_as_it_is(task, tmp_path):
    base = ready_base(task=task)
    before = untouched(base.module)
    model, about = adapted(base), about_of(base, 64)
    write(tmp_path / "bundle", model, about)
    check_comes_back(tmp_path / "bundle", model, about, base=before)


def test_ready__base_must_be_given(tmp_path):
    from lumora.errors import BundleError

    base = ready_base()
    write(tmp_path / "bundle", adapted(base), about_of(base, 64))
    with pytest.raises(BundleError, match=r"is for a Pyramid that was given ready; give it again: base=model"):
        load(tmp_path / "bundle")


def test_moved__base_is_found_where_it_is_said_to_be(tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    model, about = adapted(base), about_of(base, side)
    write(tmp_path / "bundle", model, about)
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    check_comes_back(tmp_path / "bundle", model, about, base=str(tmp_path / "elsewhere"))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_device__model_is_put_there(method, tmp_path):
    base = ready_base()
    model = adapted(base) if method == "lora" else trained_whole(base)
    write(tmp_path / "bundle", model, about_of(base, 64, method))
    loaded = load(tmp_path / "bundle", base=pyramid(), device="meta")
    assert {p.device.type for p in loaded.model.parameters()} == {"meta"}
