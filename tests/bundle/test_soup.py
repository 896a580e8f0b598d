import copy
import dataclasses
import json
import math

import pytest
import torch
from tests.bundle.making import about_of, adapted, base_of, fill, logits, trained_whole

from lumora.bundle import load, read_about, write
from lumora.bundle.soup import soup
from lumora.bundle.verify import verify
from lumora.errors import BundleError


def bundles_of(folder, kind="vit", method="lora", count=2, each=None, **options):
    """Bundles on one base, and merged copies of their models; `each` are options of adapters that differ."""
    merged = []
    for number in range(count):
        base, side = base_of(kind, folder / "base")
        own = {**options, **(each[number] if each else {})}
        model = adapted(base, **own) if method == "lora" else trained_whole(base, only_head=method == "head")
        fill(model, seed=number)
        if own.get("batch_norm") == "saved":
            move_statistics(model, number)
        write(folder / f"b{number}", model, about_of(base, side, method))
        merged.append(copy.deepcopy(model).merge_and_unload().eval() if method == "lora" else model)
    return [folder / f"b{number}" for number in range(count)], merged


def ready(folder, kind="vit"):
    """The base itself; a bundle on it is verified in this process, which is quicker than in another."""
    return base_of(kind, folder / "base")[0].module


def move_statistics(model, number):
    """Let batch norms have seen something, as in a training."""
    for module in model.modules():
        if isinstance(getattr(module, "running_mean", None), torch.Tensor):
            module.running_mean += 0.1 * number
            module.running_var *= 1 + number


def mean_of(models, shares):
    """A model whose every weight is the mean of theirs: what a soup of whole weights is."""
    mixed = copy.deepcopy(models[0])
    states = [model.state_dict() for model in models]
    mixed.load_state_dict(
        {
            name: sum(share * state[name] for share, state in zip(shares, states, strict=True)).to(value.dtype)
            if value.is_floating_point()
            else value
            for name, value in states[0].items()
        }
    )
    return mixed.eval()


@pytest.mark.parametrize(("kind", "method"), [("vit", "lora"), ("segformer", "lora"), ("vit", "head"), ("vit", "full")])
def test_soup__has_the_mean_of_all_weights(tmp_path, kind, method):
    bundles, models = bundles_of(tmp_path, kind, method, count=3)
    made = soup(bundles, tmp_path / "soup", weights=[1, 2, 1], base=ready(tmp_path, kind))
    loaded = load(made)
    side = loaded.about.size[0]
    expected = logits(mean_of(models, [0.25, 0.5, 0.25]), side)
    torch.testing.assert_close(logits(loaded.model, side), expected, atol=1e-4, rtol=1e-3)
    assert (loaded.about.metrics, loaded.about.per_class, loaded.about.recipe_hash) == ({}, {}, "")
    assert loaded.about.recipe["soup"]["weights"] == [0.25, 0.5, 0.25]
    assert loaded.about.method == method


def test_soup__cut_to_a_rank_is_the_best_of_that_rank(tmp_path):
    bundles, models = bundles_of(tmp_path)
    made = load(soup(bundles, tmp_path / "soup", rank=2, base=ready(tmp_path)))
    config = json.loads((tmp_path / "soup/adapter_config.json").read_text())
    assert config["r"] == 2
    plain, _ = base_of("vit", tmp_path / "base")
    mixed, found = mean_of(models, [0.5, 0.5]), made.model.merge_and_unload()
    for name, parameter in mixed.named_parameters():
        base = dict(plain.module.named_parameters())[name]
        if parameter.dim() == 2 and "classifier" not in name and not parameter.equal(base):
            u, s, vh = torch.linalg.svd((parameter - base).detach())
            best = (u[:, :2] * s[:2]) @ vh[:2]
            torch.testing.assert_close(found.get_parameter(name) - base, best, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "starts",
    [("pissa", True), (True, "pissa"), ("pissa", "pissa"), ("olora", "pissa_niter_4")],
)
@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True, "rank_pattern": {"query": 3}, "alpha_pattern": {"query": 5}}]
)
def test_soup__of_adapters_that_began_with_part_of_the_base(tmp_path, starts, options):
    bundles, models = bundles_of(tmp_path, each=[{"init_lora_weights": start} for start in starts], **options)
    made = soup(bundles, tmp_path / "soup", weights=[3, 1], base=ready(tmp_path))
    expected = logits(mean_of(models, [0.75, 0.25]), 32)
    torch.testing.assert_close(logits(load(made).model, 32), expected, atol=1e-4, rtol=1e-3)
    assert json.loads((made / "adapter_config.json").read_text())["init_lora_weights"] is True


def test_soup__has_the_mean_of_batch_norms_statistics(tmp_path):
    bundles, models = bundles_of(tmp_path, "timm", batch_norm="saved")
    assert not torch.equal(models[0].bn1.running_mean, models[1].bn1.running_mean)
    made = load(soup(bundles, tmp_path / "soup", weights=[3, 1], base=ready(tmp_path, "timm")))
    mixed = mean_of(models, [0.75, 0.25])
    found = made.model.merge_and_unload()
    for name, value in mixed.named_buffers():
        torch.testing.assert_close(found.get_buffer(name), value)
    torch.testing.assert_close(logits(found, 64), logits(mixed, 64), atol=1e-4, rtol=1e-3)


def test_soup__refuses_statistics_of_one_alone(tmp_path):
    bundles, _ = bundles_of(tmp_path, "timm", each=[{"batch_norm": "saved"}, {}])
    for given in (bundles, bundles[::-1]):
        with pytest.raises(
            BundleError, match=r"b0 has statistics of the base's batch norms .* and .*b1 has the base's"
        ):
            soup(given, tmp_path / "soup", base=ready(tmp_path, "timm"))


@pytest.mark.slow
def test_soup__of_one_bundle_with_itself_is_the_bundle(tmp_path):
    (bundle, _), (model, _) = bundles_of(tmp_path)
    made = soup([bundle, bundle], tmp_path / "soup")
    torch.testing.assert_close(logits(load(made).model, 32), logits(model, 32), atol=1e-5, rtol=1e-4)
    verify(made)


def test_soup__reads_and_divides_data_as_all_of_its_bundles(tmp_path):
    made = [tmp_path / "b0", tmp_path / "b1"]
    for seed, bundle in enumerate(made):
        base, side = base_of("vit", tmp_path / "base")
        asked = {"data": {"path": "pictures", "test": 0.2, "seed": seed}, "train": {"epochs": 3}}
        write(bundle, adapted(base), about_of(base, side, recipe=asked))
    recipe = read_about(soup(made, tmp_path / "soup", base=ready(tmp_path))).recipe
    assert recipe["data"] == {"path": "pictures", "test": 0.2}  # of the seed they say different things
    assert recipe.keys() == {"data", "soup"}


@pytest.mark.slow
def test_soup__on_a_base_that_was_moved(tmp_path):
    bundles, models = bundles_of(tmp_path)
    moved = (tmp_path / "base").rename(tmp_path / "moved")
    made = soup(bundles, tmp_path / "soup", base=str(moved))
    found = logits(load(made, base=str(moved)).model, 32)
    torch.testing.assert_close(found, logits(mean_of(models, [0.5, 0.5]), 32), atol=1e-4, rtol=1e-3)


def test_soup__refuses_what_has_no_mean(tmp_path):
    bundles, _ = bundles_of(tmp_path)
    base, side = base_of("vit", tmp_path / "base")
    write(tmp_path / "head", base.module, about_of(base, side, "head"))
    other = dataclasses.replace(base.preprocessing, interpolation="bicubic")
    write(tmp_path / "sharper", adapted(base), about_of(base, side, preprocessing=other))
    for given, said in (
        ([bundles[0]], "made of two bundles or more"),
        ([bundles[0], tmp_path / "head"], "have other methods"),
        ([bundles[0], tmp_path / "sharper"], "have other preprocessing"),
    ):
        with pytest.raises(BundleError, match=said):
            soup(given, tmp_path / "soup")
    for weights, said in (
        ([1], "2 bundles and 1 weights"),
        ([1, -1], "not be negative"),
        ([0, 0], "not all 0"),
        ([1, math.inf], "must be numbers"),
        ([1, math.nan], "must be numbers"),
    ):
        with pytest.raises(BundleError, match=said):
            soup(bundles, tmp_path / "soup", weights=weights)
    assert not (tmp_path / "soup").exists()


def test_soup__refuses_biases_and_dora(tmp_path):
    for name, options, said in (("a", {"bias": "lora_only"}, "trained biases"), ("b", {"use_dora": True}, "DoRA")):
        bundles, _ = bundles_of(tmp_path / name, **options)
        with pytest.raises(BundleError, match=said):
            soup(bundles, tmp_path / "soup")
