import timm
import torch
from torch import nn

from lumora.lora import LoraConfig, get_peft_model
from lumora.models.targets import every_layer, reached


def test_every_layer__takes_all_that_mixes_channels():
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(4, 4),
            "pointwise": nn.Conv2d(4, 4, 1),
            "spatial": nn.Conv2d(4, 4, 3),
            "depthwise": nn.Conv2d(4, 4, 3, groups=4),
            "embedding": nn.Embedding(4, 4),
            "norm": nn.LayerNorm(4),
            "back": nn.ConvTranspose2d(4, 4, 2),
            "attention": nn.MultiheadAttention(4, 1),
            "head": nn.Linear(4, 2),
        }
    )
    assert every_layer(model, ["head"]) == ["attention", "linear", "pointwise", "spatial"]


def test_every_layer__endings_are_short_where_they_suffice():
    model = timm.models.VisionTransformer(32, 8, embed_dim=24, depth=2, num_heads=3)
    assert every_layer(model, ["head"]) == ["fc1", "fc2", "proj", "qkv"]


def test_every_layer__means_the_very_layers_to_the_engine():
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 4), nn.Linear(4, 2))
    targets = every_layer(model, ["2"])
    assert get_peft_model(model, LoraConfig(r=1, target_modules=targets)).targeted_module_names == ["0.0", "1"]


def test_every_layer__is_the_same_on_an_adapted_model():
    model = timm.models.VisionTransformer(32, 8, embed_dim=24, depth=2, num_heads=3)
    before = every_layer(model, ["head"])
    get_peft_model(model, LoraConfig(r=1, target_modules=["qkv"]))
    assert every_layer(model, ["head"]) == before


class Partly(nn.Module):
    """One layer that is used, one whose result is not, and one that never runs."""

    def __init__(self):
        super().__init__()
        self.used, self.lost, self.idle = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(4, 4)

    def forward(self, x):
        self.lost(x)
        return {"out": self.used(x), "note": "text"}


def test_reached__is_what_changes_the_output():
    model = Partly()
    assert reached(model, (8, 8)) == {model.used}
    assert every_layer(model, among=reached(model, (8, 8))) == ["used"]


def test_reached__leaves_the_model_as_it_was():
    model = Partly().train()
    model.used.weight.requires_grad_(False)
    random = torch.get_rng_state()
    assert reached(model, (8, 8)) == {model.used}
    assert not model.used.weight.requires_grad
    assert model.lost.weight.requires_grad
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert torch.get_rng_state().equal(random)


def test_reached__works_without_weights_and_says_when_it_cannot():
    assert len(reached(Partly().to("meta"), (8, 8))) == 1
    assert reached(nn.Linear(7, 2), (8, 8)) is None
