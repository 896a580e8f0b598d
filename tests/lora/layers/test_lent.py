"""Linear layers whose weight is read by the module around them instead of being called."""

import pytest
import torchvision
from torch import nn

from lumora import LoraConfig, get_peft_model
from lumora.lora.layers import LoraLayer

pytestmark = pytest.mark.filterwarnings("ignore:.*larger than the layers they adapt")


def test_all_linear__takes_the_same_layers_for_a_second_adapter():
    swin = torchvision.models.SwinTransformer([4, 4], 16, [1, 1], [2, 2], [2, 2])
    linear = {name for name, module in swin.named_modules() if isinstance(module, nn.Linear)}
    model = get_peft_model(swin, LoraConfig(r=2, target_modules="all-linear"), "first")
    model.add_adapter("second", LoraConfig(r=2, target_modules="all-linear"))
    for adapter in ("first", "second"):
        adapted = {
            name.removeprefix("base_model.model.")
            for name, layer in model.named_modules()
            if isinstance(layer, LoraLayer) and adapter in layer.adapters
        }
        assert adapted == linear
