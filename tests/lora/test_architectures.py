"""The tables of usual targets, against the libraries as they are installed."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from tests.tiny_models import STAGES, VIT
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from lumora import LoraConfig, get_peft_model
from lumora.lora import default_targets
from lumora.lora.architectures import DEFAULT_TARGETS, TIMM_TARGETS, TORCHVISION_TARGETS
from lumora.lora.targets import Choice, choose

ENDS = re.compile(r"(^|\.)((patch_|pixel_)?embed\w*|\w*stem\w*|\w*classifier\w*|heads?|fc|decode_head|conv_head)(\.|$)")
"""The first layers and the last ones, which no default may touch."""

_TOWER = {"vision_config": VIT}
_SWIN: dict[str, Any] = {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2]}
_PYRAMID = {**STAGES, "num_attention_heads": [1, 1, 2, 2]}
_RESNET = {**STAGES, "embedding_size": 8}
_HIERA: dict[str, Any] = {
    "embed_dim": 8,
    "image_size": [32, 32],
    "patch_size": [7, 7],
    "patch_stride": [4, 4],
    "patch_padding": [3, 3],
    "depths": [1, 1, 1],
    "num_heads": [1, 1, 2],
    "query_stride": [2, 2],
    "num_query_pool": 1,
    "masked_unit_size": [4, 4],
    "masked_unit_attention": [True, False, False],
}
_HGNET: dict[str, Any] = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8] * 4,
    "stage_mid_channels": [8] * 4,
    "stage_out_channels": [8] * 4,
    "stage_num_blocks": [1] * 4,
    "hidden_sizes": [8] * 4,
    "depths": [1] * 4,
}
_LEVIT: dict[str, Any] = {
    "image_size": 32,
    "hidden_sizes": [8, 16, 16],
    "num_attention_heads": [1, 2, 2],
    "depths": [1, 1, 1],
    "key_dim": [4, 4, 4],
    "drop_path_rate": 0,
}
_GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 17, "n_positions": 64}
_DETR = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 1,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "use_timm_backbone": False,
    "backbone_config": transformers.ResNetConfig(**_RESNET, out_features=["stage4"]),
}
_SWIFT = {"depths": [1] * 4, "embed_dims": [8] * 4}
_FEATURES = ["stage1", "stage2", "stage3", "stage4"]
_RT_DETR = {
    "d_model": 16,
    "encoder_hidden_dim": 16,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "feat_strides": [8, 16, 32],
    "encoder_in_channels": [8, 16, 16],
    "decoder_in_channels": [16] * 3,
    "backbone_config": transformers.RTDetrResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"]),
}
_NARROW = {"hidden_sizes": [8, 16], "depths": [1, 1], "embed_dim": 8, "focal_levels": [2, 2], "focal_windows": [3, 3]}

# model_type -> class, configuration, what the adapted layers are called, how many there are
TRANSFORMERS: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "aimv2_vision_model": ("Aimv2VisionModel", VIT, "q_proj v_proj", 4),
    "altclip_vision_model": ("AltCLIPVisionModel", VIT, "q_proj v_proj", 4),
    "audio-spectrogram-transformer": (
        "ASTForAudioClassification",
        {**VIT, "max_length": 32, "num_mel_bins": 16},
        "q_proj v_proj",
        4,
    ),
    "beit": ("BeitForImageClassification", VIT, "q_proj v_proj", 4),
    "blip_2_vision_model": ("Blip2VisionModel", VIT, "qkv", 2),
    "blip_vision_model": ("BlipVisionModel", VIT, "qkv", 2),
    "chinese_clip_vision_model": ("ChineseCLIPVisionModel", VIT, "q_proj v_proj", 4),
    "clip_vision_model": ("CLIPVisionModel", VIT, "q_proj v_proj", 4),
    "clipseg_vision_model": ("CLIPSegVisionModel", VIT, "q_proj v_proj", 4),
    "conditional_detr": ("ConditionalDetrForObjectDetection", _DETR, "q_proj q_content_proj v_proj", 8),
    "convnext": ("ConvNextForImageClassification", STAGES, "pwconv1 pwconv2", 8),
    "convnextv2": ("ConvNextV2ForImageClassification", STAGES, "pwconv1 pwconv2", 8),
    "cvt": (
        "CvtForImageClassification",
        {"embed_dim": [8, 8, 16], "num_heads": [1, 1, 2], "depth": [1, 2, 3]},
        "projection_query projection_value",
        12,
    ),
    "data2vec-vision": ("Data2VecVisionForImageClassification", VIT, "query value", 4),
    "deformable_detr": (
        "DeformableDetrForObjectDetection",
        {
            **_DETR,
            "d_model": 32,
            "decoder_layers": 2,
            "backbone_config": transformers.ResNetConfig(**_RESNET, out_features=["stage2", "stage3", "stage4"]),
        },
        "value_proj q_proj v_proj",
        8,
    ),
    "deit": ("DeiTForImageClassification", VIT, "q_proj v_proj", 4),
    "detr": ("DetrForObjectDetection", _DETR, "q_proj v_proj", 8),
    "dinov2": ("Dinov2ForImageClassification", VIT, "q_proj v_proj", 4),
    "dinov2_with_registers": ("Dinov2WithRegistersForImageClassification", VIT, "q_proj v_proj", 4),
    "dinov3_convnext": ("DINOv3ConvNextModel", STAGES, "pointwise_conv1 pointwise_conv2", 8),
    "dinov3_vit": ("DINOv3ViTModel", VIT, "q_proj v_proj", 4),
    "donut-swin": ("DonutSwinModel", _SWIN, "query value", 6),
    "dpt": (
        "DPTForSemanticSegmentation",
        {**VIT, "is_hybrid": False, "backbone_out_indices": [0, 1], "neck_hidden_sizes": [8] * 4},
        "query value",
        4,
    ),
    "efficientnet": (
        "EfficientNetForImageClassification",
        {"width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 32},
        "expand_conv project_conv",
        13,
    ),
    "eomt": ("EomtForUniversalSegmentation", {**VIT, "num_queries": 3, "num_blocks": 1}, "q_proj v_proj", 4),
    "eomt_dinov3": ("EomtDinov3ForUniversalSegmentation", {**VIT, "num_blocks": 1}, "q_proj v_proj", 4),
    "focalnet": ("FocalNetForImageClassification", _NARROW, "projection_in projection_out", 4),
    "glpn": ("GLPNForDepthEstimation", {**_PYRAMID, "decoder_hidden_size": 8}, "query value", 8),
    "hgnet_v2": ("HGNetV2ForImageClassification", _HGNET, "convolution", 8),
    "hiera": ("HieraForImageClassification", _HIERA, "qkv", 3),
    "ijepa": ("IJepaForImageClassification", VIT, "q_proj v_proj", 4),
    "imagegpt": ("ImageGPTForImageClassification", _GPT, "c_attn", 2),
    "levit": ("LevitForImageClassification", _LEVIT, "linear", 7),
    "lw_detr_vit": (
        "LwDetrViTBackbone",
        {**VIT, "image_size": 64, "num_windows": 4, "window_block_indices": [0]},
        "q_proj v_proj",
        4,
    ),
    "maskformer-swin": ("MaskFormerSwinBackbone", _SWIN, "query value", 6),
    "metaclip_2_vision_model": ("MetaClip2VisionModel", VIT, "q_proj v_proj", 4),
    "mlcd_vision_model": ("MLCDVisionModel", VIT, "q_proj v_proj", 4),
    "mobilenet_v1": ("MobileNetV1ForImageClassification", {"depth_multiplier": 0.25}, "convolution", 13),
    "mobilenet_v2": ("MobileNetV2ForImageClassification", {"depth_multiplier": 0.25}, "convolution", 32),
    "mobilevit": (
        "MobileViTForImageClassification",
        {"hidden_sizes": [16] * 3, "neck_hidden_sizes": [8] * 6 + [16]},
        "query value",
        18,
    ),
    "mobilevitv2": ("MobileViTV2ForImageClassification", {"width_multiplier": 0.25}, "convolution", 18),
    "owlv2_vision_model": ("Owlv2VisionModel", VIT, "q_proj v_proj", 4),
    "owlvit_vision_model": ("OwlViTVisionModel", VIT, "q_proj v_proj", 4),
    "pixio": ("PixioModel", VIT, "q_proj v_proj", 4),
    "poolformer": ("PoolFormerForImageClassification", STAGES, "conv1 conv2", 8),
    "pvt": ("PvtForImageClassification", _PYRAMID, "query value", 8),
    "pvt_v2": ("PvtV2ForImageClassification", _PYRAMID, "query value", 8),
    "regnet": ("RegNetForImageClassification", {**_RESNET, "groups_width": 8}, "convolution", 10),
    "resnet": ("ResNetForImageClassification", _RESNET, "convolution", 12),
    "rf_detr_dinov2": ("RfDetrDinov2Backbone", VIT, "q_proj v_proj", 4),
    "rt_detr": ("RTDetrForObjectDetection", _RT_DETR, "value_proj q_proj v_proj", 8),
    "rt_detr_resnet": ("RTDetrResNetBackbone", _RESNET, "convolution", 12),
    "rt_detr_v2": ("RTDetrV2ForObjectDetection", _RT_DETR, "value_proj q_proj v_proj", 8),
    "sam2_hiera_det_model": (
        "Sam2HieraDetModel",
        {"hidden_size": 8, "blocks_per_stage": [1] * 4, "embed_dim_per_stage": [8, 8, 16, 16]},
        "qkv",
        4,
    ),
    "sam3_vit_model": ("Sam3ViTModel", {**VIT, "window_size": 2, "global_attn_indexes": [1]}, "q_proj v_proj", 4),
    "sam_vision_model": ("SamVisionModel", {**VIT, "output_channels": 8, "global_attn_indexes": [1]}, "qkv", 2),
    "sam_hq_vision_model": ("SamHQVisionModel", {**VIT, "output_channels": 8, "global_attn_indexes": [1]}, "qkv", 2),
    "segformer": (
        "SegformerForSemanticSegmentation",
        {**_PYRAMID, "decoder_hidden_size": 16},
        "q_proj v_proj",
        8,
    ),
    "siglip2_vision_model": ("Siglip2VisionModel", VIT, "q_proj v_proj", 4),
    "siglip_vision_model": ("SiglipVisionModel", VIT, "q_proj v_proj", 4),
    "swiftformer": (
        "SwiftFormerForImageClassification",
        {"depths": [1] * 4, "embed_dims": [8] * 4},
        "to_query to_key",
        8,
    ),
    "swin": ("SwinForImageClassification", _SWIN, "q_proj v_proj", 6),
    "swin2sr": ("Swin2SRModel", {**_SWIN, "window_size": 4}, "query value", 6),
    "swinv2": ("Swinv2ForImageClassification", _SWIN, "query value", 6),
    "table-transformer": ("TableTransformerForObjectDetection", _DETR, "q_proj v_proj", 8),
    "timesformer": ("TimesformerForVideoClassification", {**VIT, "num_frames": 2, "drop_path_rate": 0}, "qkv", 4),
    "tipsv2_vision_model": ("Tipsv2VisionModel", VIT, "q_proj v_proj", 4),
    "videomae": ("VideoMAEForVideoClassification", {**VIT, "num_frames": 2}, "query value", 4),
    "vit": ("ViTForImageClassification", VIT, "q_proj v_proj", 4),
    "vit_mae": ("ViTMAEModel", VIT, "q_proj v_proj", 4),
    "vit_msn": ("ViTMSNForImageClassification", VIT, "q_proj v_proj", 4),
    "vitdet": ("VitDetModel", VIT, "qkv", 2),
    "vitpose_backbone": ("VitPoseBackbone", {**VIT, "image_size": [32, 32], "patch_size": [8, 8]}, "query value", 4),
    "vivit": ("VivitForVideoClassification", {**VIT, "num_frames": 2}, "q_proj v_proj", 4),
    "vjepa2": ("VJEPA2Model", {**VIT, "crop_size": 32, "pred_num_hidden_layers": 1}, "query value", 4),
    "yolos": ("YolosForObjectDetection", {**VIT, "image_size": [32, 32]}, "query value", 4),
    # composed models: what is known inside is adapted
    "clip": ("CLIPForImageClassification", _TOWER, "q_proj v_proj", 4),
    "siglip": ("SiglipForImageClassification", _TOWER, "q_proj v_proj", 4),
    "upernet": (
        "UperNetForSemanticSegmentation",
        {
            "backbone_config": transformers.ConvNextConfig(
                **STAGES, out_features=["stage1", "stage2", "stage3", "stage4"]
            ),
            "hidden_size": 8,
        },
        "pwconv1 pwconv2",
        8,
    ),
    "depth_anything": (
        "DepthAnythingForDepthEstimation",
        {
            "backbone_config": transformers.Dinov2Config(**{**VIT, "num_hidden_layers": 4}, out_indices=[1, 2, 3, 4]),
            "reassemble_hidden_size": 16,
            "neck_hidden_sizes": [8] * 4,
            "fusion_hidden_size": 8,
        },
        "q_proj v_proj",
        8,
    ),
    "sam": ("SamModel", {"vision_config": {**VIT, "output_channels": 256, "global_attn_indexes": [1]}}, "qkv", 2),
}
NOT_BUILT = {"dinat"}  # needs natten, which runs on a GPU only


def _quietly(build: Any) -> nn.Module:
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return build()


def _checked(model: nn.Module) -> Choice:
    choice = choose(model, LoraConfig())
    paths = [target.path for target in choice.targets]
    assert not choice.problems
    assert paths
    assert not [path for path in paths if ENDS.search(path)]
    assert all(getattr(target.module, "groups", 1) == 1 for target in choice.targets)
    return choice


@pytest.mark.parametrize("model_type", TRANSFORMERS)
def test_transformers__defaults_are_attention_or_channel_mixing(model_type: str) -> None:
    name, options, endings, count = TRANSFORMERS[model_type]
    config = CONFIG_MAPPING[model_type](**options)
    assert config.model_type == model_type
    model = _quietly(lambda: getattr(transformers, name)(config))
    paths = [target.path for target in _checked(model).targets]
    assert {path.rpartition(".")[2] for path in paths} == set(endings.split())
    assert len(paths) == count


def test_transformers__every_entry_exists_and_is_tested() -> None:
    assert set(DEFAULT_TARGETS) <= set(CONFIG_MAPPING)
    assert set(DEFAULT_TARGETS) - NOT_BUILT <= set(TRANSFORMERS)


# class -> a model of that class, what the adapted layers are called, how many there are
TIMM = {
    "Beit": ("beit_base_patch16_224", "qkv", 12),
    "ByobNet": ("repvgg_b0", "conv", 54),
    "Cait": ("cait_xxs24_224", "qkv", 24),
    "CoaT": ("coat_tiny", "qkv", 26),
    "ConVit": ("convit_tiny", "qk qkv v", 22),
    "ConvNeXt": ("convnext_atto", "fc1 fc2", 24),
    "CrossVit": ("crossvit_18_240", "qkv", 21),
    "CspNet": ("darknet17", "conv", 10),
    "DaVit": ("davit_tiny", "qkv", 12),
    "DeepseekVitEncoder": ("deepseek_vit_412m_enc", "qkv", 32),
    "DenseNet": ("densenet121", "conv1 conv2", 116),
    "EdgeNeXt": ("edgenext_small", "fc1 fc2 qkv", 39),
    "EfficientFormer": ("efficientformer_l1", "fc1 fc2 qkv", 31),
    "EfficientFormerV2": ("efficientformerv2_s0", "conv", 28),
    "EfficientNet": ("tinynet_a", "conv_pw conv_pwl", 37),
    "EfficientVit": ("efficientvit_b0", "conv", 24),
    "EfficientVitMsra": ("efficientvit_m0", "conv", 56),
    "Eva": ("eva02_tiny_patch14_224", "qkv", 12),
    "FastVit": ("fastvit_t8", "fc1 fc2", 20),
    "FocalNet": ("focalnet_tiny_srf", "fc1 fc2", 24),
    "Gemma4VitEncoder": ("gemma4_vit_167m_enc", "linear", 32),
    "GhostNet": ("ghostnet_050", "0", 32),
    "GlobalContextVit": ("gcvit_tiny", "qkv", 31),
    "Hiera": ("hiera_tiny_224", "qkv", 12),
    "HieraDet": ("hieradet_small", "qkv", 16),
    "HighPerfGpuNet": ("hgnet_tiny", "conv", 10),
    "HighResolutionNet": ("hrnet_w18", "conv1 conv2 conv3", 220),
    "Levit": ("levit_128s", "linear", 13),
    "MambaOut": ("mambaout_tiny", "fc1 fc2", 36),
    "MaxxVit": ("test_maxvit", "qkv", 8),
    "MetaFormer": ("caformer_s18", "fc1 fc2 qkv", 48),
    "MetaNeXt": ("inception_next_atto", "fc1 fc2", 24),
    "MlpMixer": ("gmlp_s16_224", "fc1 fc2", 60),
    "MobileNetV3": ("mobilenetv3_small_050", "conv_pw conv_pwl", 21),
    "MultiScaleVit": ("mvitv2_tiny", "qkv", 10),
    "NaFlexVit": ("naflexvit_base_patch16_gap", "qkv", 12),
    "Nest": ("nest_tiny", "qkv", 12),
    "NextViT": ("nextvit_small", "fc1 fc2 q v", 48),
    "PoolingVisionTransformer": ("pit_b_224", "qkv", 13),
    "PyramidVisionTransformerV2": ("pvt_v2_b0", "kv q", 16),
    "Qwen3VitEncoder": ("qwen3_vit_88m", "qkv", 12),
    "RDNet": ("rdnet_tiny", "2 4", 42),
    "RegNet": ("regnetx_002", "conv", 26),
    "RepVit": ("repvit_m1", "c", 46),
    "ResNet": ("resnet18", "conv1 conv2", 16),
    "ResNetV2": ("resnetv2_18", "conv1 conv2", 16),
    "Sequencer2d": ("sequencer2d_s", "fc1 fc2", 36),
    "StarNet": ("starnet_s050", "conv", 18),
    "SwiftFormer": ("swiftformer_s", "to_key to_query", 8),
    "SwinTransformer": ("swin_s3_tiny_224", "qkv", 12),
    "SwinTransformerV2": ("swinv2_tiny_window8_256", "qkv", 12),
    "SwinTransformerV2Cr": ("swinv2_cr_tiny_384", "qkv", 12),
    "TNT": ("tnt_s_patch16_224", "qk v", 48),
    "TinyVit": ("tiny_vit_5m_224", "qkv", 10),
    "Twins": ("twins_svt_small", "kv q qkv", 27),
    "VGG": ("vgg11", "11 13 16 18 3 6 8", 7),
    "VOLO": ("volo_d1_224", "qkv", 14),
    "Visformer": ("visformer_tiny", "qkv", 8),
    "VisionTransformer": ("test_vit", "qkv", 6),
    "VisionTransformerRelPos": ("test_vit_relpos", "qkv", 9),
    "VisionTransformerSAM": ("samvit_base_patch16", "qkv", 12),
    "Xcit": ("xcit_nano_12_p8_224", "qkv", 12),
}


@pytest.mark.parametrize("class_name", TIMM)
def test_timm__defaults_are_attention_or_channel_mixing(class_name: str) -> None:
    name, endings, count = TIMM[class_name]
    model = _quietly(lambda: timm.create_model(name))
    assert class_name in {c.__name__ for m in (model, *model.children()) for c in type(m).__mro__}
    paths = [target.path for target in _checked(model).targets]
    assert {path.rpartition(".")[2] for path in paths} == set(endings.split())
    assert len(paths) == count


def test_timm__every_entry_is_tested() -> None:
    for_features = {"FeatureListNet", "FeatureDictNet", "EfficientNetFeatures", "MobileNetV3Features"}
    assert set(TIMM_TARGETS) == {*TIMM, *for_features}


@pytest.mark.parametrize(
    ("name", "endings"),
    [
        ("resnet18", "conv1 conv2"),
        ("convnext_atto", "fc1 fc2"),
        ("tf_efficientnet_b0", "conv_pw conv_pwl"),
        ("mobilenetv3_small_050", "conv_pw conv_pwl"),
        ("swin_tiny_patch4_window7_224", "qkv"),
        ("regnety_002", "conv"),
        ("poolformer_s12", "fc1 fc2"),
    ],
)
def test_timm__a_backbone_for_feature_maps_has_defaults(name: str, endings: str) -> None:
    model = _quietly(lambda: timm.create_model(name, features_only=True))
    assert {t.path.rpartition(".")[2] for t in _checked(model).targets} >= set(endings.split())


TORCHVISION = {
    "ConvNeXt": ("convnext_tiny", 36),
    "DenseNet": ("densenet121", 116),
    "EfficientNet": ("efficientnet_b0", 31),
    "MaxVit": ("maxvit_t", 22),
    "MobileNetV2": ("mobilenet_v2", 33),
    "MobileNetV3": ("mobilenet_v3_small", 21),
    "RegNet": ("regnet_y_400mf", 32),
    "ResNet": ("resnext50_32x4d", 32),
    "SwinTransformer": ("swin_v2_t", 12),
    "SwinTransformer3d": ("swin3d_t", 12),
    "VGG": ("vgg11_bn", 7),
    "VisionTransformer": ("vit_b_32", 12),
}


@pytest.mark.parametrize("class_name", TORCHVISION)
def test_torchvision__defaults_are_attention_or_channel_mixing(class_name: str) -> None:
    name, count = TORCHVISION[class_name]
    # RegNet computes its widths with tensors, which the meta device cannot.
    build = torchvision.models.get_model_builder(name)
    model = build() if class_name == "RegNet" else _quietly(build)
    assert type(model).__name__ == class_name
    assert len([t for t in _checked(model).targets if not t.inner]) == count


def test_torchvision__every_entry_is_tested() -> None:
    assert set(TORCHVISION_TARGETS) == set(TORCHVISION)


class Segmenter(nn.Module):
    """A model of one's own around a backbone from a library."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("test_vit")
        self.head = nn.Linear(8, 2)


def test_default_targets__finds_the_known_part_of_an_unknown_model() -> None:
    model = Segmenter()
    found = get_peft_model(model, LoraConfig(r=2)).targeted_module_names
    assert found == [f"backbone.blocks.{i}.attn.qkv" for i in range(6)]


def test_default_targets__is_none_for_an_unknown_model() -> None:
    assert default_targets(nn.Sequential(nn.Linear(2, 2))) is None


def test_defaults__that_match_grouped_convolutions_become_the_paths_of_the_others() -> None:
    model = _quietly(lambda: timm.create_model("resnext50_32x4d"))
    choice = _checked(model)
    assert isinstance(choice.resolved, set)
    assert choice.resolved == {t.path for t in choice.targets}
    assert "layer1.0.conv1" in choice.resolved
    assert "layer1.0.conv2" not in choice.resolved
