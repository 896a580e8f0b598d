"""Strength, mirror images, several bundles on one base."""

import copy

import numpy as np
import pytest
import torch
from tests.bundle.making import about_of, adapted, base_of, fill
from tests.data.making import noise, put, put_mask
from tests.predict.making import bundle_of, tensor

import lumora
from lumora.bundle import Loaded, load, write
from lumora.bundle.soup import soup
from lumora.data import Labels, open_source
from lumora.errors import BundleError, InputError
from lumora.lora import PeftModel
from lumora.predict import Predictor, Settings, load_several
from lumora.predict.asking import mean_answer
from lumora.predict.comparing import Compared, differing, disagreement, named
from lumora.tasks import LabelPrediction, MaskPrediction
from lumora.tasks.base import logits_of


def weakened(model, strength):
    """A copy of the merged weights, where every update counts this much."""
    whole, bare = copy.deepcopy(model), copy.deepcopy(model)
    merged = whole.merge_and_unload()
    base = bare.unload()
    weights = dict(base.named_parameters())
    with torch.no_grad():
        for name, parameter in merged.named_parameters():
            if "classifier" not in name and "head" not in name:  # heads were trained whole, and stay
                parameter.copy_(weights[name] + strength * (parameter - weights[name]))
    return merged.eval()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.5])
def test_strength__is_how_much_the_updates_count(tmp_path, strength):
    bundle, model, about = bundle_of("vit", tmp_path)
    array = noise(50, 40)
    found = lumora.load(bundle, device="cpu", strength=strength).predict(array).probabilities
    seen = about.preprocessing.with_size(about.size)(tensor(array))[None]
    with torch.no_grad():
        expected = logits_of(weakened(model, strength)(seen))[0].softmax(0)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_strength__can_be_changed_and_put_back(tmp_path):
    predictor = lumora.load(bundle_of("vit", tmp_path)[0], device="cpu")
    before = predictor.predict(noise(50, 40)).probabilities
    predictor.set_strength(0.3)
    assert not predictor.predict(noise(50, 40)).probabilities.equal(before)
    predictor.set_strength(1)
    assert predictor.predict(noise(50, 40)).probabilities.equal(before)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_strength__of_what_holds_part_of_the_base_is_that_of_a_soup(tmp_path, start):
    base, side = base_of("vit", tmp_path / "base")
    about, bare = about_of(base, side), copy.deepcopy(base.module)
    model = adapted(base, init_lora_weights=start)
    write(tmp_path / "bundle", model, about)
    predictor = lumora.load(tmp_path / "bundle", device="cpu")
    with pytest.raises(InputError, match=r"0\.5 would weaken with them\. `lumora soup"):
        predictor.set_strength(0.5)
    predictor.set_strength(1)
    mixed = soup([tmp_path / "bundle"] * 2, tmp_path / "soup", base=copy.deepcopy(bare))
    merged = model.merge_and_unload().eval()
    for path in base.heads:  # they stay as they were trained
        bare.get_submodule(path).load_state_dict(merged.get_submodule(path).state_dict())
    array = noise(50, 40)
    seen = about.preprocessing.with_size(about.size)(tensor(array))[None]
    for strength, module in ((1.0, merged), (0.0, bare.eval())):
        found = lumora.load(mixed, device="cpu", strength=strength).predict(array).probabilities
        with torch.no_grad():
            expected = logits_of(module(seen))[0].softmax(0)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_strength__needs_adapters(tmp_path):
    base, side = base_of("vit", tmp_path / "base")
    write(tmp_path / "bundle", base.module, about_of(base, side, "head"))
    with pytest.raises(InputError, match=r"has no adapters .*head alone"):
        lumora.load(tmp_path / "bundle", device="cpu", strength=0.5)


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_strength__is_a_number(tmp_path, strength):
    with pytest.raises(InputError, match=f"strength is {strength}"):
        lumora.load(bundle_of("vit", tmp_path)[0], device="cpu", strength=strength)


@pytest.mark.parametrize("kind", ["vit", "segformer", "embedded-multilabel"])
def test_flip__is_the_mean_of_both_answers(tmp_path, kind):
    bundle, model, about = bundle_of(kind, tmp_path)
    array = noise(64, 64)
    found = lumora.load(bundle, device="cpu", flip=True).predict(array)
    seen = about.at_size(tensor(array))[None]
    with torch.no_grad():
        both = [logits_of(model(seen)), logits_of(model(seen.flip(-1)))]
    if about.task == "segmentation":
        mean = (both[0].softmax(1) + both[1].flip(-1).softmax(1)) / 2
        logits = torch.nn.functional.interpolate(mean.log(), (64, 64), mode="bilinear")[0]
        two = logits.topk(2, 0).values
        assert (found.mask == logits.argmax(0))[two[0] - two[1] > 1e-4].all()
        return
    likely = [one.softmax(1) if about.task == "classification" else one.sigmoid() for one in both]
    torch.testing.assert_close(found.probabilities, (likely[0] + likely[1])[0] / 2, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("several", [True, False])
def test_mean_answer__has_the_mean_of_the_probabilities(several):
    answers = [torch.randn(2, 5, 3, 4) * 8 for _ in range(3)]
    likely = torch.sigmoid if several else lambda x: x.softmax(1)
    expected = sum(likely(one.double()) for one in answers) / 3
    found = mean_answer(answers, several=several)
    torch.testing.assert_close(likely(found.double()), expected, atol=1e-6, rtol=1e-4)


# --- several ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    """Bundles on one base: two of adapters, one of a head alone."""
    base, side = base_of("segformer", tmp_path / "base")
    for number, method in enumerate(("lora", "lora", "head")):
        base, _ = base_of("segformer", tmp_path / "base")
        model = adapted(base) if method == "lora" else base.module
        if method == "lora":
            fill(model, seed=number)
        write(tmp_path / f"b{number}/bundle", model, about_of(base, side, method))
    return [tmp_path / f"b{number}/bundle" for number in range(3)]


def test_load_several__hold_one_base_and_predict_as_alone(three):
    predictors = load_several(three, device="cpu")
    assert predictors[0].model is predictors[1].model
    assert isinstance(predictors[0].model, PeftModel)
    assert predictors[2].model is not predictors[0].model
    array = noise(70, 90)
    for predictor, bundle in [*zip(predictors, three, strict=True), *zip(predictors, three, strict=True)]:
        assert predictor.predict(array).mask.equal(lumora.load(bundle, device="cpu").predict(array).mask)
    one, other, _ = (predictor.predict(array).mask for predictor in predictors)
    assert not one.equal(other)


def test_load_several__each_has_a_strength_of_its_own(three):
    one, other = load_several(three[:2], device="cpu")
    array = noise(70, 90)
    before = other.predict(array).mask
    one.set_strength(0)
    assert one.predict(array).mask.equal(lumora.load(three[0], device="cpu", strength=0).predict(array).mask)
    assert other.predict(array).mask.equal(before)


def test_load_several__each_measures_itself(three, tmp_path):
    one, other = load_several(three[:2], device="cpu")
    for i in range(4):
        place = tmp_path / "data/images" / f"{i}.png"
        put(place, noise(40, 50, seed=i))
        put_mask(tmp_path / "data/masks" / f"{i}.png", one.predict(place).mask.numpy().astype(np.uint8))
    source = open_source(tmp_path / "data", labels=one.labels, validation=0.5)
    alone = [lumora.load(bundle, device="cpu").evaluate(source)["mean_iou"] for bundle in three[:2]]
    assert [each.evaluate(source)["mean_iou"] for each in (one, other, one)] == [alone[0], alone[1], alone[0]]
    assert alone[0] > alone[1] + 0.1


@pytest.mark.parametrize("more", [{"flip": True}, {"tile": "auto"}])
def test_evaluate__is_of_whole_pictures_seen_once(three, tmp_path, more):
    with pytest.raises(InputError, match="without flip and tile"):
        lumora.load(three[0], device="cpu", **more).evaluate(tmp_path)


@pytest.mark.parametrize("order", ["ab", "ba", "ac"])
def test_load_several__that_changed_biases_of_the_base_bring_their_own(tmp_path, order):
    bundles = []
    for number, name in enumerate(order):
        base, side = base_of("segformer", tmp_path / "base")
        model = adapted(base, bias="none" if name == "b" else "lora_only")
        fill(model, seed=number)
        write(tmp_path / name, model, about_of(base, side))
        bundles.append(tmp_path / name)
    predictors = load_several(bundles, device="cpu")
    assert predictors[0].model is not predictors[1].model
    for predictor, bundle in zip(predictors, bundles, strict=True):
        found, alone = (one.predict(noise(70, 90)).mask for one in (predictor, lumora.load(bundle, device="cpu")))
        assert found.equal(alone)


def test_load_several__of_a_revision_are_repositories(three):
    with pytest.raises(BundleError, match="has no revision 'v1'"):
        load_several(three[:2], device="cpu", revision="v1")


def test_load_several__of_other_bases_bring_their_own(tmp_path):
    places = [bundle_of("segformer", tmp_path / "a")[0], bundle_of("vit-light", tmp_path / "b")[0]]
    one, other = load_several(places, device="cpu")
    assert one.model is not other.model


def test_load_several__a_damaged_one_is_refused(three):
    path = three[1] / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="is not as it was written"):
        load_several(three, device="cpu")


def test_compared__refuses_other_labels(tmp_path):
    bundle, _, about = bundle_of("vit", tmp_path)
    loaded = load(bundle)
    other = Loaded(loaded.model, copy.copy(about), loaded.base)
    object.__setattr__(other.about, "labels", Labels(("owl", "otter", "red fox")))
    with pytest.raises(InputError, match=r"a is for classification with 3 labels \(red fox, otter, owl\), and b for"):
        Compared({"a": Predictor(loaded), "b": Predictor(other)})


def test_named__is_short_and_each_another():
    assert named(["runs/a/bundle", "a", "x/runs/a/bundle", "me/b"]) == ["a", "a-2", "a-3", "b"]
    assert named(["x/Foxes", "y/foxes"]) == ["Foxes", "foxes-2"]  # which are one folder on some systems
    assert named(["runs/a/../b", "/runs/c/bundle/.."]) == ["b", "c"]


def test_disagreement__of_masks_and_labels():
    masks = [MaskPrediction(torch.tensor(rows)) for rows in ([[0, 1, 2, 2]], [[0, 1, 1, 2]], [[0, 0, 2, 2]])]
    assert differing(masks).tolist() == [[False, True, True, False]]
    assert disagreement(masks) == 0.5
    labels = [LabelPrediction((i,), torch.tensor(p)) for i, p in ((0, [0.5, 0.3, 0.2]), (1, [0.2, 0.6, 0.2]))]
    assert disagreement(labels) == pytest.approx(0.3)
    tags = [LabelPrediction(ids, torch.tensor([0.9, 0.8, 0.7])) for ids in ((0, 1), (1, 2))]
    assert disagreement(tags, several=True) == pytest.approx(2 / 3)
    sparse = [LabelPrediction((i,), torch.tensor(p)) for i, p in ((0, [0.9, 0.04, 0.01]), (1, [0.04, 0.9, 0.01]))]
    assert disagreement(sparse, several=True) == pytest.approx(2 / 3)


def test_settings__are_those_of_load(tmp_path):
    bundle = bundle_of("segformer", tmp_path)[0]
    predictor = lumora.load(bundle, device="cpu", palette="voc", strength=0.5, flip=True, tile=64, overlap=8)
    assert predictor.settings == Settings("voc", 0.5, True, 64, 8)
    assert predictor.labels.palette()[0] == (0, 0, 0)
    again = Predictor(load(bundle), settings=predictor.settings)
    array = np.asarray(noise(100, 90))
    assert again.predict(array).mask.equal(predictor.predict(array).mask)
