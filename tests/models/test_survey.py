import pytest
import torch
from torch import nn

from lumora.lora.config import LoraConfig
from lumora.lora.model import get_peft_model
from lumora.models import build
from lumora.models.survey import survey


def test_survey__groups_the_blocks_and_marks_the_usual_targets(vit):
    groups = {group.path: group for group in survey(vit).groups}
    query, key = groups["vit.layers.*.attention.q_proj"], groups["vit.layers.*.attention.k_proj"]
    assert (query.kind, query.shapes, query.count, query.parameters) == ("Linear", ((16, 16),), 2, 2 * (16 * 16 + 16))
    assert (query.targeted, key.targeted) == (2, 0)
    assert list(groups)[-1] == "classifier"


@pytest.mark.parametrize("name", ["timm/poolformer_s12", "torchvision/vit_b_16", "torchvision/resnet18"])
def test_survey__cost_is_that_of_the_adapter_one_would_get(name):
    cost = survey(build(name, meta=True), rank=4).lora
    model = get_peft_model(build(name, meta=True), LoraConfig(r=4), low_cpu_mem_usage=True)
    assert (cost.trainable, cost.targets) == (model.get_nb_trainable_parameters()[0], len(model.targeted_module_names))
    assert cost.usual
    assert cost.file_bytes == 4 * cost.trainable


def test_survey__counts_an_attention_as_one_module():
    groups = survey(build("torchvision/vit_b_16", meta=True)).groups
    attention = next(group for group in groups if group.kind == "MultiheadAttention")
    assert (attention.count, attention.targeted, attention.shapes) == (12, 12, ((2304, 768),))
    assert not any("out_proj" in group.path for group in groups)


def test_survey__unknown_architecture_is_counted_with_all_linear_layers():
    cost = survey(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), rank=2).lora
    assert (cost.usual, cost.target_modules, cost.targets) == (False, "all-linear", 2)
    assert cost.trainable == 2 * (4 + 6) + 2 * (6 + 2)
    assert cost.percent == pytest.approx(100 * 36 / (36 + 44))


def test_survey__says_why_there_is_no_cost():
    seen = survey(nn.Sequential(nn.Conv2d(3, 4, 3)))
    assert seen.lora is None
    assert "no usual targets" in seen.problem
    assert [group.kind for group in seen.groups] == ["Conv2d"]


def test_survey__leaves_the_model_as_it_was(vit):
    vit.classifier.requires_grad_(False)
    before = {name: p.requires_grad for name, p in vit.named_parameters()}
    modules = list(vit.modules())
    sample = torch.rand(1, 3, 32, 32)
    output = vit(sample).logits
    survey(vit)
    assert list(vit.modules()) == modules
    assert {name: p.requires_grad for name, p in vit.named_parameters()} == before
    assert torch.equal(vit(sample).logits, output)
