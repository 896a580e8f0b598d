import json
import warnings

import pytest
import timm
import torch
import transformers
from tests.models import checkpoints
from tests.models.checkpoints import SIDE
from torch import nn

from lumora.errors import LumoraError, LumoraWarning
from lumora.lora import LoraConfig, get_peft_model
from lumora.models import Base, Preprocessing, load_base
from lumora.models.fingerprint import fingerprint

SMALL = Preprocessing(resize=(SIDE, SIDE))


def logits(outputs):
    outputs = getattr(outputs, "logits", outputs)
    return outputs["out"] if isinstance(outputs, dict) else outputs


def check_adapts(base, labels):
    """The recipe's adapters and the head are all live, and the base gives what was asked for."""
    torch.manual_seed(0)
    pixels = torch.rand(2, 3, *base.preprocessing.usual_size)
    with torch.no_grad():
        before = [tensor.clone() for tensor in base.features(pixels)]
    config = LoraConfig(r=1, target_modules=base.targets, modules_to_save=list(base.heads))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adapters are larger|.* larger than the layers", LumoraWarning)
        adapted = get_peft_model(base.module, config)
    report = adapted.verify(pixels)
    assert report.ok, str(report)
    given = logits(adapted(pixels))
    assert given.shape[:2] == (2, labels)
    assert given.dim() == (4 if base.task == "segmentation" else 2)
    saved = {p for p, m in base.module.named_modules() if type(m).__name__ == "ModulesToSaveWrapper"}
    assert saved == set(base.heads)
    with torch.no_grad():
        after = base.features(pixels)
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(before, after, strict=True))  # B is zero
        for name, parameter in base.module.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        assert not any(
            torch.allclose(one, other) for one, other in zip(before[1:], base.features(pixels)[1:], strict=True)
        )
    assert fingerprint(base.module, base.heads) == base.fingerprint


def check_features(base):
    pixels = torch.rand(2, 3, *base.preprocessing.usual_size)
    height, width = pixels.shape[2:]
    with torch.no_grad():
        maps, pooled = base.features(pixels), base.features.pooled(pixels)
    for tensor, stride, channels in zip(maps, base.features.strides, base.features.channels, strict=True):
        assert tensor.shape == (2, channels, height // stride, width // stride)
    assert list(base.features.strides) == sorted(base.features.strides)
    assert pooled.shape[0] == 2
    assert pooled.dim() == 2


def check_odd_sizes(base):
    """Pictures of every size get logits for places all over them, and no two sides are mixed up."""
    finest = base.features.strides[0]
    for height, width in [(65, 97), (97, 65)]:
        pixels = torch.rand(2, 3, height, width)
        with torch.no_grad():
            given = base.module(pixels)
        assert given.isfinite().all()
        stretched = base.module.only_size or [
            -(-n // base.module.multiple) * base.module.multiple for n in (height, width)
        ]
        assert given.shape == (2, 5, stretched[0] // finest, stretched[1] // finest)


# --- transformers -----------------------------------------------------------------------------------------------------

QUICK = "vit dinov2 dinov3 swin convnext segformer clip".split()
MORE = (
    "deit beit dinov2_registers dinov3_convnext swinv2 resnet regnet poolformer pvt pvt_v2 mobilenet_v2 siglip".split()
)
ARCHITECTURES = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]
OURS = {"dinov3", "dinov3_convnext"}
"""Those for which transformers has no classifier."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that gives the folder of a checkpoint without a head."""
    folders = {}

    def of(name):
        if name not in folders:
            folder = tmp_path_factory.mktemp(name)
            folders[name] = checkpoints.save(checkpoints.backbone(name), folder)
        return folders[name]

    return of


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*norm.weight; they start at random")  # a last norm that only the classifier has
def test_transformers__every_architecture_gets_a_head_and_live_adapters(saved, name, task):
    base = load_base(saved(name), task=task, num_labels=5, preprocessing=SMALL)
    assert base.library == "transformers"
    check_features(base)
    check_adapts(base, 5)


@pytest.mark.parametrize("name", sorted({*QUICK, *MORE} - OURS))
@pytest.mark.filterwarnings("ignore:.*norm.weight; they start at random")
def test_transformers__backbone_has_the_checkpoints_weights(saved, name):
    theirs = transformers.AutoModel.from_pretrained(saved(name)).eval()
    theirs = getattr(theirs, "vision_model", theirs)
    base = load_base(saved(name), task="classification", num_labels=5, preprocessing=SMALL)
    mine = getattr(base.module, "vision_model", None) or base.module.base_model
    held, found = dict(theirs.named_parameters()), dict(mine.named_parameters())
    assert len(held.keys() & found.keys()) >= 0.9 * len(held)  # poolers and a last norm may be the bare model's alone
    assert all(held[key].equal(found[key]) for key in held.keys() & found.keys())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*norm.weight; they start at random")
def test_transformers__light_head_takes_pictures_of_odd_sizes(saved, name):
    base = load_base(saved(name), task="segmentation", num_labels=5, head="light", preprocessing=SMALL)
    check_odd_sizes(base)


def test_transformers__a_sams_maps_are_turned(tmp_path):
    config = transformers.SamVisionConfig(
        **{**checkpoints.PLAIN, "intermediate_size": None}, mlp_dim=32, global_attn_indexes=[1, 3], window_size=2
    )
    torch.manual_seed(0)
    theirs = transformers.SamVisionModel(config).eval()
    base = load_base(checkpoints.save(theirs, tmp_path), task="segmentation", num_labels=5, preprocessing=SMALL)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        last = theirs(pixels, output_hidden_states=True).hidden_states[-1]  # (B, h, w, C)
        assert base.features(pixels)[-1].equal(last.permute(0, 3, 1, 2))
    assert (base.features.channels, base.features.strides) == ((16,), (8,))
    check_adapts(base, 5)


@pytest.mark.parametrize(("task", "path"), [("classification", "vit"), ("segmentation", "backbone")])
def test_transformers__a_masked_autoencoder_sees_the_whole_picture(tmp_path, task, path):
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(
        **checkpoints.PLAIN, decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2
    )
    theirs = transformers.ViTMAEForPreTraining(config)
    base = load_base(checkpoints.save(theirs, tmp_path), task=task, num_labels=5, preprocessing=SMALL)
    found = base.module.get_submodule(path).state_dict()
    assert len(found) > 50
    assert all(theirs.vit.state_dict()[key].equal(value) for key, value in found.items())
    assert base.features.strides == (8, 8, 8, 8)
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert base.module(pixels)[0].equal(base.module(pixels)[0])  # theirs draws places anew each time
    check_features(base)


def test_transformers__a_vits_maps_are_its_tokens_in_rows_and_columns(saved):
    base = load_base(saved("vit"), task="segmentation", num_labels=2, preprocessing=SMALL)
    pixels = torch.rand(2, 3, 64, 96)
    theirs = transformers.ViTModel.from_pretrained(saved("vit"), add_pooling_layer=False).eval()
    with torch.no_grad():
        states = theirs(pixels, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states
        maps = base.features(pixels)
    assert base.features.strides == (8, 8, 8, 8)
    for state, tensor in zip(states[1:], maps, strict=True):
        torch.testing.assert_close(tensor, state[:, 1:].reshape(2, 8, 12, 16).permute(0, 3, 1, 2))


def test_transformers__a_dinov2s_maps_are_what_transformers_backbone_gives(saved):
    base = load_base(saved("dinov2"), task="segmentation", num_labels=2, preprocessing=SMALL)
    theirs = transformers.Dinov2Backbone.from_pretrained(saved("dinov2"), out_indices=[1, 2, 3, 4]).eval()
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for mine, tensor in zip(base.features(pixels), theirs(pixels).feature_maps, strict=True):
            torch.testing.assert_close(mine, tensor)


def test_transformers__head_is_fresh_unless_it_knows_these_very_labels(tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**checkpoints.PLAIN, id2label={0: "cat", 1: "dog"})
    model = transformers.ViTForImageClassification(config)
    nn.init.constant_(model.classifier.weight, 3.0)
    folder = checkpoints.save(model, tmp_path)

    def weight(**wish):
        return load_base(folder, task="classification", preprocessing=SMALL, **wish).module.classifier.weight

    assert weight(labels=["Cat", "dog"]).eq(3).all()
    assert not weight(labels=["dog", "cat"]).eq(3).any()
    assert not weight(num_labels=2).eq(3).any()
    assert weight(labels=["cat", "dog", "bird"]).shape == (3, 16)
    assert not weight(labels=["cat", "dog", "bird"]).eq(3).any()


def test_transformers__labels_are_in_the_configuration(saved):
    base = load_base(saved("vit"), task="multilabel", labels=["red", "round"], preprocessing=SMALL)
    assert base.module.config.id2label == {0: "red", 1: "round"}
    assert base.module.config.label2id == {"red": 0, "round": 1}
    assert base.module.config.problem_type == "multi_label_classification"


def test_transformers__drop_path_reaches_the_configuration_or_is_noted(saved):
    dropping = load_base(saved("beit"), task="classification", num_labels=2, drop_path=0.3, preprocessing=SMALL)
    assert dropping.module.config.drop_path_rate == 0.3
    assert dropping.notes == ()
    cannot = load_base(saved("vit"), task="classification", num_labels=2, drop_path=0.3, preprocessing=SMALL)
    assert "has no effect" in cannot.notes[0]


def test_transformers__segmentation_checkpoint_keeps_its_head_and_its_body(tmp_path):
    torch.manual_seed(0)
    model = transformers.SegformerForSemanticSegmentation(checkpoints.config("segformer"))
    processor = transformers.SegformerImageProcessor(size={"height": 64, "width": 96}, do_reduce_labels=True)
    folder = checkpoints.save(model, tmp_path, processor)
    base = load_base(folder, task="segmentation", num_labels=9)
    assert type(base.module) is transformers.SegformerForSemanticSegmentation
    assert base.heads == ("decode_head",)
    assert base.preprocessing.size == (64, 96)
    assert base.preprocessing.reduce_labels
    assert base.module.decode_head.linear_fuse.weight.equal(model.decode_head.linear_fuse.weight)
    assert base.module.decode_head.classifier.out_channels == 9
    light = load_base(folder, task="segmentation", num_labels=9, head="light")
    assert light.heads == ("light_head",)
    assert load_base(folder, task="classification", num_labels=3).heads == ("classifier",)


def test_transformers__without_a_task_the_model_is_the_checkpoints(tmp_path):
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(transformers.ViTConfig(**checkpoints.PLAIN, num_labels=4))
    folder = checkpoints.save(model, tmp_path)
    base = load_base(folder, preprocessing=SMALL)
    assert all(base.module.state_dict()[key].equal(value) for key, value in model.state_dict().items())
    assert base.heads == ()
    again = load_base(folder, task="classification", num_labels=7, preprocessing=SMALL)
    assert again.fingerprint == base.fingerprint
    assert "classifier" in dict(base.module.named_modules())


def test_transformers__missing_weights_outside_the_head_are_warned_about(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = checkpoints.save(checkpoints.backbone("vit"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["layers.0.mlp.fc1.weight" if "layers.0.mlp.fc1.weight" in tensors else next(iter(tensors))]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(LumoraWarning, match="start at random"):
        load_base(folder, task="classification", num_labels=2, preprocessing=SMALL)


def test_transformers__no_own_segmentation_head_is_said(saved):
    with pytest.raises(LumoraError, match=r"no segmentation head for 'vit'.*head='light'"):
        load_base(saved("vit"), task="segmentation", num_labels=2, head="own")


def test_transformers__a_file_of_another_kind_is_refused(tmp_path):
    checkpoints.backbone("vit").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(LumoraError, match=r"pytorch_model\.bin is no file of tensors alone.*not opened"):
        load_base(str(tmp_path))
    (tmp_path / "pytorch_model.bin").unlink()
    with pytest.raises(LumoraError, match=r"no model\.safetensors and no pytorch_model\.bin"):
        load_base(str(tmp_path))


def test_transformers__a_shard_that_is_missing_is_named(tmp_path):
    checkpoints.backbone("vit").save_pretrained(tmp_path, max_shard_size="20kB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[1]
    load_base(str(tmp_path), preprocessing=SMALL)
    shard.unlink()
    with pytest.raises(LumoraError, match=shard.name):
        load_base(str(tmp_path), preprocessing=SMALL)


def test_transformers__licence_comes_from_the_card(tmp_path):
    checkpoints.backbone("vit").save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n# Model\n")
    base = load_base(str(tmp_path), preprocessing=SMALL)
    assert (base.licence, base.source) == ("cc-by-nc-4.0", str(tmp_path))
    (tmp_path / "README.md").write_text("no front matter")
    assert load_base(str(tmp_path), preprocessing=SMALL).licence is None


# --- timm and the embedded base ---------------------------------------------------------------------------------------

TIMM = {
    "resnet": lambda: timm.models.ResNet(
        timm.models.resnet.BasicBlock, (1, 1, 1, 1), channels=(8, 8, 16, 16), zero_init_last=False
    ),
    "vit": lambda: timm.models.VisionTransformer(SIDE, 8, embed_dim=48, depth=4, num_heads=3, dynamic_img_size=True),
    "dinov2": lambda: timm.models.VisionTransformer(
        SIDE, 8, embed_dim=48, depth=8, num_heads=3, reg_tokens=4, no_embed_class=True, init_values=1.0
    ),
    "convnext": lambda: timm.models.ConvNeXt(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), ls_init_value=1.0),
    "swin": lambda: timm.models.SwinTransformer(SIDE, embed_dim=12, depths=(1, 1, 2, 1), window_size=2),
    "poolformer": lambda: timm.models.MetaFormer(
        depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), token_mixers=timm.models.metaformer.Pooling
    ),
    "mixer": lambda: timm.models.MlpMixer(img_size=SIDE, patch_size=8, num_blocks=4, embed_dim=32),
}


@pytest.mark.parametrize("name", TIMM)
def test_timm__ready_models_get_maps_and_a_light_head(name):
    torch.manual_seed(0)
    base = load_base(TIMM[name](), task="segmentation", num_labels=5, preprocessing=SMALL)
    assert base.heads == ("light_head",)
    check_features(base)
    check_adapts(base, 5)


@pytest.mark.parametrize("name", TIMM)
def test_timm__ready_models_get_a_new_classifier(name):
    torch.manual_seed(0)
    base = load_base(TIMM[name](), task="classification", num_labels=5, preprocessing=SMALL)
    check_features(base)
    check_adapts(base, 5)


TINY = "byobnet convnext convnext2 efficientnet efficientnet_evos mambaout nfnet resnet vit vit2 vit3 vit4".split()
"""What timm itself is tested with: small, but of its own kinds."""


@pytest.mark.parametrize("name", [*TIMM, *TINY])
def test_timm__light_head_takes_pictures_of_odd_sizes(name):
    torch.manual_seed(0)
    model = TIMM[name]() if name in TIMM else timm.create_model(f"test_{name}")
    side = SIDE if name in TIMM else 160
    base = load_base(model, task="segmentation", num_labels=5, preprocessing=Preprocessing(resize=(side, side)))
    check_odd_sizes(base)


def test_timm__pictures_are_stretched_where_a_backbone_takes_one_size():
    model = timm.models.VisionTransformer(SIDE, 8, embed_dim=48, depth=4, num_heads=3)
    base = load_base(model, task="segmentation", num_labels=5, preprocessing=SMALL)
    assert base.notes == ("This backbone takes pictures of 64 × 64 alone; all others are stretched to that.",)
    pixels = torch.rand(1, 3, 96, 40)
    stretched = nn.functional.interpolate(pixels, size=(64, 64), mode="bilinear", align_corners=False)
    with torch.no_grad():
        torch.testing.assert_close(base.module(pixels), base.module(stretched))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_timm__names_are_built_so_that_they_take_any_size(name):
    base = load_base(f"timm/{name}", task="segmentation", num_labels=5, meta=True)
    assert base.notes == ()
    assert base.module.only_size is None


@pytest.mark.parametrize("task", [None, "classification", "segmentation"])
def test_timm__a_model_without_a_head_keeps_all_its_layers(task):
    def make():
        torch.manual_seed(0)
        return timm.models.VisionTransformer(
            SIDE, 8, embed_dim=48, depth=4, num_heads=3, num_classes=0, dynamic_img_size=True
        )

    base = load_base(make(), task=task, num_labels=5, preprocessing=SMALL)
    found = getattr(base.module, "backbone", base.module).state_dict()
    assert {key: value.tolist() for key, value in found.items()} == {
        key: value.tolist() for key, value in make().state_dict().items()
    }
    assert base.heads == (() if task is None else ("light_head",))
    assert base.fingerprint == fingerprint(make())
    if task is not None:
        check_adapts(base, 5)


@pytest.mark.parametrize("name", ["vit", "resnet", "mixer"])
def test_timm__pooled_features_are_what_timm_calls_them(name):
    model = TIMM[name]().eval()
    base = load_base(model, task="classification", num_labels=3, preprocessing=SMALL)
    pixels = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        theirs = model.forward_head(model.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(base.features.pooled(pixels), theirs)


NAMES = ["resnet18", "convnext_atto", "mobilenetv3_small_050"]
MORE_NAMES = "vit_tiny_patch16_224 deit_tiny_distilled_patch16_224 regnetx_002 vgg11 pvt_v2_b0 vit_small_patch14_dinov2"
NAMES += [pytest.param(name, marks=pytest.mark.slow) for name in MORE_NAMES.split()]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize("name", NAMES)
def test_timm__names_give_a_structure_without_weights(name, task):
    base = load_base(f"timm/{name}", task=task, num_labels=7, meta=True)
    assert {p.device.type for p in base.module.parameters()} == {"meta"}
    assert base.fingerprint is None
    assert base.targets
    assert len(base.features.channels) == len(base.features.strides) >= 4
    given = base.module(torch.zeros(1, 3, *base.preprocessing.usual_size, device="meta"))
    assert given.shape[:2] == (1, 7)


def test_timm__segmentation_takes_pictures_of_any_size():
    base = load_base("timm/vit_tiny_patch16_224", task="segmentation", num_labels=3, meta=True)
    assert base.module(torch.zeros(1, 3, 250, 330, device="meta")).shape == (1, 3, 16, 21)


def test_timm__facts_are_the_pretrained_cfgs():
    base = load_base("timm/vit_small_patch14_dinov2.lvd142m", task="classification", num_labels=2, meta=True)
    assert (base.preprocessing.size, base.preprocessing.interpolation) == ((518, 518), "bicubic")
    assert base.licence == "apache-2.0"
    assert base.source == "https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m"


def test_timm__drop_path_is_built_in():
    base = load_base("timm/vit_tiny_patch16_224", task="classification", num_labels=2, drop_path=0.2, meta=True)
    assert base.module.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)
    cannot = load_base("timm/vgg11", task="classification", num_labels=2, drop_path=0.2, meta=True)
    assert "has no effect" in cannot.notes[0]


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_embedded__is_the_default_and_needs_nothing(task):
    base = load_base(task=task, num_labels=4, preprocessing=Preprocessing(resize=(64, 64)))
    assert (base.name, base.licence) == ("lumora/efficientnet-lite0", "apache-2.0")
    check_features(base)
    check_adapts(base, 4)


def test_embedded__has_one_fingerprint():
    one, other = (load_base(task="classification", num_labels=n) for n in (2, 3))
    assert one.fingerprint == other.fingerprint
    assert one.preprocessing.mean == (0.5, 0.5, 0.5)
    assert one.features.strides == (4, 8, 16, 32)


# --- torchvision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"),
        pytest.param("vit_b_16", "heads.head", marks=pytest.mark.slow),
        pytest.param("swin_t", "head", marks=pytest.mark.slow),
        pytest.param("convnext_tiny", "classifier.2", marks=pytest.mark.slow),
        ("mobilenet_v3_small", "classifier.3"),
        ("squeezenet1_1", "classifier.1"),
        ("googlenet", "fc"),
    ],
)
def test_torchvision__classifiers_are_found_by_what_they_compute(name, head):
    base = load_base(f"torchvision/{name}", task="classification", num_labels=7, meta=True)
    assert base.heads == (head,)
    assert base.module(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 7)
    assert base.preprocessing.size == (224, 224)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("fcn_resnet50", ("classifier.4",)),
        ("lraspp_mobilenet_v3_large", ("classifier.low_classifier", "classifier.high_classifier")),
        ("resnet18", ("light_head",)),
        pytest.param("swin_t", ("light_head",), marks=pytest.mark.slow),
        pytest.param("vit_b_16", ("light_head",), marks=pytest.mark.slow),
    ],
)
def test_torchvision__segmentation_has_its_own_head_or_the_light_one(name, heads):
    preprocessing = Preprocessing(resize=(224, 224))
    base = load_base(f"torchvision/{name}", task="segmentation", num_labels=7, preprocessing=preprocessing, meta=True)
    assert base.heads == heads
    assert logits(base.module(torch.zeros(2, 3, 224, 224, device="meta"))).shape[:2] == (2, 7)


@pytest.mark.parametrize(
    ("name", "strides", "channels"),
    [
        ("resnet18", (4, 8, 16, 32), (64, 128, 256, 512)),
        pytest.param("swin_t", (4, 8, 16, 32), (96, 192, 384, 768), marks=pytest.mark.slow),
        ("vit_b_16", (16, 16, 16, 16), (768, 768, 768, 768)),
    ],
)
def test_torchvision__maps_are_caught(name, strides, channels):
    base = load_base(f"torchvision/{name}", task="segmentation", num_labels=7, meta=True)
    assert (base.features.strides, base.features.channels) == (strides, channels)


def test_torchvision__adapters_in_a_light_segmenter_are_live():
    from torchvision import models

    torch.manual_seed(0)
    base = load_base(models.resnet18(), task="segmentation", num_labels=5, preprocessing=SMALL)
    check_adapts(base, 5)


# --- smp --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["unet", pytest.param("fpn", marks=pytest.mark.slow)])
def test_smp__model_of_a_name(architecture):
    base = load_base(f"smp/{architecture}?encoder=resnet18&weights=", task="segmentation", num_labels=5)
    assert base.heads == ("decoder", "segmentation_head")
    assert base.preprocessing.resize is None
    base = load_base(base.module, task="segmentation", num_labels=5, heads=base.heads, preprocessing=SMALL)
    check_adapts(base, 5)


def test_smp__classification_uses_the_encoder():
    base = load_base("smp/unet?encoder=resnet18&weights=", task="classification", num_labels=5, preprocessing=SMALL)
    assert base.heads == ("light_head",)
    check_adapts(base, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smp/unnet", r"no model 'unnet' \(did you mean smp/unet"),
        ("smp/unet?encoder=resnet43", r"no encoder 'resnet43' \(did you mean resnet34"),
        ("smp/unet?encoders=resnet34", "gives encoders; only encoder and weights"),
    ],
)
def test_smp__names_that_do_not_exist(name, message):
    with pytest.raises(LumoraError, match=message):
        load_base(name, task="segmentation", num_labels=2, meta=True)


def test_smp__without_the_extra_the_message_names_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "segmentation_models_pytorch", None)
    with pytest.raises(LumoraError, match=r"pip install 'lumora\[smp\]'"):
        load_base("smp/unet", task="segmentation", num_labels=2)


# --- python: and ready modules ----------------------------------------------------------------------------------------


class Pyramid(nn.Module):
    """A small network of somebody's own."""

    def __init__(self, labels=10):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.down = nn.Sequential(nn.Conv2d(8, 12, 2, stride=2), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(12, 16, 2, stride=2), nn.ReLU())
        self.score = nn.Linear(16, labels)

    def forward(self, x):
        return self.score(self.last(self.down(self.stem(x))).mean((2, 3)))


def test_module__classifier_is_replaced():
    base = load_base(Pyramid(), task="classification", num_labels=3, preprocessing=SMALL)
    assert (base.name, base.library, base.heads) == ("Pyramid", "module", ("score",))
    assert base.module.score.out_features == 3
    check_features(base)
    check_adapts(base, 3)


def test_module__classifier_with_as_many_labels_is_kept():
    model = Pyramid(3)
    kept = model.score
    assert load_base(model, task="classification", num_labels=3, preprocessing=SMALL).module.score is kept


def test_module__maps_are_found_for_segmentation():
    base = load_base(Pyramid(), task="segmentation", num_labels=3, preprocessing=SMALL)
    assert (base.features.strides, base.features.channels) == ((4, 8, 16), (8, 12, 16))
    assert base.module(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)
    check_adapts(base, 3)


def test_module__heads_can_be_named():
    base = load_base(Pyramid(3), task="classification", num_labels=3, heads=["score"], preprocessing=SMALL)
    assert base.heads == ("score",)
    with pytest.raises(LumoraError, match="no module 'scores'"):
        load_base(Pyramid(3), task="classification", num_labels=3, heads=["scores"])


def test_module__one_that_cannot_be_run_says_what_to_give():
    class Odd(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(LumoraError, match=r"Odd could not be run.*heads="):
        load_base(Odd(), task="classification", num_labels=3)


def test_module__without_maps_there_is_a_message():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 4))
    with pytest.raises(LumoraError, match="No feature maps were found in Sequential"):
        load_base(flat, task="segmentation", num_labels=3, preprocessing=SMALL)


def test_module__frozen_and_training_modules_stay_so_inside():
    model = Pyramid()
    model.stem.requires_grad_(False)
    base = load_base(model, preprocessing=SMALL)
    assert [p.requires_grad for p in base.module.stem.parameters()] == [False, False]
    assert all(p.requires_grad for p in base.module.score.parameters())


def test_python__names_are_bases(tmp_path, monkeypatch):
    (tmp_path / "my_bases.py").write_text(
        "from torch import nn\n"
        "def small(): return nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
        "nn.Linear(4, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    base = load_base("python:my_bases:small", task="classification", num_labels=5)
    assert (base.library, base.heads, base.licence, base.source) == ("python", ("4",), None, None)
    assert base.module(torch.rand(1, 3, 8, 8)).shape == (1, 5)


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"task": "classification"}, "needs the number of labels"),
        ({"task": "segmentation", "num_labels": 0}, "needs the number of labels"),
        ({"task": "classification", "num_labels": 2, "labels": ["a"]}, "num_labels is 2, but there are 1 labels"),
        ({"task": "segmentation", "num_labels": 2, "head": "own"}, "no segmentation head of their own"),
    ],
)
def test_load_base__wishes_that_make_no_sense(wish, message):
    with pytest.raises(LumoraError, match=message):
        load_base("lumora/efficientnet-lite0", meta=True, **wish)


def test_load_base__gives_a_base_whose_plain_values_are_json():
    base = load_base(task="classification", num_labels=2, meta=True)
    assert isinstance(base, Base)
    json.dumps([base.name, base.heads, base.targets, base.preprocessing.to_dict(), base.licence, base.source])
