import json

import pytest
import torch
from tests.training.tiny import settings, weights_of

import lumora
from lumora.data.corrections import correct_labels
from lumora.errors import BundleError, LumoraError, RecipeError
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
    ("asked", "kind", "said"),
    [
        ({"lora__r": 3}, LumoraError, "r 2 instead of 3"),
        ({"train__method": "head"}, RecipeError, "what is trained: lora in the bundle, head here"),
        ({"data__labels": ["green", "red", "blue"]}, RecipeError, "labels: "),
        (
            {"base__name": "python:tests.training.tiny:sees_otherwise"},
            RecipeError,
            "base: python:.*:sees in the bundle",
        ),
    ],
)
def test_start_from__refuses_a_bundle_of_another_kind(tmp_path, pictures, before, asked, kind, said):
    asked = settings(train__start_from=str(before.bundle), **asked)
    with pytest.raises(kind, match=said):
        lumora.finetune(pictures / "classes", BASE, out=tmp_path / "run", settings=asked)


def test_start_from__base_method_and_adapters_are_the_bundles_where_nothing_is_said(tmp_path, pictures, before):
    asked = {"train.start_from": str(before.bundle), "train.epochs": 1, "pictures.size": 16}
    planned = plan(pictures / "classes", settings=asked, probe=False)
    told = {key: (value, why) for key, value, _, why in explained(planned.chosen)}
    for key, value in {"base.name": BASE, "train.method": "lora", "lora.r": 2}.items():
        assert told[key] == (value, f"as in {before.bundle}")
    run = lumora.finetune(pictures / "classes", out=tmp_path / "run", settings=asked)
    assert weights_of(run.folder).keys() == weights_of(before.folder).keys()
    other = plan(pictures / "classes", BASE, settings={**asked, "lora.r": 3}, probe=False)
    assert other.chosen.recipe.lora.r == 3


def test_start_from__what_a_bundle_is_not_for_is_told_before_anything_is_computed(pictures, before):
    asked = {"train.start_from": str(before.bundle), "train.method": "full"}
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


@pytest.mark.parametrize("more", [{"train.method": "scratch"}, {"lora.start": "pissa"}])
def test_start_from__contradicts_other_beginnings(more):
    from lumora.training import parse_asked

    with pytest.raises(RecipeError, match=r"train\.start_from is 'run/bundle', but"):
        parse_asked({"train.start_from": "run/bundle", **more})


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
