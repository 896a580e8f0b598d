import copy
import threading

import pytest
import torch
from tests.ops import tiny
from torch import nn

from lumora.ops import accelerate

KINDS = {
    "vit": ("ViT", "ForImageClassification"),
    "deit": ("DeiT", "ForImageClassification"),
    "deit with teacher": ("DeiT", "ForImageClassificationWithTeacher"),
    "msn": ("ViTMSN", "ForImageClassification"),
}


class Counting(nn.Module):
    """An activation that remembers how many tokens it sees, without a hook."""

    def __init__(self, activation, seen):
        super().__init__()
        self.activation, self.seen = activation, seen

    def forward(self, x):
        self.seen.append(x.shape[1])
        return self.activation(x)


def tokens_of_mlp(model, seen):
    mlp = model.base_model.layers[-1].mlp
    mlp.activation_fn = Counting(mlp.activation_fn, seen)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_classifier__gives_the_same_logits_and_gradients(kind, attention):
    model = tiny.vit(*kind, attn_implementation=attention, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    plain = copy.deepcopy(model)
    assert accelerate(model).changes
    seen = []
    tokens_of_mlp(model, seen)
    for training in (True, False):
        logits = []
        for m in (model, plain):
            m.train(training).zero_grad()
            logits.append(m(tiny.pictures(16, 16)).logits)
            logits[-1].square().sum().backward()
        torch.testing.assert_close(*logits, rtol=1e-10, atol=1e-10)
        for (name, got), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
            assert (got.grad is None) == (expected.grad is None), name
            if got.grad is not None:
                torch.testing.assert_close(got.grad, expected.grad, rtol=1e-10, atol=1e-10, msg=name)
    assert set(seen) == {2 if "Teacher" in kind[1] else 1}


def test_classifier__gives_the_same_loss():
    model = tiny.vit().train()
    inputs = {"pixel_values": tiny.pictures(16, 16), "labels": torch.tensor([0, 2])}
    expected = tiny.results(model, **inputs)
    accelerate(model)
    tiny.assert_same(tiny.results(model, **inputs), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": "all-linear"},
        {"target_modules": "all-linear", "use_dora": True},
    ],
    ids=["guide", "all-linear", "dora"],
)
@pytest.mark.parametrize("first", ["accelerate", "adapt"])
def test_classifier__with_adapters_gives_the_same(options, first):
    model = tiny.vit()
    if first == "accelerate":
        acceleration = accelerate(model)
    model = tiny.adapted(model, modules_to_save=["classifier"], **options).train()
    if first == "adapt":
        acceleration = accelerate(model)
    inputs = {"pixel_values": tiny.pictures(16, 16), "labels": torch.tensor([0, 2])}
    got = tiny.results(model, **inputs)
    routed = model.eval()(tiny.pictures(16, 16), adapter_names=["default", "__base__"]).logits
    assert model.verify(pixel_values=tiny.pictures(16, 16))
    acceleration.undo()
    tiny.assert_same(got, tiny.results(model.train(), **inputs))
    expected = model.eval()(tiny.pictures(16, 16), adapter_names=["default", "__base__"]).logits
    torch.testing.assert_close(routed, expected, rtol=1e-10, atol=1e-10)


def test_classifier__with_checkpoints_gives_the_same_gradients():
    model = tiny.vit().train()
    inputs = {"pixel_values": tiny.pictures(16, 16), "labels": torch.tensor([0, 2])}
    expected = tiny.results(model, **inputs)
    accelerate(model)
    for reentrant in (False, True):
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
        pixels = inputs["pixel_values"].clone().requires_grad_()
        tiny.assert_same(tiny.results(model, **inputs | {"pixel_values": pixels}), expected)


def test_classifier__gives_all_tokens_to_whoever_asks():
    model = tiny.vit(attn_implementation="eager").eval()
    pixels = tiny.pictures(16, 16)
    plain = copy.deepcopy(model)
    accelerate(model)
    model(pixels)
    for asked in ({"output_hidden_states": True}, {"output_attentions": True}):
        got, expected = model(pixels, **asked), plain(pixels, **asked)
        for name in ("hidden_states", "attentions"):
            for a, b in zip(got.get(name, ()), expected.get(name, ()), strict=True):
                torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(model.vit(pixels).last_hidden_state, plain.vit(pixels).last_hidden_state)
    # Asking once leaves transformers' own hooks behind; they do not count as somebody watching.
    seen = []
    tokens_of_mlp(model, seen)
    model(pixels)
    assert seen == [1]
    model.config.output_hidden_states = True
    assert model(pixels).hidden_states[-1].shape[1] == 5


@pytest.mark.parametrize(
    "path", ["vit", "vit.layernorm", "vit.layers.1", "vit.layers.1.mlp", "vit.layers.1.attention.q_proj"]
)
def test_classifier__gives_all_tokens_to_a_hook(path):
    model = tiny.vit().eval()
    accelerate(model)
    seen = []

    def look(_module, _inputs, output):
        seen.append(output if isinstance(output, torch.Tensor) else output.last_hidden_state)

    handle = model.get_submodule(path).register_forward_hook(look)
    model(tiny.pictures(16, 16))
    assert seen[0].shape[1] == 5
    handle.remove()
    tokens = []
    tokens_of_mlp(model, tokens)
    model(tiny.pictures(16, 16))
    assert tokens == [1]


def test_classifier__in_several_threads_keeps_the_backbones_tokens():
    model = tiny.vit().eval()
    pixels = tiny.pictures(16, 16)
    expected, features = model(pixels).logits, model.vit(pixels).last_hidden_state
    accelerate(model)
    failures = []

    def work(classify):
        for _ in range(20):
            got = model(pixels).logits if classify else model.vit(pixels).last_hidden_state
            wanted = expected if classify else features
            if got.shape != wanted.shape or not torch.allclose(got, wanted):
                failures.append(classify)

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_classifier__takes_an_attention_mask_and_larger_pictures():
    model = tiny.vit().eval()
    mask = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0]])
    calls = [
        {"pixel_values": tiny.pictures(16, 16), "attention_mask": mask},
        {"pixel_values": tiny.pictures(32, 32), "interpolate_pos_encoding": True},
    ]
    expected = [model(**call).logits for call in calls]
    accelerate(model)
    seen = []
    tokens_of_mlp(model, seen)
    for call, logits in zip(calls, expected, strict=True):
        torch.testing.assert_close(model(**call).logits, logits, rtol=1e-10, atol=1e-10)
    assert seen == [1, 1]


def test_classifier__with_dropout_still_trains():
    model = tiny.vit(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2).train()
    accelerate(model)
    model(tiny.pictures(16, 16), labels=torch.tensor([0, 1])).loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
