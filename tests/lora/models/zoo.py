"""Real architectures, tiny and with random weights: what the engine has to work on.

Everything is built from a configuration; nothing is downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision.models.convnext
import torchvision.models.swin_transformer
import transformers
from tests.tiny_models import SEGFORMER, STAGES, VIT
from torch import Tensor, nn

PICTURES = (2, 3, 32, 32)
LARGE = (2, 3, 64, 64)  # the last of four stages still has several tokens, and so does what it attends to


@dataclass(frozen=True)
class Architecture:
    """How to build one model, what to call it with, and what to adapt in it besides its defaults."""

    name: str
    build: Callable[[], nn.Module]
    explicit: tuple[str, ...]
    """Path endings to adapt, other than the defaults."""
    head: str = "classifier"
    call: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]] = lambda: ((torch.randn(PICTURES),), {})

    def base(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The model, frozen, every time with the same weights, no two of them equal."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(1)
            model = self.build().eval()
            with torch.no_grad():
                for tensor in [*model.parameters(), *model.buffers()]:
                    if tensor.is_floating_point():
                        spread = torch.rand_like(tensor) / 2  # for biases, so that few units are silent behind a ReLU
                        tensor.add_(spread if tensor.dim() == 1 else (spread - 0.25) / 2)
        return model.to(dtype).requires_grad_(False)

    def sample(self, dtype: torch.dtype = torch.float64) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The inputs, every time the same."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            args, kwargs = self.call()
        cast = [a.to(dtype) if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        return tuple(cast), kwargs

    def __str__(self) -> str:
        return self.name


def _of_transformers(
    name: str,
    prefix: str,
    suffix: str,
    explicit: tuple[str, ...],
    head: str = "classifier",
    shape: tuple[int, ...] = PICTURES,
    **options: Any,
) -> Architecture:
    def build() -> nn.Module:
        config = getattr(transformers, f"{prefix}Config")(**options)
        return getattr(transformers, prefix + suffix)(config)

    return Architecture(name, build, explicit, head, lambda: ((torch.randn(shape),), {}))


_CLASSIFIER = "ForImageClassification"
_SWIN = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [1, 2],
    "window_size": 4,
    "drop_path_rate": 0.0,
}
_SEGFORMER = {**SEGFORMER, "drop_path_rate": 0.0, "classifier_dropout_prob": 0.0}


def _clip() -> nn.Module:
    config = transformers.CLIPConfig(text_config=VIT, vision_config=VIT, projection_dim=8)
    return transformers.CLIPForImageClassification(config)


def _mask2former() -> nn.Module:
    swin = transformers.SwinConfig(
        image_size=64,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=4,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.Mask2FormerConfig(
        backbone_config=swin,
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        dim_feedforward=16,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        num_queries=3,
    )
    return transformers.Mask2FormerForUniversalSegmentation(config)


TRANSFORMERS = [
    _of_transformers("vit", "ViT", _CLASSIFIER, ("q_proj", "v_proj", "mlp.fc1"), **VIT),
    _of_transformers("dinov2", "Dinov2", _CLASSIFIER, ("mlp.fc2", "projection"), **VIT),
    _of_transformers("swin", "Swin", _CLASSIFIER, ("k_proj", "reduction"), **_SWIN),
    _of_transformers("swinv2", "Swinv2", _CLASSIFIER, ("dense", "reduction"), **_SWIN),
    _of_transformers(
        "segformer", "Segformer", "ForSemanticSegmentation", ("o_proj",), "decode_head", LARGE, **_SEGFORMER
    ),
    _of_transformers(
        "convnext", "ConvNext", _CLASSIFIER, ("pwconv1", "patch_embeddings"), drop_path_rate=0.0, **STAGES
    ),
    _of_transformers("poolformer", "PoolFormer", _CLASSIFIER, ("conv1", "projection"), drop_path_rate=0.0, **STAGES),
    _of_transformers(
        "resnet", "ResNet", _CLASSIFIER, ("convolution",), "classifier", embedding_size=8, layer_type="basic", **STAGES
    ),
    _of_transformers(
        "pvt_v2",
        "PvtV2",
        _CLASSIFIER,
        ("key", "spatial_reduction"),
        shape=LARGE,
        num_attention_heads=[1, 1, 2, 2],
        sr_ratios=[4, 2, 1, 1],
        image_size=64,
        drop_path_rate=0.0,
        **STAGES,
    ),
    Architecture("clip", _clip, ("k_proj", "out_proj", "patch_embedding")),
]


def _poolformer() -> nn.Module:
    metaformer = timm.models.metaformer
    return metaformer.MetaFormer(
        depths=(1, 1, 1, 1),
        dims=(8, 8, 16, 16),
        downsample_norm=None,
        mlp_act=nn.GELU,
        mlp_bias=True,
        norm_layers=metaformer.GroupNorm1,
        layer_scale_init_values=1e-5,
        res_scale_init_values=None,
        use_mlp_head=False,
        num_classes=5,
    )


_TIMM_VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 5}
_TIMM_SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": (1, 2),
    "num_heads": (1, 2),
    "window_size": 4,
    "num_classes": 5,
    "drop_path_rate": 0.0,
}


def _timm_resnet() -> nn.Module:
    return timm.models.ResNet(
        timm.models.resnet.Bottleneck, (1, 1, 1, 1), channels=(8, 8, 16, 16), stem_width=8, num_classes=5
    )


def _efficientnet() -> nn.Module:
    # The TensorFlow ports pad dynamically, in a subclass of the convolution (`Conv2dSame`).
    return timm.create_model("test_efficientnet", pad_type="same", num_classes=5, drop_path_rate=0.0)


TIMM = [
    Architecture(
        "timm_vit", lambda: timm.models.VisionTransformer(**_TIMM_VIT), ("attn.proj", "patch_embed.proj"), "head"
    ),
    Architecture("timm_eva", lambda: timm.models.Eva(**_TIMM_VIT), ("attn.qkv", "mlp.fc1"), "head"),
    Architecture("timm_beit", lambda: timm.models.Beit(**_TIMM_VIT), ("attn.qkv", "mlp.fc1"), "head"),
    Architecture("timm_swin", lambda: timm.models.SwinTransformer(**_TIMM_SWIN), ("attn.proj", "reduction"), "head"),
    Architecture("timm_swinv2", lambda: timm.models.SwinTransformerV2(**_TIMM_SWIN), ("attn.qkv", "cpb_mlp.0"), "head"),
    Architecture(
        "timm_convnext",
        lambda: timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=5),
        ("mlp.fc1", "stem.0"),
        "head",
    ),
    Architecture("timm_poolformer", _poolformer, ("mlp.fc2", "downsample.conv"), "head"),
    Architecture("timm_resnet", _timm_resnet, ("conv1", "downsample.0"), "fc"),
    Architecture("timm_efficientnet", _efficientnet, ("conv_pw", "se.conv_reduce")),
]

_TORCHVISION_SWIN: dict[str, Any] = {
    "patch_size": [2, 2],
    "embed_dim": 8,
    "depths": [1, 2],
    "num_heads": [1, 2],
    "window_size": [4, 4],
    "stochastic_depth_prob": 0.0,
    "num_classes": 5,
}


def _torchvision_vit() -> nn.Module:
    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=5
    )


def _torchvision_swin() -> nn.Module:
    return torchvision.models.SwinTransformer(**_TORCHVISION_SWIN)


def _torchvision_swin_v2() -> nn.Module:
    v2 = torchvision.models.swin_transformer
    return v2.SwinTransformer(**_TORCHVISION_SWIN, block=v2.SwinTransformerBlockV2, downsample_layer=v2.PatchMergingV2)


def _torchvision_convnext() -> nn.Module:
    stage = torchvision.models.convnext.CNBlockConfig
    return torchvision.models.ConvNeXt([stage(8, 16, 1), stage(16, None, 1)], num_classes=5)


TORCHVISION = [
    Architecture("torchvision_vit", _torchvision_vit, ("self_attention", "mlp.0", "conv_proj"), "heads.head"),
    Architecture("torchvision_swin", _torchvision_swin, ("attn.qkv", "attn.proj", "mlp.3"), "head"),
    Architecture("torchvision_swin_v2", _torchvision_swin_v2, ("attn.qkv", "attn.proj", "cpb_mlp.2"), "head"),
    Architecture("torchvision_convnext", _torchvision_convnext, ("block.3", "features.0.0"), "classifier.2"),
]


class Encoder(nn.Module):
    """A `nn.TransformerEncoder` with a head, as people write it."""

    def __init__(self, batch_first: bool, norm_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=batch_first, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=batch_first and not norm_first)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=padding))


def encoder(batch_first: bool, norm_first: bool, padded: bool) -> Architecture:
    def call() -> tuple[tuple[Any, ...], dict[str, Any]]:
        x = torch.randn(3, 6, 16) if batch_first else torch.randn(6, 3, 16)
        padding = torch.zeros(3, 6, dtype=torch.bool)
        padding[0, 4:] = padding[2, 5:] = True
        return (x,), {"padding": padding} if padded else {}

    words = ("batch_first" if batch_first else "batch_second", "norm_first" if norm_first else "norm_last")
    name = "_".join(["encoder", *words, *(["padded"] if padded else [])])
    return Architecture(name, lambda: Encoder(batch_first, norm_first), ("self_attn", "linear1"), "head", call)


ENCODERS = [encoder(b, n, p) for b in (True, False) for n in (True, False) for p in (True, False)]
ALL = [*TRANSFORMERS, *TIMM, *TORCHVISION, ENCODERS[3]]
BY_NAME = {a.name: a for a in [*ALL, *ENCODERS]}
MASK2FORMER = Architecture(
    "mask2former", _mask2former, ("q_proj",), "class_predictor", lambda: ((torch.randn(1, 3, 64, 64),), {})
)
