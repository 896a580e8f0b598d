"""Tiny checkpoints of transformers, as someone else would have saved them."""

import torch
import transformers

SIDE = 64

PLAIN = {
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": 8,
}


def config(name):
    """The configuration of a tiny model."""
    t = transformers
    makers = {
        "vit": lambda: t.ViTConfig(**PLAIN),
        "deit": lambda: t.DeiTConfig(**PLAIN),
        "beit": lambda: t.BeitConfig(**PLAIN),
        "dinov2": lambda: t.Dinov2Config(**PLAIN),
        "dinov2_registers": lambda: t.Dinov2WithRegistersConfig(**PLAIN),
        "dinov3": lambda: t.DINOv3ViTConfig(**PLAIN, num_register_tokens=4),
        "dinov3_convnext": lambda: t.DINOv3ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]),
        "swin": lambda: t.SwinConfig(
            image_size=SIDE, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2
        ),
        "swinv2": lambda: t.Swinv2Config(
            image_size=SIDE, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2
        ),
        "convnext": lambda: t.ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]),
        "resnet": lambda: t.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic"
        ),
        "regnet": lambda: t.RegNetConfig(
            embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], groups_width=8
        ),
        "poolformer": lambda: t.PoolFormerConfig(hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1]),
        "pvt": lambda: t.PvtConfig(
            image_size=SIDE, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1]
        ),
        "pvt_v2": lambda: t.PvtV2Config(
            image_size=SIDE, hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1]
        ),
        "segformer": lambda: t.SegformerConfig(hidden_sizes=[8, 8, 8, 8], decoder_hidden_size=8, depths=[1, 1, 1, 1]),
        "mobilenet_v2": lambda: t.MobileNetV2Config(depth_multiplier=0.25, image_size=SIDE),
        "clip": lambda: t.CLIPConfig(
            vision_config={**PLAIN, "projection_dim": 8},
            text_config={**PLAIN, "vocab_size": 20, "projection_dim": 8, "bos_token_id": 0, "eos_token_id": 1},
            projection_dim=8,
        ),
        "siglip": lambda: t.SiglipConfig(vision_config=PLAIN, text_config={**PLAIN, "vocab_size": 20}),
    }
    return makers[name]()


def save(model, folder, processor=None):
    """Write a checkpoint."""
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return str(folder)


def backbone(name):
    """The bare model of an architecture, with random weights."""
    torch.manual_seed(0)
    made = transformers.AutoModel.from_config(config(name))
    with torch.no_grad():
        for parameter in made.parameters():  # some start at zero, and then nothing could be seen of them
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return made
