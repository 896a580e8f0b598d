import json
import shutil
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file
from tests.bundle.making import about_of
from tests.tiny_models import save_vit
from tests.training.tiny import settings, weights_of
from torch import nn

import lumora
from lumora import LoraConfig, get_peft_model
from lumora.bundle import write
from lumora.bundle.soup import soup
from lumora.data import Labels
from lumora.data.corrections import correct_labels
from lumora.errors import BundleError, RecipeError
from lumora.models import load_base
from lumora.training import plan
from lumora.training.choosing import explained
from lumora.training.events import Listener

BASE = "python:tests.training.tiny:sees"
LAST = {"train__best_by": "null"}
"""Keeps what was learnt last, however good it is."""
STILL = {"train__rate": 1e-12, "train__head_rate": 1e-12, "train__weight_decay": 0.0, "train__epochs": 1, **LAST}
"""Learns nothing that can be seen."""


@pytest.fixture(scope="module")
def before(tmp_path_factory, pictures):
    """A run that learnt something."""
    out = tmp_path_factory.mktemp("before") / "run"
    return lumora.finetune(pictures / "classes", BASE, out=out, settings=settings(**LAST))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "head", "full"])
def test_start_from__a_training_begins_where_the_bundle_ended(tmp_path, pictures, before, method):
    first = before
    if method != "lora":
        asked = settings(train__method=method, **LAST)
        first = lumora.finetune(pictures / "classes", BASE, out=tmp_path / "first", settings=asked)
    asked = settings(train__start_from=str(first.bundle), train__method=method, **STILL)
    second = lumora.finetune(pictures / "classes", BASE, out=tmp_path / "second", settings=asked)
    was, now = weights_of(first.folder), weights_of(second.folder)
    assert was.keys() == now.keys()
    for name, tensor in was.items():
        if "norm" not in name:  # its statistics go on
            torch.testing.assert_close(now[name], tensor, atol=1e-6, rtol=1e-5)
    fresh = lumora.finetune(
        pictures / "classes", BASE, out=tmp_path / "fresh", settings=settings(train__method=method, **STILL)
    )
    assert any(not torch.allclose(weights_of(fresh.folder)[name], tensor, atol=1e-4) for name, tensor in was.items())
    assert any("begin as they are in" in note for note in second.notes)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"lora__r": 3}, "lora.r: 2 in the bundle, 3 here"),
        ({"lora__start": "pissa"}, "lora.start: true in the bundle, 'pissa' here"),
        ({"lora__dora": True}, "lora.dora: false in the bundle, true here"),
        ({"train__method": "head"}, "what is trained: lora in the bundle, head here"),
        ({"data__labels": ["green", "red", "blue"]}, "labels: "),
        ({"base__name": "python:tests.training.tiny:sees_otherwise"}, "base: python:.*:sees in the bundle"),
    ],
)
def test_start_from__refuses_a_bundle_of_another_kind(tmp_path, pictures, before, asked, said):
    asked = settings(train__start_from=str(before.bundle), **asked)
    with pytest.raises(RecipeError, match=said):
        lumora.finetune(pictures / "classes", BASE, out=tmp_path / "run", settings=asked)


@pytest.mark.parametrize("is_soup", [False, True])
def test_start_from__base_method_and_adapters_are_the_bundles_where_nothing_is_said(tmp_path, pictures, is_soup):
    base = save_vit(tmp_path / "vit", seed=0)
    asked = settings(lora__targets=["q_proj"], pictures__size=32, train__epochs=1)
    before = lumora.finetune(pictures / "classes", str(base), out=tmp_path / "before", settings=asked).bundle
    if is_soup:  # which no recipe has made
        before = soup([before, before], tmp_path / "soup")
    asked = {"train.start_from": str(before), "train.epochs": 1, "pictures.size": 32}
    planned = plan(pictures / "classes", settings=asked, probe=False)
    told = {key: (value, why) for key, value, _, why in explained(planned.chosen)}
    inherited = {"base.name": str(base), "train.method": "lora", "lora.r": 4 if is_soup else 2}
    for key, value in inherited.items():
        assert told[key] == (value, f"as in {before}")
    run = lumora.finetune(pictures / "classes", out=tmp_path / "run", settings=asked)
    was, now = (load_file(bundle / "adapter_model.safetensors") for bundle in (before, run.bundle))
    assert {name: tensor.shape for name, tensor in now.items()} == {name: tensor.shape for name, tensor in was.items()}


def test_start_from__a_bundle_cannot_ask_for_a_function_to_be_called(pictures, before):
    with pytest.raises(BundleError, match=r"if you trust it, say so: base='python:tests\.training\.tiny:sees'"):
        plan(pictures / "classes", settings={"train.start_from": str(before.bundle)}, probe=False)


def test_start_from__what_a_bundle_is_not_for_is_told_before_anything_is_computed(pictures, before):
    asked = {"train.start_from": str(before.bundle), "train.method": "full"}
    with pytest.raises(RecipeError, match=r"lora\.alpha: 2\.0 in the bundle, 5\.0 here"):
        plan(pictures / "classes", settings={"train.start_from": str(before.bundle), "lora.alpha": 5}, probe=False)
    with pytest.raises(RecipeError) as refused:
        plan(pictures / "masked", settings=asked, probe=False)
    for told in (
        "task: classification in",
        "labels: 'blue', 'green'",
        "what is trained: lora in the bundle, full here",
    ):
        assert told in str(refused.value)


def test_start_from__refuses_what_is_no_bundle(tmp_path, pictures):
    asked = settings(train__start_from=str(tmp_path))
    with pytest.raises(BundleError, match="is no bundle"):
        lumora.finetune(pictures / "classes", BASE, out=tmp_path / "run", settings=asked)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_start_from__begins_on_the_same_part_of_the_base(tmp_path, pictures, start):
    asked = settings(lora__start=start, **LAST)
    first = lumora.finetune(pictures / "classes", BASE, out=tmp_path / "first", settings=asked)
    again = settings(train__start_from=str(first.bundle), **STILL)
    second = lumora.finetune(pictures / "classes", BASE, out=tmp_path / "second", settings=again)
    picture = next((pictures / "classes" / "red").iterdir())
    was, now = (lumora.load(run.bundle, base=BASE).predict(picture).probabilities for run in (first, second))
    torch.testing.assert_close(now, was, atol=1e-5, rtol=1e-4)
    with pytest.raises(RecipeError, match=rf"lora\.start: '{start}' in the bundle, true here"):
        plan(pictures / "classes", BASE, settings={**again, "lora.start": True}, probe=False)


def test_start_from__patterns_are_compared_by_what_they_say(tmp_path, pictures, before):
    shutil.copytree(before.bundle, tmp_path / "bundle")
    config = json.loads((tmp_path / "bundle" / "adapter_config.json").read_text())
    pattern = {f"encoder.layer.{i}.attention.attention.query": 4.0 for i in range(4)}
    (tmp_path / "bundle" / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": pattern}))
    asked = {"train.start_from": str(tmp_path / "bundle")}

    def planned(pattern):
        return plan(pictures / "classes", BASE, settings={**asked, "lora.alpha_pattern": pattern}, probe=False)

    assert planned(dict(reversed(pattern.items()))).failed is None
    with pytest.raises(RecipeError, match=r"lora\.alpha_pattern: .* in the bundle"):
        planned(pattern | {"encoder.layer.3.attention.attention.query": 5.0})


def test_start_from__patterns_with_names_of_before_are_those_of_the_bundles_recipe(tmp_path, pictures):
    base = str(save_vit(tmp_path / "vit", seed=0))
    patterns = {"lora__targets": ["query", "value"], "lora__rank_pattern": {"query": 4}, "pictures__size": 32}
    first = lumora.finetune(pictures / "classes", base, out=tmp_path / "first", settings=settings(**patterns, **LAST))
    assert "q_proj" in (first.bundle / "adapter_config.json").read_text()  # what `query` is called now
    for asked in (settings(**patterns, **STILL), settings(pictures__size=32, **STILL)):
        asked |= {"train.start_from": str(first.bundle)}
        run = lumora.finetune(pictures / "classes", base, out=tmp_path / f"{len(asked)}", settings=asked)
        assert any("begin as they are in" in note for note in run.notes)
    with pytest.raises(RecipeError, match=r"lora\.rank_pattern: .* in the bundle, \{'query': 3\} here"):
        plan(pictures / "classes", base, settings=asked | {"lora.rank_pattern": {"query": 3}}, probe=False)


def nested():
    """Its head lies in a module of its own."""
    torch.manual_seed(0)
    head = nn.Sequential(OrderedDict(flat=nn.Flatten(), head=nn.Linear(8, 3)))
    seen = {"stem": nn.Conv2d(3, 8, 3, stride=2), "norm": nn.BatchNorm2d(8), "mix": nn.Conv2d(8, 8, 1)}
    return nn.Sequential(OrderedDict(**seen, mean=nn.AdaptiveAvgPool2d(1), heads=head))


def test_start_from__a_bundle_that_no_run_has_written(tmp_path, pictures):
    name, labels = "python:tests.training.test_starting:nested", Labels(("blue", "green", "red"))
    base = load_base(name, task="classification", labels=labels.names)
    config = LoraConfig(r=2, target_modules=["mix"], modules_to_save=["head"], exclude_modules=[])
    write(tmp_path / "bundle", get_peft_model(base.module, config).eval(), about_of(base, 32, labels=labels))
    asked = {"train.start_from": str(tmp_path / "bundle"), "train.epochs": 1, "pictures.size": 32}
    run = lumora.finetune(pictures / "classes", name, out=tmp_path / "run", settings=asked)
    assert any("begin as they are in" in note for note in run.notes)
    was, now = (load_file(bundle / "adapter_model.safetensors") for bundle in (tmp_path / "bundle", run.bundle))
    assert now.keys() == was.keys()


def test_start_from__what_a_newer_version_says_is_left_out(tmp_path, pictures, before):
    shutil.copytree(before.bundle, tmp_path / "bundle")
    about = json.loads((tmp_path / "bundle" / "lumora.json").read_text())
    norms = about["recipe"]["lora"]["norms"]
    about["recipe"]["lora"] |= {"dropout": "cosine", "norms": None, "kind": "newer"}
    (tmp_path / "bundle" / "lumora.json").write_text(json.dumps(about))
    planned = plan(pictures / "classes", BASE, settings={"train.start_from": str(tmp_path / "bundle")}, probe=False)
    assert planned.failed is None
    assert planned.chosen.recipe.lora.norms == norms


def test_start_from__a_keras_bundle_is_said_to_be_one(tmp_path, pictures, before):
    shutil.copytree(before.bundle, tmp_path / "bundle")
    about = json.loads((tmp_path / "bundle" / "lumora.json").read_text())
    about["base"] |= {"library": "keras", "name": "keras:/models/base.keras"}
    (tmp_path / "bundle" / "lumora.json").write_text(json.dumps(about))
    with pytest.raises(BundleError, match="is a Keras bundle"):
        plan(pictures / "classes", BASE, settings={"train.start_from": str(tmp_path / "bundle")}, probe=False)


def test_resume__refuses_a_bundle_that_has_other_labels_by_now(tmp_path, pictures, before):
    shutil.copytree(before.bundle, tmp_path / "bundle")
    asked = settings(train__start_from=str(tmp_path / "bundle"), **LAST)

    class Breaks(Listener):
        def opened(self, event):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lumora.finetune(pictures / "classes", BASE, out=tmp_path / "run", settings=asked, listeners=[Breaks()])
    about = json.loads((tmp_path / "bundle" / "lumora.json").read_text())
    about["labels"]["names"].reverse()
    (tmp_path / "bundle" / "lumora.json").write_text(json.dumps(about))
    with pytest.raises(RecipeError, match="labels: 'red', 'green', 'blue' in the bundle"):
        lumora.training.resume(tmp_path / "run")


def test_start_from__contradicts_random_weights():
    from lumora.training import parse_asked

    with pytest.raises(RecipeError, match=r"train\.start_from is 'run/bundle', but"):
        parse_asked({"train.start_from": "run/bundle", "train.method": "scratch"})


@pytest.mark.slow
def test_finetune__learns_from_corrections_and_says_so(tmp_path):
    from tests.training.tiny import save_pictures

    data = save_pictures(tmp_path / "data") / "classes"
    correct_labels(data, "red/0.png", ["blue"])
    seen = []

    class Sees(Listener):
        def opened(self, event):
            for samples in event.source.splits.values():
                seen.extend((s.key, event.source.labels.names[s.target]) for s in samples)

    run = lumora.finetune(data, BASE, out=tmp_path / "run", settings=settings(train__epochs=1), listeners=[Sees()])
    assert ("red/0.png", "blue") in seen
    assert any("corrections.jsonl" in note for note in run.notes)
    assert "corrections.jsonl" in (run.folder / "log.txt").read_text()
    assert json.loads((run.bundle / "lumora.json").read_text())["labels"]["names"] == ["blue", "green", "red"]
