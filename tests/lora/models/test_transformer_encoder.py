"""torch's own transformer layers, whose native path reads weights without calling the layers that hold them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.lora.models import by_hand, zoo
from tests.lora.models.zoo import Architecture
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lumora import LoraConfig, get_peft_model

TARGETS = {
    "attention": ["self_attn"],
    "perceptron": ["linear1", "linear2"],
    "last_layer": ["layers.1.self_attn", "layers.1.linear2"],
    "everything": "all-linear",
}
pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
each = pytest.mark.parametrize("architecture", zoo.ENCODERS, ids=str)


class NativeCalls(TorchDispatchMode):
    """Counts the calls of torch's native transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "_transformer_encoder_layer_fwd" in str(func)
        return func(*args, **(kwargs or {}))


def _counted(model: nn.Module) -> int:
    with torch.no_grad(), NativeCalls() as calls:
        model(torch.randn(3, 6, 16, dtype=torch.float64))
    return calls.count


def _valid(output: Tensor, architecture: Architecture) -> Tensor:
    """What is not padding; the native path gives zeros there."""
    padding = architecture.sample()[1].get("padding")
    if padding is None:
        return output
    return (output if "batch_first" in architecture.name else output.transpose(0, 1))[~padding]


@each
@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_eval_without_gradients__counts_the_adapters(architecture: Architecture, targets: Any) -> None:
    model, base = by_hand.adapted(architecture, target_modules=targets), architecture.base()
    args, kwargs = architecture.sample()
    by_writing = by_hand.written(base, by_hand.weights(model, base))
    with torch.no_grad():
        expected = _valid(by_writing(*args, **kwargs), architecture)
        torch.testing.assert_close(_valid(model(*args, **kwargs), architecture), expected)
        with torch.inference_mode():
            torch.testing.assert_close(_valid(model(*args, **kwargs), architecture), expected)
        assert not torch.allclose(_valid(base(*args, **kwargs), architecture), expected)
        model.merge_adapter()
        torch.testing.assert_close(_valid(model(*args, **kwargs), architecture), expected)


@each
def test_training__has_the_gradients_of_the_explicit_weights(architecture: Architecture) -> None:
    model, base = by_hand.adapted(architecture, target_modules="all-linear").train(), architecture.base().train()
    sample = architecture.sample()
    factors = list(by_hand.factors(model).values())
    expected = by_hand.run_by_hand(base, by_hand.weights(model, base), sample)
    theirs = torch.autograd.grad(by_hand.scalar(_valid(expected, architecture)), factors)
    output = model(*sample[0], **sample[1])
    ours = torch.autograd.grad(by_hand.scalar(_valid(output, architecture)), factors)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_native_path__is_what_the_base_takes_and_adapted_layers_do_not() -> None:
    architecture = zoo.encoder(batch_first=True, norm_first=False, padded=False)
    base = architecture.base()
    assert _counted(base) == 2
    model = get_peft_model(base, LoraConfig(r=2, target_modules=["layers.1.linear2"]))
    assert _counted(model) == 1
    assert _counted(model.merge_and_unload()) == 2


def test_decoder__counts_the_adapters() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerDecoderLayer(16, 2, 24, 0.0, batch_first=True)
    decoder = Architecture("decoder", lambda: nn.TransformerDecoder(layer, 2), ())
    x, memory = torch.randn(2, 3, 16).double(), torch.randn(2, 5, 16).double()
    model, base = by_hand.adapted(decoder, target_modules=["multihead_attn", "linear1"]), decoder.base()
    by_writing = by_hand.written(base, by_hand.weights(model, base))
    with torch.no_grad():
        torch.testing.assert_close(model(x, memory), by_writing(x, memory))
        assert not torch.allclose(base(x, memory), by_writing(x, memory))
