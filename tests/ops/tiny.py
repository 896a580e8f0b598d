"""Tiny transformers models with random weights, in 64 bits, without anything random in their forward pass."""

import torch
from torch import nn


def segformer(num_labels=5, **options):
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=num_labels,
        depths=[1, 1, 1, 1],
        hidden_sizes=[4, 6, 8, 10],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=12,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
        **options,
    )
    return shaken(SegformerForSemanticSegmentation(config))


def vit(kind="ViT", classifier="ForImageClassification", **options):
    import transformers

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = getattr(transformers, f"{kind}Config")(**sizes, image_size=16, patch_size=8, num_labels=3, **options)
    return shaken(getattr(transformers, f"{kind}{classifier}")(config))


def shaken(model):
    """Weights and statistics that are neither zero nor one, so that none can be left out unseen."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.running_mean.normal_()
                norm.running_var.uniform_(0.5, 2.0)
    return model.double()


def pictures(height=64, width=64, batch=2):
    return torch.randn(batch, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def masks(classes, height=64, width=64, batch=2):
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, classes, (batch, height, width), generator=generator)
    labels[:, : height // 5] = 255
    return labels


def adapted(model, **options):
    """The model with an adapter that does something."""
    from lumora import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(r=2, **options)).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return model


def results(model, **inputs):
    """Loss, logits and the gradient of everything that is trained."""
    model.zero_grad()
    outputs = model(**inputs)
    outputs.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": outputs.loss.detach(), "logits": outputs.logits.detach(), **gradients}


def assert_same(got, expected, tolerance=1e-10):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")
