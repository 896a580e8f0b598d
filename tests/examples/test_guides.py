"""The three guides with models from the Hub, as processes, with small models and pictures in the Hub's place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from datasets import Dataset, Features
from datasets import Image as ImageFeature
from examples import image_classification_lora, semantic_segmentation_lora
from PIL import Image
from safetensors.torch import load_file
from tests.tiny_models import save_segformer, save_vit
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    ViTConfig,
    ViTForImageClassification,
    pipeline,
)

import lumora
from lumora.data import Labels
from lumora.data.known_labels import ade20k

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*adapters are larger"),  # than the layers of models as small as these
]
ROOT = Path(__file__).parents[2]
DISHES = ("dark soup", "red curry", "white rice")
CLASSES = ("sky", "ground", "house")
ADAPTER_FILES = {
    "adapter_config.json",
    "adapter_model.safetensors",
    "README.md",
    "config.json",
    "preprocessor_config.json",
}
MODEL_FILES = {"config.json", "model.safetensors", "preprocessor_config.json"}


def run(script: str, *given: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "examples" / script), *map(str, given)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- small models, and what they learn from ---------------------------------------------------------------------------


def dish(label: int, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 60, (40, 52, 3))
    return Image.fromarray((noise + np.array([(10, 10, 10), (190, 10, 10), (190, 190, 190)][label])).astype(np.uint8))


def landscape(seed: int) -> tuple[Image.Image, Image.Image]:
    """Sky over ground with a house, and the mask as SceneParse150's: 0 where nobody labelled, classes from 1."""
    random = np.random.default_rng(seed)
    mask = np.ones((48, 64), dtype=np.uint8)
    mask[(horizon := random.integers(18, 30)) :] = 2
    left = random.integers(4, 40)
    mask[horizon - 12 : horizon + 4, left : left + 18] = 3
    pixels = np.array([(0, 0, 0), (90, 150, 230), (70, 120, 40), (200, 60, 50)])[mask]
    mask[:2] = 0
    pixels = (pixels + random.integers(-25, 25, pixels.shape)).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(mask)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"), seed=0)


@pytest.fixture(scope="module")
def segformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_segformer(tmp_path_factory.mktemp("segformer"), seed=0, side=64)


@pytest.fixture(scope="module")
def dishes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dishes")
    for i in range(90):
        path = folder / DISHES[i % 3] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        dish(i % 3, i).save(path)
    return folder


@pytest.fixture(scope="module")
def landscapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("landscapes")
    rows = [dict(zip(("image", "annotation"), landscape(i), strict=True)) for i in range(20)]
    features = Features({"image": ImageFeature(), "annotation": ImageFeature()})
    Dataset.from_list(rows, features=features).save_to_disk(str(folder / "data"))
    landscape(55)[0].save(folder / "new.png")
    (folder / "names.json").write_text(json.dumps(dict(enumerate(CLASSES))), encoding="utf-8")
    return folder


# --- guide 1: image classification with LoRA --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classified(vit: Path, dishes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("classified")
    (picture := out / "picture.png").write_bytes((dishes / DISHES[1] / "01.png").read_bytes())
    options = ("--limit", 0, "--epochs", 6, "--batch", 4, "--picture", picture, "--out", out)
    return out, run("image_classification_lora.py", "--model", vit, "--data", dishes, *options).stdout


def test_classification__says_what_it_trains_how_well_and_what_it_predicts(classified: tuple[Path, str]) -> None:
    _, printed = classified
    assert "81 pictures to learn from, 9 held back, 3 classes" in printed
    learned = 2 * 2 * 16 * (16 + 16) + 16 * 3 + 3  # query and value of two layers, and the head
    assert f"trainable params: {learned:,} " in printed
    assert float(found(r"accuracy on the pictures held back: ([\d.]+)", printed)) > 0.6
    assert found(r"Predicted class: (.+)", printed) == found(r"The same from a pipeline: (.+) \(", printed) == DISHES[1]


def test_classification__saves_adapter_labels_and_processor(classified: tuple[Path, str], vit: Path) -> None:
    out, _ = classified
    assert names_in(out / "adapter") == ADAPTER_FILES
    assert names_in(out / "merged") == MODEL_FILES
    stored = load_file(out / "adapter" / "adapter_model.safetensors")
    assert len(stored) == 2 * 2 * 2 + 2 and stored["base_model.model.classifier.weight"].shape == (3, 16)
    checkpoints = list((out / "checkpoints").glob("checkpoint-*"))
    assert checkpoints and not any(list(folder.glob("model*")) for folder in checkpoints)
    model, processor = image_classification_lora.load(out / "adapter")
    assert model.config.id2label == dict(enumerate(DISHES))
    assert processor.size["height"] == 32
    assert model.peft_config["default"].base_model_name_or_path == str(vit)


def test_classification__pipeline_of_the_merged_model_gives_what_the_adapter_gives(
    classified: tuple[Path, str],
) -> None:
    out, _ = classified
    model, processor = image_classification_lora.load(out / "adapter")
    scores = pipeline("image-classification", model=str(out / "merged"))(dish(2, 99))
    with torch.no_grad():
        expected = model(**processor(dish(2, 99), return_tensors="pt")).logits.softmax(-1)[0]
    assert {score["label"] for score in scores} == set(DISHES)
    for score in scores:
        assert score["score"] == pytest.approx(float(expected[DISHES.index(score["label"])]), abs=1e-5)


def test_classification__peft_loads_the_adapter_and_agrees(classified: tuple[Path, str], vit: Path) -> None:
    out, _ = classified
    ours, processor = image_classification_lora.load(out / "adapter")
    base = image_classification_lora.new_base(str(vit), Labels(DISHES))
    theirs = peft.PeftModel.from_pretrained(base, out / "adapter").eval()
    pixels = processor(dish(0, 98), return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(ours(**pixels).logits, theirs(**pixels).logits)


# --- guide 2: semantic segmentation with LoRA -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def segmented(segformer: Path, landscapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("segmented")
    data = ("--data", landscapes / "data", "--labels", landscapes / "names.json", "--picture", landscapes / "new.png")
    done = run("semantic_segmentation_lora.py", "--model", segformer, *data, "--epochs", 8, "--batch", 2, "--out", out)
    return out, done.stdout


def test_segmentation_lora__says_what_it_trains_and_how_well(segmented: tuple[Path, str]) -> None:
    _, printed = segmented
    assert "18 pictures to learn from, 2 held back, 3 classes" in printed
    assert float(found(r"mean IoU on the pictures held back: ([\d.]+)", printed)) > 0.3
    by_hand = found(r"overlay\.png: (.+)", printed)
    assert set(by_hand.split(", ")) == set(found(r"The same from a pipeline: (.+)", printed).split(", "))


def test_segmentation_lora__saves_adapter_labels_and_processor(segmented: tuple[Path, str]) -> None:
    out, _ = segmented
    assert names_in(out / "adapter") == ADAPTER_FILES
    assert names_in(out / "merged") == MODEL_FILES
    stored = load_file(out / "adapter" / "adapter_model.safetensors")
    assert "base_model.model.decode_head.batch_norm.running_mean" in stored
    assert sum(key.endswith("bias") and "attention" in key for key in stored) == 2 * 4  # bias="lora_only"
    model, processor = semantic_segmentation_lora.load(out / "adapter")
    assert model.config.id2label == dict(enumerate(CLASSES))
    assert processor.do_reduce_labels is True


def test_segmentation_lora__pipeline_of_the_merged_model_gives_the_masks_of_the_adapter(
    segmented: tuple[Path, str],
) -> None:
    out, _ = segmented
    model, processor = semantic_segmentation_lora.load(out / "adapter")
    picture, _ = landscape(77)
    results = pipeline("image-segmentation", model=str(out / "merged"))(picture)
    with torch.no_grad():
        logits = model(**processor(picture, return_tensors="pt")).logits
    expected = torch.nn.functional.interpolate(logits, size=(48, 64), mode="bilinear", align_corners=False).argmax(1)[0]
    check_masks(results, expected.numpy())


def test_segmentation_lora__overlay_is_the_picture_under_the_palette(
    segmented: tuple[Path, str], landscapes: Path
) -> None:
    out, _ = segmented
    check_overlay(out / "overlay.png", out / "merged", landscapes / "new.png")


# --- guide 3: semantic segmentation, all of the model -----------------------------------------------------------------


@pytest.fixture(scope="module")
def segmented_whole(segformer: Path, landscapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("whole")
    data = ("--data", landscapes / "data", "--labels", landscapes / "names.json", "--picture", landscapes / "new.png")
    done = run("semantic_segmentation.py", "--model", segformer, *data, "--epochs", 3, "--out", out)
    return out, done.stdout


def test_segmentation__trains_the_whole_model_and_saves_it(segmented_whole: tuple[Path, str], segformer: Path) -> None:
    out, printed = segmented_whole
    assert "16 pictures to learn from, 4 held back, 3 classes" in printed
    assert 0 < float(found(r"mean IoU on the pictures held back: ([\d.]+)", printed)) <= 1
    assert names_in(out / "model") >= MODEL_FILES
    before, after = load_file(segformer / "model.safetensors"), load_file(out / "model" / "model.safetensors")
    same_shape = [key for key in before if before[key].shape == after[key].shape]
    unmoved = [key for key in same_shape if torch.equal(before[key], after[key])]
    assert before.keys() == after.keys() and not unmoved
    processor = json.loads((out / "model" / "preprocessor_config.json").read_text())
    assert processor["do_reduce_labels"] is True


def test_segmentation__overlay_is_the_picture_under_the_palette(
    segmented_whole: tuple[Path, str], landscapes: Path
) -> None:
    out, printed = segmented_whole
    shown = check_overlay(out / "overlay.png", out / "model", landscapes / "new.png")
    assert set(re.findall(r"(\w+): \d+% of the picture", printed)) == shown


def found(pattern: str, printed: str) -> str:
    match = re.search(pattern, printed)
    assert match, printed
    return match[1]


def check_masks(results: list[dict[str, Any]], expected: np.ndarray) -> None:
    """A pipeline's results are these classes, one mask each."""
    assert {result["label"] for result in results} == {CLASSES[i] for i in np.unique(expected)}
    for result in results:
        np.testing.assert_array_equal(np.array(result["mask"]) > 0, expected == CLASSES.index(result["label"]))


def check_overlay(path: Path, model: Path, picture: Path) -> set[str]:
    """The drawing is half the picture and half ADE20K's colours of what a pipeline sees; the names of what it shows."""
    drawn, pixels = np.array(Image.open(path)), np.array(Image.open(picture))
    assert drawn.shape == pixels.shape
    results = pipeline("image-segmentation", model=str(model))(Image.open(picture))
    covered = np.zeros(pixels.shape[:2], dtype=bool)
    for result in results:
        where = np.array(result["mask"]) > 0
        colour = np.array(ade20k().palette()[CLASSES.index(result["label"])])
        np.testing.assert_allclose(drawn[where], pixels[where] * 0.5 + colour * 0.5, atol=1)
        covered |= where
    assert covered.all()
    return {result["label"] for result in results}


# --- the models that the guides name ----------------------------------------------------------------------------------


def vit_base() -> Any:
    """ViT-B/16 for Food-101's classes."""
    with torch.device("meta"):
        return ViTForImageClassification(ViTConfig(num_labels=101))


def segformer_b0() -> Any:
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=150))


def count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.filterwarnings("ignore:.*is called 'q_proj'", "ignore:.*is called 'v_proj'")
def test_vit_b16__trains_what_the_guide_prints() -> None:
    assert count(vit_base()) == 85_876_325
    trained, everything = image_classification_lora.adapt(vit_base()).get_nb_trainable_parameters()
    # The guide prints 86,466,149 parameters in all: it leaves out the head's frozen original, which peft keeps today.
    original_head = 768 * 101 + 101
    assert (trained, everything - original_head) == (667_493, 86_466_149)
    assert f"{100 * trained / everything:.2f}" == "0.77"


@pytest.mark.filterwarnings("ignore:.*is called 'q_proj'", "ignore:.*is called 'v_proj'")
def test_segformer_b0__trains_about_14_per_cent() -> None:
    base = segformer_b0()
    whole, head = count(base), count(base.decode_head)
    trained, everything = semantic_segmentation_lora.adapt(base).get_nb_trainable_parameters()
    adapters = sum(2 * 32 * 2 * width * depth for width, depth in zip((32, 64, 160, 256), (2, 2, 2, 2), strict=True))
    biases = sum(2 * width * depth for width, depth in zip((32, 64, 160, 256), (2, 2, 2, 2), strict=True))
    assert trained == adapters + biases + head
    assert everything == whole + adapters + head  # the head and its frozen original
    assert 0.14 < trained / (whole + adapters) < 0.15


TODAY = ["q_proj", "v_proj"]  # the names that peft needs


@pytest.mark.filterwarnings("ignore:.*is called 'q_proj'", "ignore:.*is called 'v_proj'")
@pytest.mark.parametrize("guide", ["classification", "segmentation"])
def test_adapters__are_peft_s_in_number_and_size(guide: str, tmp_path: Path) -> None:
    if guide == "classification":
        new, adapt, megabytes = lambda: vit_base().to_empty(device="cpu"), image_classification_lora.adapt, 2.68
        config = {"r": 16, "lora_alpha": 16, "bias": "none", "modules_to_save": ["classifier"]}
    else:
        new, adapt, megabytes = segformer_b0, semantic_segmentation_lora.adapt, 2.28
        config = {"r": 32, "lora_alpha": 32, "bias": "lora_only", "modules_to_save": ["decode_head"]}
    ours = adapt(new())
    assert isinstance(ours, lumora.PeftModel)
    theirs = peft.get_peft_model(new(), peft.LoraConfig(target_modules=TODAY, lora_dropout=0.1, **config))
    assert ours.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()
    assert sorted(ours.targeted_module_names) == sorted(theirs.targeted_module_names)
    sizes: list[int] = []
    for name, model in (("ours", ours), ("theirs", theirs)):
        model.save_pretrained(tmp_path / name)
        sizes.append((tmp_path / name / "adapter_model.safetensors").stat().st_size)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    assert sizes[0] / 1e6 == pytest.approx(megabytes, abs=0.01)
