import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ops import tiny
from torch import nn

from lumora.ops import accelerate
from lumora.ops.swap import is_swapped


def head_of(model):
    return next(m for m in model.modules() if type(m).__name__ == "SegformerDecodeHead" and is_swapped(m))


def calls_of(module, monkeypatch):
    """What a layer is called with from now on, without a hook."""
    calls = []
    plain = type(module).forward

    def forward(self, *args, **kwargs):
        if self is module:
            calls.append(args)
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(type(module), "forward", forward)
    return calls


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (72, 56), (100, 36)])
def test_model__gives_the_same_loss_logits_and_gradients(training, height, width):
    model = tiny.segformer().train(training)
    plain = copy.deepcopy(model)
    accelerate(model)
    inputs = {"pixel_values": tiny.pictures(height, width), "labels": tiny.masks(5, height, width)}
    tiny.assert_same(tiny.results(model, **inputs), tiny.results(plain, **inputs))
    for (name, got), expected in zip(model.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10, msg=name)


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=4, max_size=4),
    training=st.booleans(),
)
def test_head__equals_the_plain_one_for_maps_of_any_sizes(sizes, training):
    model = tiny.segformer()
    accelerate(model)
    head, plain = model.decode_head.train(training), tiny.segformer().decode_head.train(training)
    maps = [
        torch.randn(2, channels, *size, dtype=torch.float64)
        for channels, size in zip((4, 6, 8, 10), sizes, strict=True)
    ]
    torch.testing.assert_close(head(maps), plain(maps), rtol=1e-10, atol=1e-10)


def test_head__gradcheck():
    model = tiny.segformer(num_labels=2)
    accelerate(model)
    head = model.decode_head.eval()
    maps = [
        torch.randn(1, c, n, n, dtype=torch.float64, requires_grad=True) for c, n in ((4, 4), (6, 3), (8, 2), (10, 1))
    ]
    assert torch.autograd.gradcheck(lambda *maps: head(maps), maps)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("first", ["accelerate", "adapt"])
def test_model__adapted_as_the_guides_do_gives_the_same(training, first):
    options = {"target_modules": ["q_proj", "v_proj"], "bias": "lora_only", "modules_to_save": ["decode_head"]}
    torch.manual_seed(0)
    plain = tiny.adapted(tiny.segformer(), **options).train(training)
    torch.manual_seed(0)
    model = tiny.segformer()
    if first == "accelerate":
        accelerate(model)
    model = tiny.adapted(model, **options).train(training)
    if first == "adapt":
        accelerate(model)
    model.load_state_dict(plain.state_dict())
    heads = [m for m in model.modules() if type(m).__name__ == "SegformerDecodeHead"]
    assert len(heads) == 2 and all(map(is_swapped, heads))
    inputs = {"pixel_values": tiny.pictures(), "labels": tiny.masks(5)}
    tiny.assert_same(tiny.results(model, **inputs), tiny.results(plain, **inputs))
    with model.disable_adapter(), plain.disable_adapter():
        torch.testing.assert_close(model(**inputs).logits, plain(**inputs).logits, rtol=1e-10, atol=1e-10)


ADAPTED_HEADS = {
    "fuse": {"target_modules": ["linear_fuse"]},
    "projections": {"target_modules": ["proj"]},
    "all": {"target_modules": "all-linear"},
    "all of the head": {"target_modules": r".*decode_head\..*(proj|linear_fuse|classifier)"},
    "dora": {"target_modules": ["linear_fuse", "proj"], "use_dora": True},
    "bias": {"target_modules": ["linear_fuse", "proj"], "lora_bias": True},
    "rslora": {"target_modules": ["linear_fuse", "proj"], "use_rslora": True},
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", ADAPTED_HEADS.values(), ids=ADAPTED_HEADS)
def test_head__with_adapters_gives_the_same(options, training):
    model = tiny.adapted(tiny.segformer(), **options).train(training)
    inputs = {"pixel_values": tiny.pictures(), "labels": tiny.masks(5)}
    expected = tiny.results(model, **inputs)
    accelerate(model)
    tiny.assert_same(tiny.results(model, **inputs), expected)


@pytest.mark.parametrize("targets", [["linear_fuse"], ["proj"]], ids=["fuse", "projections"])
def test_head__with_dropout_on_an_adapters_input_gives_the_same(targets):
    model = tiny.adapted(tiny.segformer(), target_modules=targets, lora_dropout=0.5).train()
    inputs = {"pixel_values": tiny.pictures(), "labels": tiny.masks(5)}
    torch.manual_seed(3)
    expected = tiny.results(model, **inputs)
    accelerate(model)
    torch.manual_seed(3)
    tiny.assert_same(tiny.results(model, **inputs), expected)


def test_head__follows_merging_switching_and_several_adapters():
    from lumora import LoraConfig

    model = tiny.adapted(tiny.segformer(), target_modules=["linear_fuse", "proj"]).eval()
    model.add_adapter("other", LoraConfig(r=3, target_modules=["linear_fuse"], init_lora_weights=False))
    model.double()
    plain = copy.deepcopy(model)
    accelerate(model)
    pixels = tiny.pictures()

    def same():
        torch.testing.assert_close(model(pixels).logits, plain(pixels).logits, rtol=1e-10, atol=1e-10)
        return model(pixels).logits.detach()

    one = same()
    for m in (model, plain):
        m.base_model.set_adapter(["default", "other"])
    both = same()
    for m in (model, plain):
        m.set_strength("other", 0.3)
    weaker = same()
    for m in (model, plain):
        m.merge_adapter()
    torch.testing.assert_close(same(), weaker, rtol=1e-10, atol=1e-10)
    for m in (model, plain):
        m.unmerge_adapter()
    with model.disable_adapter(), plain.disable_adapter():
        none = same()
    assert len({float(x.sum()) for x in (one, both, weaker, none)}) == 4
    names = ["default", "__base__"]
    routed = [m(pixels, adapter_names=names).logits for m in (model, plain)]
    torch.testing.assert_close(*routed, rtol=1e-10, atol=1e-10)


def test_head__is_really_commuted(monkeypatch):
    model = tiny.segformer().eval()
    accelerate(model)
    calls = calls_of(model.decode_head.linear_fuse, monkeypatch)
    norms = calls_of(model.decode_head.batch_norm, monkeypatch)
    model(tiny.pictures())
    assert not calls and not norms
    model.train()(tiny.pictures())
    assert not calls and len(norms) == 1


def test_head__with_adapters_is_really_commuted(monkeypatch):
    model = tiny.adapted(tiny.segformer(), target_modules=["linear_fuse", "proj"]).train()
    accelerate(model)
    head = model.get_base_model().decode_head
    layers = [head.linear_fuse, head.linear_projections[0].proj]
    calls = [calls_of(layer, monkeypatch) for layer in layers]
    model(tiny.pictures())
    assert calls == [[], []]


@pytest.mark.parametrize("path", ["linear_fuse", "linear_projections.2.proj", "linear_projections.0", "batch_norm"])
def test_head__calls_layers_that_somebody_watches(path):
    model = tiny.segformer().eval()
    expected = model(tiny.pictures()).logits
    accelerate(model)
    seen = []
    handle = model.decode_head.get_submodule(path).register_forward_hook(lambda _m, _x, y: seen.append(y))
    torch.testing.assert_close(model(tiny.pictures()).logits, expected, rtol=1e-10, atol=1e-10)
    assert len(seen) == 1
    handle.remove()
    model(tiny.pictures())
    assert len(seen) == 1


def test_head__takes_a_norm_of_another_kind():
    model = tiny.segformer().eval()
    model.decode_head.batch_norm = nn.GroupNorm(3, 12).double()
    expected = model(tiny.pictures()).logits
    accelerate(model)
    torch.testing.assert_close(model(tiny.pictures()).logits, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [{"affine": False}, {"track_running_stats": False}])
def test_head__takes_any_batch_norm(options):
    model = tiny.segformer().eval()
    norm = nn.BatchNorm2d(12, **options).double().eval()
    model.decode_head.batch_norm = norm
    expected = model(tiny.pictures()).logits
    accelerate(model)
    torch.testing.assert_close(model(tiny.pictures()).logits, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_model__in_half_precision_is_as_near_to_the_exact_one_as_the_plain_model(dtype, training):
    model = tiny.segformer().train(training)
    exact = model(tiny.pictures()).logits.detach()
    half = copy.deepcopy(model).to(dtype)
    error = (half(tiny.pictures().to(dtype)).logits - exact).abs().mean()
    accelerate(half)
    got = half(tiny.pictures().to(dtype)).logits
    assert got.dtype == dtype
    assert (got - exact).abs().mean() < 1.5 * error


def test_model__under_autocast_trains():
    model = tiny.segformer().float().train()
    accelerate(model)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = model(pixel_values=tiny.pictures().float(), labels=tiny.masks(5))
    assert outputs.logits.dtype == torch.bfloat16 and outputs.loss.dtype == torch.float32
    outputs.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_loss__comes_first_in_tuples_and_outputs():
    model = tiny.segformer().eval()
    inputs = {"pixel_values": tiny.pictures(), "labels": tiny.masks(5)}
    expected = model(**inputs, return_dict=False)
    named = model(**inputs, output_hidden_states=True)
    accelerate(model)
    for got, value in zip(model(**inputs, return_dict=False), expected, strict=True):
        torch.testing.assert_close(got, value, rtol=1e-10, atol=1e-10)
    got = model(**inputs, output_hidden_states=True)
    assert list(got) == list(named) and type(got) is type(named)
    assert len(got.hidden_states) == len(named.hidden_states)


def test_loss__positional_labels_and_no_labels():
    model = tiny.segformer().eval()
    pixels, labels = tiny.pictures(), tiny.masks(5)
    expected = model(pixels, labels).loss
    accelerate(model)
    torch.testing.assert_close(model(pixels, labels).loss, expected, rtol=1e-10, atol=1e-10)
    assert model(pixels).loss is None


def test_loss__of_one_class_stays_the_models_own():
    model = tiny.segformer(num_labels=1).eval()
    inputs = {"pixel_values": tiny.pictures(), "labels": tiny.masks(2)}
    expected = model(**inputs).loss
    accelerate(model)
    torch.testing.assert_close(model(**inputs).loss, expected, rtol=1e-10, atol=1e-10)


def test_loss__takes_the_models_ignored_id():
    model = tiny.segformer(semantic_loss_ignore_index=3).eval()
    labels = torch.randint(0, 5, (2, 64, 64))
    expected = model(tiny.pictures(), labels).loss
    accelerate(model)
    torch.testing.assert_close(model(tiny.pictures(), labels).loss, expected, rtol=1e-10, atol=1e-10)


def test_loss__where_nothing_counts_is_zero():
    model = tiny.segformer().train()
    accelerate(model)
    loss = model(tiny.pictures(), torch.full((2, 64, 64), 255)).loss
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
