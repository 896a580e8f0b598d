r"""What is usually adapted in each architecture, by the names that its library gives.

An entry is a list of path endings, of which those that a model has are taken, or one regular expression for the whole
path. An architecture that holds another one (a segmenter its backbone, a CLIP its two towers) needs no entry: what is
known inside is found. The names before and after transformers 5 renamed its layers stand side by side.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

Targets = list[str] | str

_QUERY_VALUE = ["query", "value", "q_proj", "v_proj"]
_QKV = ["qkv"]
_PROJECTIONS = ["q_proj", "v_proj"]
_FACTORED_QKV = ["qkv", "qk", "q", "kv", "v", "q_proj", "v_proj"]
_CONVNEXT = ["pwconv1", "pwconv2", "pointwise_conv1", "pointwise_conv2"]

# transformers' `config.model_type`.
DEFAULT_TARGETS: dict[str, Targets] = {
    # plain vision transformers
    "vit": _QUERY_VALUE,
    "vit_mae": _QUERY_VALUE,
    "vit_msn": _QUERY_VALUE,
    "vitdet": _QKV,
    "vitpose_backbone": _QUERY_VALUE,
    "deit": _QUERY_VALUE,
    "beit": _QUERY_VALUE,
    "data2vec-vision": _QUERY_VALUE,
    "dinov2": _QUERY_VALUE,
    "dinov2_with_registers": _QUERY_VALUE,
    "dinov3_vit": _PROJECTIONS,
    "dpt": _QUERY_VALUE,
    "eomt": _PROJECTIONS,
    "eomt_dinov3": _PROJECTIONS,
    "hiera": _QKV,
    "ijepa": _QUERY_VALUE,
    "imagegpt": ["c_attn"],
    "lw_detr_vit": _QUERY_VALUE,
    "pixio": _QUERY_VALUE,
    "rf_detr_dinov2": _QUERY_VALUE,
    "yolos": _QUERY_VALUE,
    # windows and pyramids
    "cvt": ["projection_query", "projection_value"],
    "dinat": _QUERY_VALUE,
    "donut-swin": _QUERY_VALUE,
    "glpn": _QUERY_VALUE,
    "levit": ["queries_keys_values.linear", "queries.linear", "keys_values.linear"],
    "maskformer-swin": _QUERY_VALUE,
    "mobilevit": _QUERY_VALUE,
    "mobilevitv2": ["qkv_proj.convolution", "out_proj.convolution"],
    "pvt": _QUERY_VALUE,
    "pvt_v2": _QUERY_VALUE,
    "segformer": _QUERY_VALUE,
    "swiftformer": ["to_query", "to_key"],
    "swin": _QUERY_VALUE,
    "swin2sr": _QUERY_VALUE,
    "swinv2": _QUERY_VALUE,
    # the vision towers of models that also read text
    "aimv2_vision_model": r"(.*\.)?encoder\..*\.[qv]_proj",
    "altclip_vision_model": _PROJECTIONS,
    "blip_vision_model": _QKV,
    "blip_2_vision_model": _QKV,
    "chinese_clip_vision_model": _PROJECTIONS,
    "clip_vision_model": _PROJECTIONS,
    "clipseg_vision_model": _PROJECTIONS,
    "metaclip_2_vision_model": _PROJECTIONS,
    "mlcd_vision_model": _PROJECTIONS,
    "owlv2_vision_model": _PROJECTIONS,
    "owlvit_vision_model": _PROJECTIONS,
    "siglip_vision_model": _PROJECTIONS,
    "siglip2_vision_model": _PROJECTIONS,
    "tipsv2_vision_model": _QUERY_VALUE,
    # segmentation by prompts
    "sam_vision_model": _QKV,
    "sam_hq_vision_model": _QKV,
    "sam2_hiera_det_model": _QKV,
    "sam3_vit_model": _PROJECTIONS,
    # detection: attention to the picture, not only in the backbone
    "conditional_detr": ["q_proj", "q_content_proj", "v_proj"],
    "detr": _PROJECTIONS,
    "deformable_detr": ["q_proj", "v_proj", "value_proj"],
    "rt_detr": ["q_proj", "v_proj", "value_proj"],
    "rt_detr_v2": ["q_proj", "v_proj", "value_proj"],
    "table-transformer": _PROJECTIONS,
    # video and sound
    "audio-spectrogram-transformer": _QUERY_VALUE,
    "timesformer": _QKV,
    "videomae": _QUERY_VALUE,
    "vivit": _QUERY_VALUE,
    "vjepa2": r"(.*\.)?encoder\..*\.(query|value|q_proj|v_proj)",
    # convolutions: those that mix channels
    "convnext": _CONVNEXT,
    "convnextv2": _CONVNEXT,
    "dinov3_convnext": _CONVNEXT,
    "efficientnet": ["expand_conv", "project_conv"],
    "focalnet": ["projection_in", "projection_out"],
    "hgnet_v2": r".*\.aggregation\.\d\.convolution",
    "mobilenet_v1": r"(.*\.)?layer\.\d+\.convolution",
    "mobilenet_v2": r"(.*\.)?layer\.\d+\.(expand_1x1|reduce_1x1)\.convolution",
    "poolformer": r".*\.output\.conv[12]",
    "regnet": r".*\.layer\.\d\.convolution",
    "resnet": r".*\.layer\.\d\.convolution",
    "rt_detr_resnet": r".*\.layer\.\d\.convolution",
}

# timm names its models in functions, not in their classes, so these go by the class.
TIMM_TARGETS: dict[str, Targets] = {
    # plain vision transformers
    "Beit": _QKV,
    "Cait": _QKV,
    "ConVit": _FACTORED_QKV,
    "CrossVit": _QKV,
    "DeepseekVitEncoder": _QKV,
    "Eva": ["qkv", "q_proj", "v_proj"],
    "Gemma4VitEncoder": ["q_proj.linear", "v_proj.linear"],
    "Hiera": _QKV,
    "HieraDet": _QKV,
    "NaFlexVit": ["qkv", "q_proj", "v_proj"],
    "PoolingVisionTransformer": _QKV,
    "Qwen3VitEncoder": _QKV,
    "TNT": _FACTORED_QKV,
    "VOLO": _QKV,
    "VisionTransformer": ["qkv", "q_proj", "v_proj"],
    "VisionTransformerRelPos": ["qkv", "q", "v"],
    "VisionTransformerSAM": _QKV,
    "Xcit": _QKV,
    # windows and pyramids
    "CoaT": _QKV,
    "DaVit": _QKV,
    "EdgeNeXt": r".*\.(qkv|mlp\.fc\d)",
    "EfficientFormer": r".*\.(qkv|mlp\.fc\d)",
    "EfficientFormerV2": r".*\.mlp\.fc\d\.conv",
    "EfficientVit": r"stages\..*\.(qkv|inverted_conv|point_conv)\.conv",
    "EfficientVitMsra": r".*\.(qkvs\.\d|pw\d)\.conv",
    "FastVit": r"stages\..*\.(qkv|mlp\.fc\d)",
    "GlobalContextVit": _QKV,
    "Levit": ["qkv.linear", "kv.linear", "q.ln.linear"],
    "MaxxVit": _QKV,
    "MultiScaleVit": ["qkv", "q", "v"],
    "Nest": _QKV,
    "NextViT": r".*\.(e_mhsa\.[qv]|mlp\.fc\d)",
    "PyramidVisionTransformerV2": ["q", "kv"],
    "SwiftFormer": ["to_query", "to_key"],
    "SwinTransformer": _QKV,
    "SwinTransformerV2": _QKV,
    "SwinTransformerV2Cr": _QKV,
    "TinyVit": _QKV,
    "Twins": ["qkv", "q", "kv"],
    "Visformer": _QKV,
    # convolutions and perceptrons: those that mix channels
    "ConvNeXt": r".*\.mlp\.fc\d",
    "ByobNet": r"stages\..*\.conv\w*\.conv",
    "CspNet": r"stages\..*\.conv\d(_1x1)?\.conv",
    "DenseNet": r"features\.denseblock\d\..*\.conv\d",
    "EfficientNet": r"blocks\..*\.conv_pwl?",
    "EfficientNetFeatures": r"blocks\..*\.conv_pwl?",
    "FocalNet": r"layers\..*\.mlp\.fc\d",
    "GhostNet": r"blocks\..*\.primary_conv\.0",
    "HighPerfGpuNet": r"stages\..*\.aggregation\.\d\.conv",
    "HighResolutionNet": r"(stage|layer)\d\..*\.conv\d",
    "MambaOut": r"stages\..*\.blocks\.\d+\.fc[12]",
    "MetaFormer": r".*\.(mlp\.fc\d|qkv)",
    "MetaNeXt": r"stages\..*\.mlp\.fc\d",
    "MlpMixer": r".*\.mlp_\w+\.fc\d",
    "MobileNetV3": r"blocks\..*\.conv_pwl?",
    "MobileNetV3Features": r"blocks\..*\.conv_pwl?",
    "RDNet": r"dense_stages\..*\.layers\.layers\.[245]",
    "RegNet": r"s\d\..*\.conv\d\.conv",
    "RepVit": r"stages\..*\.channel_mixer\.conv\d\.c",
    "ResNet": r"layer\d\..*\.conv\d",
    "ResNetV2": r"stages\..*\.conv\d",
    "Sequencer2d": r".*\.mlp_channels\.fc\d",
    "VGG": r"features\.([3-9]|\d\d)",
    "StarNet": r"stages\..*\.(f[12]|g)\.conv",
    # a backbone taken apart for its feature maps no longer says which it was
    "FeatureListNet": r".*\.(mlp\.fc\d|qkv|conv_pwl?)|(layer\d|stages).*\.conv\d|s\d\..*\.conv\d\.conv",
    "FeatureDictNet": r".*\.(mlp\.fc\d|qkv|conv_pwl?)|(layer\d|stages).*\.conv\d|s\d\..*\.conv\d\.conv",
}
TORCHVISION_TARGETS: dict[str, Targets] = {
    "ConvNeXt": r"features\..*\.block\.[35]",
    "DenseNet": r"features\.denseblock\d\..*\.conv\d",
    "EfficientNet": r"features\.\d\.\d+\.block\.\d\.0",
    "MaxVit": r"blocks\..*\.to_qkv",
    "MobileNetV2": r"features\.\d+\.conv\..*",
    "MobileNetV3": r"features\.\d+\.block\.\d\.0",
    "RegNet": r"trunk_output\..*\.f\.[abc]\.0",
    "ResNet": r"layer\d\..*\.conv\d",
    "SwinTransformer": _QKV,
    "SwinTransformer3d": _QKV,
    "VGG": r"features\.([3-9]|\d\d)",
    "VisionTransformer": ["self_attention"],
}
_LIBRARIES = {"timm": TIMM_TARGETS, "torchvision": TORCHVISION_TARGETS}


def known_targets(module: nn.Module) -> Targets | None:
    """What the tables say of this very module, or None."""
    model_type = getattr(getattr(module, "config", None), "model_type", None)
    if isinstance(model_type, str) and model_type in DEFAULT_TARGETS:
        return DEFAULT_TARGETS[model_type]
    for cls in type(module).__mro__:
        table = _LIBRARIES.get(cls.__module__.partition(".")[0], {})
        if cls.__name__ in table:
            return table[cls.__name__]
    return None


def usual_targets(model: nn.Module, modules: Iterable[tuple[str, nn.Module]]) -> Targets | None:
    """What is usually adapted in a model or, if it is not known itself, in the known parts among its modules."""
    if (known := known_targets(model)) is not None:
        return known
    parts: dict[str, Targets] = {}
    for path, module in modules:
        if any(path.startswith(part + ".") for part in parts):
            continue
        if (known := known_targets(module)) is not None:
            parts[path] = known
    return "|".join(_inside(path, targets) for path, targets in parts.items()) or None


def _inside(path: str, targets: Targets) -> str:
    """One regular expression for what `targets` means in the part of a model that lies at `path`."""
    if isinstance(targets, list):
        targets = rf"(.*\.)?({'|'.join(map(re.escape, targets))})"
    return rf"{re.escape(path)}\.({targets})"
