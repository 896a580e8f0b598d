import copy
import hashlib

import pytest
import timm
import torch
import transformers
from torch import nn

from lumora.lora import LoraConfig, get_peft_model
from lumora.models.fingerprint import base_tensors, fingerprint


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


@pytest.fixture
def model():
    model = small()
    model(torch.rand(2, 3, 2, 2))
    return model


def written_out(model, start=""):
    """The fingerprint as its definition says, from the state dict."""
    whole = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        shape = ",".join(str(length) for length in tensor.shape)
        dtype = str(tensor.dtype).split(".")[1]
        whole.update(f"{name.removeprefix(start)}\t{dtype}\t{shape}\t{values}\n".encode())
    return "sha256:" + whole.hexdigest()


def test_fingerprint__is_what_its_definition_says(model):
    assert fingerprint(model) == written_out(model)
    inside = nn.ModuleDict({"backbone": nn.ModuleDict({"body": model})})
    assert fingerprint(inside) == written_out(inside, "backbone.body.")


def test_fingerprint__counts_every_tensor_of_the_state_dict_and_no_other(model):
    model.register_buffer("cache", torch.ones(2), persistent=False)
    assert {name for name, _ in base_tensors(model)} == set(model.state_dict())


def test_fingerprint__changes_with_a_value_a_name_a_shape_and_a_type(model):
    before = fingerprint(model)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed[0].weight[0, 0, 0, 0] += 1e-6
    transposed = nn.Linear(2, 3, bias=False)
    as_wide = nn.Linear(3, 2, bias=False)
    as_wide.weight.data = transposed.weight.data.view(2, 3)
    others = [fingerprint(changed), fingerprint(copy.deepcopy(model).double()), fingerprint(nn.Sequential(*model[1:]))]
    assert before not in others
    assert fingerprint(transposed) != fingerprint(as_wide)


def test_fingerprint__does_not_change_with_memory_layout(model):
    before = fingerprint(model)
    assert fingerprint(model.to(memory_format=torch.channels_last)) == before


def test_fingerprint__half_precision_weights_have_one():
    model = nn.Linear(2, 2).bfloat16()
    assert fingerprint(model) == fingerprint(copy.deepcopy(model))


@pytest.mark.parametrize("bias", ["none", "lora_only"])
def test_fingerprint__adapters_do_not_count(bias):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=3)
    before, whole = fingerprint(model, ["head"]), fingerprint(model)
    config = LoraConfig(target_modules=["qkv", "proj"], modules_to_save=["head"], init_lora_weights=False, bias=bias)
    adapted = get_peft_model(model, config)
    assert fingerprint(model, ["head"]) == fingerprint(adapted, ["head"]) == before
    assert fingerprint(adapted) == whole
    adapted.merge_adapter()
    assert fingerprint(model, ["head"]) == before
    adapted.unmerge_adapter()
    assert fingerprint(adapted.unload(), ["head"]) == before


def test_fingerprint__is_the_backbones_under_any_head():
    torch.manual_seed(0)
    config = transformers.SegformerConfig(hidden_sizes=[8, 8, 8, 8], decoder_hidden_size=8, depths=[1, 1, 1, 1])
    labelled = transformers.SegformerForImageClassification(config)
    segmenter = transformers.SegformerForSemanticSegmentation(config)
    segmenter.segformer.load_state_dict(labelled.segformer.state_dict())
    one = fingerprint(labelled, ["classifier"])
    assert one == fingerprint(segmenter, ["decode_head"]) == fingerprint(labelled.segformer)


def test_fingerprint__without_weights_there_is_none():
    assert fingerprint(nn.Linear(2, 2, device="meta")) is None
    assert fingerprint(nn.ReLU()) is None
