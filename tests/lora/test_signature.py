from __future__ import annotations

import copy
import inspect
import pickle
from types import MethodType
from typing import Any

import pytest
import torch
from tests.lora.models import by_hand, zoo
from torch import Tensor, nn

from lumora import LoraConfig, PeftModel, get_peft_model
from lumora.lora.signature import signature_of_base


class Named(nn.Module):
    """A model of one's own with arguments of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, pixels: Tensor, /, mask: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
        y = self.fc(pixels) * scale
        return y if mask is None else y * mask


def _adapted() -> PeftModel:
    model = get_peft_model(Named(), LoraConfig(r=1, target_modules=["fc"]))
    by_hand.draw(model)
    return model


def test_forward__has_the_signature_of_a_model_of_ones_own() -> None:
    model = _adapted()
    assert inspect.signature(model.forward) == inspect.signature(Named().forward)
    assert str(inspect.signature(PeftModel.forward)) != str(inspect.signature(model.forward))
    assert model.forward.__name__ == "forward"
    assert isinstance(model.forward, MethodType)
    assert model.forward.__self__ is model


@pytest.mark.parametrize("name", ["vit", "segformer", "timm_vit", "torchvision_swin"])
def test_forward__has_the_signature_of_real_models(name: str) -> None:
    base = zoo.BY_NAME[name].base()
    expected = inspect.signature(base.forward)
    assert inspect.signature(get_peft_model(base, LoraConfig(r=2)).forward) == expected


def test_forward__takes_what_it_says_and_adapter_names_besides() -> None:
    model, x = _adapted().eval(), torch.randn(3, 4)
    mask = torch.tensor([[1.0, 0.0]])
    expected = model.get_base_model()(x, mask, scale=2.0)
    torch.testing.assert_close(model(x, mask=mask, scale=2.0), expected)
    torch.testing.assert_close(model.forward(x, mask, scale=2.0), expected)
    routed = model(x, mask, scale=2.0, adapter_names=["default", "__base__", "default"])
    torch.testing.assert_close(routed[0], expected[0])
    assert not torch.allclose(routed[1], expected[1])


def test_forward__of_a_copy_is_the_copys() -> None:
    model = _adapted()
    twin = copy.deepcopy(model)
    by_hand.draw(twin)
    x = torch.randn(3, 4)
    assert twin.forward.__self__ is twin
    assert "forward" not in vars(model)
    assert not torch.allclose(twin(x), model(x))
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), model(x))


def test_forward__can_be_replaced_on_one_model() -> None:
    # accelerate does this for mixed precision
    model, other = _adapted(), _adapted()
    original = model.forward.__func__
    model.forward = MethodType(lambda self, *args, **kwargs: -original(self, *args, **kwargs), model)
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), -model.get_base_model()(x))
    torch.testing.assert_close(other(x), other.get_base_model()(x))


def test_forward__follows_a_base_whose_forward_was_replaced() -> None:
    model = _adapted()

    def forward(picture: Tensor) -> Tensor:
        return picture

    model.get_base_model().forward = forward
    assert inspect.signature(model.forward) == inspect.signature(forward)


def test_forward__of_a_base_that_nobody_can_look_into_stays_callable() -> None:
    model = _adapted()
    model.get_base_model().forward = torch.neg
    assert "args" in inspect.signature(model.forward).parameters
    assert torch.equal(model(torch.ones(2)), -torch.ones(2))


def test_forward__of_a_subclass_can_call_ours() -> None:
    class Doubled(PeftModel):
        def forward(self, *args: Any, **kwargs: Any) -> Tensor:
            return 2 * super().forward(*args, **kwargs)

    model = Doubled(Named(), LoraConfig(r=1, target_modules=["fc"]))
    x = torch.randn(3, 4)
    torch.testing.assert_close(model(x), 2 * model.get_base_model()(x))


def test_signature_of_base__remembers_no_model() -> None:
    class Wrapper:
        def __init__(self, base: Any) -> None:
            self.base = base

        def get_base_model(self) -> Any:
            return self.base

        @signature_of_base
        def forward(self, *args: Any) -> Any:
            return self.base.forward(*args)

    first, second = Wrapper(Named()), Wrapper(Named())
    assert first.forward.__func__ is second.forward.__func__
    assert first.forward.__self__ is first
