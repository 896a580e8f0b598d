"""What the public guides adapt, typed as a person would: commands as processes, bases from a Hub of our own."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import timm
import torch
import transformers
from PIL import Image
from tests import warm
from tests.cli import public_bases
from tests.cli.public_bases import MIT_B0, POOLFORMER, VIT_IN21K
from tests.hub_server import serving
from tests.training.tiny import save_pictures

import lumora

pytestmark = [
    pytest.mark.slow,  # each command is a process of its own
    pytest.mark.filterwarnings("ignore:.*adapters are larger"),  # than the layers of models as small as these
]

QUICK = ("--epochs", "1", "--set", "run.live_samples=0")
LABELS = ("blue", "green", "red")
MASKED = ("rest", "red", "green")


@dataclass
class Person:
    """Somebody in a folder with pictures, who has never fetched anything."""

    folder: Path
    hub: str
    home: str = "home"

    def types(self, line, *more, code=0, **settings):
        """Type a command and wait for its end."""
        program, *arguments = line.split()
        assert program == "lumora"
        return self.runs(sys.executable, "-P", "-m", "lumora", *arguments, *more, code=code, **settings)

    def runs(self, *command, code=0, **settings):
        """Run a program and wait for its end."""
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.hub,
            "HF_HOME": str(self.folder / self.home),
            "HF_HUB_OFFLINE": "0",
            "HF_TOKEN": "",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
            "LUMORA_CACHE": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            **settings,
        }
        ended = warm.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stderr
        return ended


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """The folders that the Hub has, by their names there."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {
        VIT_IN21K: public_bases.save_vit(root / "vit"),
        MIT_B0: public_bases.save_mit(root / "mit"),
        POOLFORMER: public_bases.save_poolformer(root / "poolformer"),
    }


@pytest.fixture(scope="module")
def person(checkpoints, tmp_path_factory):
    folder = save_pictures(tmp_path_factory.mktemp("person"), 18)
    with serving() as hub:
        for name, checkpoint in checkpoints.items():
            hub.add(name, checkpoint)
        yield Person(folder, hub.url)


@pytest.fixture(scope="module")
def classified(person):
    """The run of a ViT."""
    return person.types(f"lumora train classes --base {VIT_IN21K}", *QUICK)


@pytest.fixture(scope="module")
def segmented(person):
    """The run of a SegFormer."""
    return person.types(f"lumora train masked --base {MIT_B0}", *QUICK)


@pytest.fixture(scope="module")
def pooled(person):
    """The run of a PoolFormer, on small pictures."""
    return person.types(f"lumora train classes --base {POOLFORMER} --out pooled --set pictures.size=32", *QUICK)


def trains(ended):
    """How many parameters a training said to train, and of how many."""
    [found] = re.findall(r"^trains +([\d,]+) of ([\d,]+) parameters", ended.stderr, re.M)
    return tuple(int(number.replace(",", "")) for number in found)


def by_peft(model, **wanted):
    """How many parameters the real PEFT trains of a model, and of how many."""
    return peft.get_peft_model(model, peft.LoraConfig(**wanted)).get_nb_trainable_parameters()


def layer_norms(model):
    return [name for name, module in model.named_modules() if isinstance(module, torch.nn.LayerNorm)]


def vit(checkpoint):
    return transformers.AutoModelForImageClassification.from_pretrained(
        checkpoint, num_labels=3, ignore_mismatched_sizes=True
    )


def mit(checkpoint):
    return transformers.AutoModelForSemanticSegmentation.from_pretrained(
        checkpoint, num_labels=3, ignore_mismatched_sizes=True
    )


def poolformer(checkpoint):
    model = timm.create_model("poolformer_m36", checkpoint_path=str(checkpoint / "model.safetensors"))
    model.reset_classifier(3)
    return model


def logits(model, pixels):
    with torch.no_grad():
        found = model.eval()(pixels)
    return getattr(found, "logits", found)


# --- what is found and trained ----------------------------------------------------------------------------------------


def test_train__of_class_folders_tells_what_they_are(classified):
    assert "classes (class folders): classification" in classified.stderr
    assert "3 labels: 'blue', 'green', 'red'" in classified.stderr
    assert f"base     {VIT_IN21K}\n" in classified.stderr
    assert "method   lora: adapters of rank 8 and the head" in classified.stderr
    assert "lumora predict runs/classes/bundle" in classified.stdout


def test_train__of_images_and_masks_tells_what_they_are(segmented):
    assert "masked (pictures in images, masks in masks): segmentation" in segmented.stderr
    assert "3 labels: 'rest', 'red', 'green'" in segmented.stderr
    assert f"base     {MIT_B0}\n" in segmented.stderr
    assert re.search(r"^mean_iou: ", segmented.stdout, re.M)


def test_train__adapts_what_peft_does_of_a_vit(classified, checkpoints):
    model = vit(checkpoints[VIT_IN21K])
    expected = by_peft(
        model,
        r=8,
        target_modules=["projection", "q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"],
        modules_to_save=["classifier", *layer_norms(model)],
    )
    assert trains(classified) == expected


def test_train__adapts_what_peft_does_of_a_segformer(segmented, checkpoints):
    expected = by_peft(
        mit(checkpoints[MIT_B0]),
        r=8,
        target_modules=r"segformer\..*\.(proj|q_proj|k_proj|v_proj|o_proj|sequence_reduction\.sequence_reduction|fc1|fc2)",
        modules_to_save=["decode_head"],
    )
    assert trains(segmented) == expected


def test_train__adapts_what_peft_does_of_a_poolformer(pooled, checkpoints):
    model = poolformer(checkpoints[POOLFORMER])
    norms = [name for name, module in model.named_modules() if isinstance(module, torch.nn.GroupNorm)]
    saved = ["head.fc", "head.norm", *norms]
    expected = by_peft(model, r=8, target_modules=["conv", "fc1", "fc2"], modules_to_save=saved)
    assert trains(pooled) == expected


@pytest.mark.parametrize(
    ("data", "name", "model"), [("classes", VIT_IN21K, vit), ("masked", MIT_B0, mit)], ids=["classes", "masked"]
)
def test_train__full_trains_everything(person, checkpoints, data, name, model):
    ended = person.types(f"lumora train {data} --base {name} --full --out whole-{data}", *QUICK)
    assert "method   full: all weights" in ended.stderr
    count = sum(p.numel() for p in model(checkpoints[name]).parameters())
    assert trains(ended) == (count, count)
    assert (person.folder / f"whole-{data}/bundle/weights.safetensors").exists()


# --- what is done with a bundle ---------------------------------------------------------------------------------------


def assert_peft_gives_the_same(bundle, base, theirs, side):
    """The real PEFT puts a bundle's adapter on a model, and that gives what the bundle does."""
    pixels = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(3))
    ours = lumora.load(bundle, base=str(base), device="cpu").model
    torch.testing.assert_close(
        logits(peft.PeftModel.from_pretrained(theirs, bundle), pixels), logits(ours, pixels), rtol=1e-4, atol=1e-4
    )


def test_bundle__of_a_vit_loads_with_peft(person, classified, checkpoints):
    base = checkpoints[VIT_IN21K]
    assert_peft_gives_the_same(person.folder / "runs/classes/bundle", base, vit(base), 32)


def test_bundle__of_a_segformer_loads_with_peft(person, segmented, checkpoints):
    base = checkpoints[MIT_B0]
    assert_peft_gives_the_same(person.folder / "runs/masked/bundle", base, mit(base), 64)


def test_bundle__of_a_poolformer_loads_with_peft(person, pooled, checkpoints):
    base = checkpoints[POOLFORMER]
    assert_peft_gives_the_same(person.folder / "pooled/bundle", base, poolformer(base), 32)


@pytest.mark.parametrize("task", ["classes", "masked"])
def test_evaluate__gives_the_scores_of_the_training(person, classified, segmented, task):
    found = json.loads(person.types(f"lumora evaluate runs/{task}/bundle {task} --json").stdout)
    recorded = json.loads((person.folder / f"runs/{task}/bundle/lumora.json").read_text())["metrics"]
    main = {"classes": "accuracy", "masked": "mean_iou"}[task]
    assert found["scores"][main] == pytest.approx(recorded[main])


def test_predict__of_pictures_writes_their_labels(person, classified):
    person.types("lumora predict runs/classes/bundle classes/red classes/blue --out said")
    lines = [json.loads(line) for line in (person.folder / "said/predictions.jsonl").read_text().splitlines()]
    assert [Path(line["picture"]).parts[:2] for line in lines] == [("classes", "red")] * 6 + [("classes", "blue")] * 6
    assert all(set(line["labels"]) <= set(LABELS) for line in lines)


def test_predict__of_pictures_writes_their_masks(person, segmented):
    person.types("lumora predict runs/masked/bundle masked/images --out drawn")
    masks = sorted((person.folder / "drawn/masks").rglob("*.png"))
    assert len(masks) == 18
    for path in masks:
        with Image.open(path) as mask:
            assert mask.size == (40, 40)
            assert mask.getextrema()[1] < len(MASKED)


def test_inspect__says_what_a_bundle_is(person, classified):
    told = person.types("lumora inspect runs/classes/bundle").stdout
    assert f"base:              {VIT_IN21K} (transformers), its head: classifier" in told
    assert "target_modules:    fc1, fc2, k_proj, o_proj, projection, q_proj, v_proj" in told
    assert "integrity:         whole" in told


# --- without a network ------------------------------------------------------------------------------------------------

LOAD = """
import sys, lumora
for bundle in sys.argv[1:]:
    prediction = lumora.load(bundle).predict("x.png")
    seen = prediction.mask if hasattr(prediction, "mask") else prediction.probabilities
    print(tuple(seen.shape))
"""


def test_load__predicts_with_what_was_fetched_before(person, classified, segmented, pooled):
    shutil.copy(person.folder / "classes/red/0.png", person.folder / "x.png")
    bundles = ("runs/classes/bundle", "runs/masked/bundle", "pooled/bundle")
    told = person.runs(sys.executable, "-c", LOAD, *bundles, HF_HUB_OFFLINE="1").stdout
    assert told.splitlines() == ["(3,)", "(40, 40)", "(3,)"]


def test_train__offline_says_what_is_lacking(person):
    cold = Person(person.folder, person.hub, home="cold")
    ended = cold.types(f"lumora train classes --base {VIT_IN21K} --out never", *QUICK, code=1, HF_HUB_OFFLINE="1")
    assert f"error: {VIT_IN21K}/config.json is not in the cache, and the Hub cannot be reached" in ended.stderr
    assert "Connect once, or give a local folder." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (person.folder / "never").exists()
