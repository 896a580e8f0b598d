"""What a recipe's gaps are filled with. What is expected is written down here a second time, in another form."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.training.test_recipe import FIELDS

import lumora.training.rules
from lumora.data import Limits
from lumora.errors import RecipeError
from lumora.models import EMBEDDED
from lumora.models.heads import WIDTH
from lumora.training.choosing import BaseFacts, Facts, Machine, explained, resolve
from lumora.training.recipe import Recipe, asked_of, parse_asked, read_recipe, recipe_hash, write_recipe
from lumora.training.schema.keys import keys

GB = 10**9
LITE = BaseFacts(EMBEDDED, (224, 224), 4_000_000, multi_scale=True)
VIT = BaseFacts("google/vit-base-patch16-224-in21k", (224, 224), 86_000_000, usual_targets=True)
SEGFORMER = BaseFacts("nvidia/mit-b0", (512, 512), 3_700_000, usual_targets=True, multi_scale=True)
LAPTOP = Machine(cores=2, memory=8 * GB, disk=100 * GB)
SERVER = Machine(cores=32, memory=256 * GB, device="cuda", device_memory=80 * GB, bf16=True, disk=1000 * GB)
OLD_GPU = Machine(cores=8, memory=32 * GB, device="cuda", device_memory=8 * GB, disk=100 * GB)
ANIMALS = ("cat", "dog", "owl")

FEW = Facts("classification", 150, 30, ANIMALS, (300, 400), LITE, LAPTOP)
FOOD = Facts("classification", 60_000, 15_000, tuple(f"dish {i}" for i in range(101)), (384, 512), VIT, SERVER)
STREETS = Facts("segmentation", 2_500, 500, ANIMALS, (1024, 2048), SEGFORMER, OLD_GPU)
FIELDS_SEEN = Facts("segmentation", 40, 10, ANIMALS, (300, 400), LITE, LAPTOP)
TAGS = Facts("multilabel", 2_000, 400, ANIMALS, (480, 640), VIT, LAPTOP)
EVERY = {"few": FEW, "food": FOOD, "streets": STREETS, "fields": FIELDS_SEEN, "tags": TAGS}

EXPECTED: dict[str, dict[str, Any]] = {
    "few": {
        # 150 // 4 = 37, and 32 fits; 4 steps an epoch, so 250 epochs would be 1,000 steps, and 50 are the most.
        "train.batch_size": 32,
        "train.epochs": 50,
        "train.micro_batch": 8,  # 8 GB less 32 MB, half of it, by 5 kB · 224²: 15 pictures; 8 is a part of 32
        "train.precision": "fp32",
        "train.best_by": "accuracy",
        "lora.r": 8,
        "lora.alpha": 8.0,
        "lora.norms": True,
        "base.name": EMBEDDED,
        "base.drop_path": 0.1,
        "pictures.size": (224, 224),
        "pictures.area": (0.08, 1.0),
        "pictures.scale": None,
        "pictures.colour": 0.0,
        "loss.dice": 0.0,
        "train.rate": 2e-3,  # 200 steps are fewer than 500
        "train.head_rate": 5e-3,
        "run.workers": 0,
        "run.cache": "100MB",  # 180 · 300 · 400 · 3 = 64.8 MB
        "run.cache_on": "ram",
    },
    "food": {
        "train.batch_size": 64,
        "train.epochs": 5,  # 937 steps an epoch: 2 epochs are 1,000 steps, and 5 are the fewest
        "train.micro_batch": 64,
        "train.precision": "bf16",
        "lora.r": 16,
        "lora.alpha": 16.0,
        "train.rate": 1e-3,
        "train.head_rate": 1e-3,
        "pictures.size": (224, 224),
        "run.workers": 8,
        "run.cache": "44300MB",  # 75,000 · 384 · 512 · 3 = 44.2 GB, below a quarter of 256
        "run.cache_on": "ram",
    },
    "streets": {
        "train.batch_size": 16,
        "train.epochs": 13,  # 156 steps an epoch: 12.8 epochs are 2,000 steps
        "train.micro_batch": 2,  # half of 8 GB by 5 kB · 512²: 3 pictures, of which 2 make 16
        "train.precision": "fp16",
        "train.best_by": "mean_iou",
        "lora.r": 32,
        "lora.alpha": 32.0,
        "lora.norms": False,
        "base.drop_path": 0.0,
        "pictures.size": (512, 512),
        "pictures.area": None,
        "pictures.scale": (0.5, 2.0),
        "pictures.colour": 0.25,
        "loss.dice": 1.0,
        "train.rate": 5e-4,
        "train.head_rate": 1e-3,
        "run.workers": 7,
        "run.cache": "25200MB",  # 3,000 · 1024 · 2048 · 4 = 25.17 GB: above 8, below half of the disk
        "run.cache_on": "disk",
    },
    "fields": {
        "train.batch_size": 8,  # 40 // 4 = 10
        "train.epochs": 100,  # 5 steps an epoch
        "lora.r": 8,
        "pictures.size": (288, 288),  # 300 as a multiple of 32
        "train.rate": 5e-4,  # 500 steps are not fewer than 500
        "run.cache": "100MB",
    },
    "tags": {
        "train.batch_size": 32,
        "train.epochs": 17,  # 62 steps an epoch: 16.1 epochs
        "train.best_by": "macro_f1",
        "lora.r": 16,
        "loss.dice": 0.0,
        "loss.label_smoothing": 0.0,
        "pictures.size": (224, 224),
    },
}
ALWAYS = {
    "data.validation": 0.2,
    "data.test": 0.0,
    "data.ignore": (255,),
    "data.max_pixels": Limits().pixels,
    "base.head": "auto",
    "base.width": WIDTH,
    "lora.targets": "all",
    "lora.start": True,
    "train.method": "lora",
    "train.weight_decay": 0.05,
    "train.warmup": 0.1,
    "train.schedule": "cosine",
    "train.clip": 1.0,
    "train.seed": 0,
    "pictures.flip": 0.5,
    "train.grad_checkpointing": False,
}


def values_of(facts, **asked):
    return asked_of(resolve(parse_asked({key.replace("__", "."): value for key, value in asked.items()}), facts).recipe)


@pytest.mark.parametrize("name", EVERY)
def test_resolve__fills_gaps_by_the_rules(name):
    values = values_of(EVERY[name])
    expected = {**ALWAYS, **EXPECTED[name], "data.task": EVERY[name].task}
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize("name", EVERY)
def test_resolve__leaves_no_gap_and_says_why(name, tmp_path: Path):
    chosen = resolve(Recipe(), EVERY[name])
    assert list(chosen.origins) == list(keys()) == list(asked_of(chosen.recipe))
    assert {origin.how for origin in chosen.origins.values()} == {"default", "detected"}
    assert all(origin.why for origin in chosen.origins.values())
    for key, value in asked_of(chosen.recipe).items():
        assert value is not None or keys()[key].null is not None, key
    # The file of the run gives the same again, also on another machine and with other data.
    write_recipe(chosen.recipe, tmp_path / "recipe.yaml")
    again = read_recipe(tmp_path / "recipe.yaml")
    same = resolve(again, replace(EVERY[name], machine=replace(EVERY[name].machine, cores=64, memory=GB)))
    assert same.recipe == chosen.recipe
    assert recipe_hash(same.recipe) == recipe_hash(chosen.recipe)
    assert {origin.how for origin in same.origins.values()} == {"asked"}


@pytest.mark.parametrize(
    ("facts", "method", "rates"),
    [
        (FOOD, "lora", (2e-3, 5e-3)),
        (FOOD, "full", (5e-4, 5e-3)),
        (FOOD, "head", (1e-3, 5e-3)),
        (FOOD, "scratch", (1e-3, 1e-3)),
        (STREETS, "lora", (2e-3, 1e-2)),
        (STREETS, "full", (5e-4, 1e-2)),
    ],
)
def test_resolve__short_trainings_learn_faster(facts, method, rates):
    short = values_of(replace(facts, pictures_train=320), train__method=method, train__epochs=3)
    assert (short["train.rate"], short["train.head_rate"]) == rates
    assert short["pictures.scale"] == ((0.75, 1.5) if facts.segments else None)


def test_explained__tells_every_key_in_order():
    chosen = resolve(parse_asked({"lora.r": 4}), FEW)
    rows = explained(chosen)
    assert [key for key, *_ in rows] == list(keys())
    told = {key: rest for key, *rest in rows}
    assert told["lora.r"] == [4, "asked", "asked for"]
    assert told["lora.alpha"] == [4.0, "default", "equal to the rank: updates count as they are"]
    assert told["train.epochs"] == [50, "detected", "200 steps of 4 an epoch"]


def compatible(key, value):
    """Facts that a value fits."""
    if key in ("loss.dice", "pictures.scale", "data.reduce_labels", "base.head") or value in (
        "mean_iou",
        "segmentation",
    ):
        return replace(STREETS, machine=SERVER)
    facts = replace(FEW, machine=SERVER) if value != "usual" else FOOD
    if value == "multilabel":
        return TAGS
    if isinstance(value, tuple) and key == "loss.class_weights":
        return replace(facts, class_names=tuple(f"class {i}" for i in range(len(value))))
    return facts


@pytest.mark.parametrize(
    ("key", "text", "value"), [(key, text, value) for key, (accepted, _) in FIELDS.items() for text, value in accepted]
)
def test_asked__always_wins(key, text, value):
    chosen = resolve(parse_asked({key: text}), compatible(key, value))
    assert asked_of(chosen.recipe)[key] == value
    assert chosen.origins[key].how == "asked"
    assert [other for other, origin in chosen.origins.items() if origin.how == "asked"] == [key]


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        Facts,
        st.sampled_from(["classification", "multilabel", "segmentation"]),
        st.integers(1, 10**7),
        st.integers(0, 10**6),
        st.lists(st.text(max_size=5), min_size=1, max_size=4).map(tuple),
        st.tuples(st.integers(1, 10**4), st.integers(1, 10**4)),
        st.sampled_from([LITE, VIT, SEGFORMER]),
        st.builds(
            Machine,
            st.integers(1, 256),
            st.integers(10**8, 10**12),
            st.sampled_from(["cpu", "cuda"]),
            st.none() | st.integers(10**8, 10**11),
            st.booleans(),
            st.integers(0, 10**13),
        ),
    ),
    st.sampled_from(["lora", "full", "head", "scratch"]),
)
def test_resolve__finds_something_for_any_facts(facts, method):
    values = values_of(facts, train__method=method)
    batch, part = values["train.batch_size"], values["train.micro_batch"]
    assert 1 <= part <= batch <= facts.pictures_train
    assert batch % part == 0
    assert values["run.workers"] < facts.machine.cores
    assert values["pictures.size"][0] >= 8


@pytest.mark.parametrize(
    ("asked", "facts", "said"),
    [
        ({"pictures.mix": "both"}, STREETS, "pictures.mix is 'both', but it is for classification and multilabel only"),
        ({"loss.dice": 1}, FEW, "loss.dice is 1.0, but it is for segmentation only"),
        (
            {"data.task": "segmentation"},
            FEW,
            "data.task is 'segmentation', but the data are labelled for cl",
        ),
        ({"lora.targets": "usual"}, FEW, "nothing is usual in the architecture of lumora/efficientnet-lite0"),
        ({"loss.class_weights": [1, 2]}, FEW, "loss.class_weights has 2 numbers, but there are 3 labels"),
        ({"train.precision": "fp16"}, FEW, "the CPU computes here, which cannot train with it; use 'fp32'"),
        ({"train.precision": "bf16"}, STREETS, "this GPU does not have it; use 'fp16'"),
        ({"train.patience": 3}, replace(FEW, pictures_validation=0), "train.patience is 3, but there are no pictures"),
        (
            {"train.best_by": "accuracy"},
            replace(FEW, pictures_validation=0),
            "train.best_by is 'accuracy', but there are no pictures for validation; raise data.validation",
        ),
        ({"train.batch_size": 200}, FEW, "train.batch_size is 200, but there are 150 pictures for training"),
        ({"train.micro_batch": 200}, FEW, "train.micro_batch is 200, but there are 150 pictures for training"),
    ],
)
def test_asked__that_does_not_fit_is_refused(asked, facts, said):
    with pytest.raises(RecipeError) as raised:
        resolve(parse_asked(asked), facts)
    assert said in str(raised.value)


def test_asked__that_does_not_fit_is_told_all_at_once():
    asked = parse_asked({"pictures.mix": "both", "train.precision": "bf16", "loss.class_weights": "1,2"})
    with pytest.raises(RecipeError, match="for 3 reasons:"):
        resolve(asked, STREETS)


# --- what follows from what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pictures", "rank"), [(1, (8, 8)), (1999, (8, 8)), (2000, (16, 32)), (10**6, (16, 32))])
def test_rank__is_smaller_for_few_pictures(pictures, rank):
    found = (values_of(replace(facts, pictures_train=pictures))["lora.r"] for facts in (FEW, STREETS))
    assert tuple(found) == rank


@pytest.mark.parametrize(
    ("pictures", "batches"),
    [(1, (1, 1)), (3, (1, 1)), (20, (4, 4)), (127, (16, 16)), (128, (32, 16)), (9999, (32, 16)), (10_000, (64, 32))],
)
def test_batch__is_larger_for_many_pictures_and_never_an_epoch(pictures, batches):
    found = (values_of(replace(facts, pictures_train=pictures))["train.batch_size"] for facts in (FEW, STREETS))
    assert tuple(found) == batches


def test_batch__is_put_together_from_the_micro_batch_that_was_asked_for():
    assert values_of(FOOD, train__micro_batch=24)["train.batch_size"] == 48
    assert values_of(FEW, train__batch_size=30)["train.micro_batch"] == 15


def test_alpha__follows_the_rank_that_was_asked_for():
    assert values_of(FEW, lora__r=64)["lora.alpha"] == 64.0


def test_epochs__follow_the_batch_that_was_asked_for():
    assert values_of(TAGS, train__batch_size=8)["train.epochs"] == 5  # 250 steps an epoch: 4 would be enough
    assert values_of(TAGS, train__batch_size=20)["train.epochs"] == 10


def test_rates__are_lower_where_pretrained_weights_are_trained():
    methods = ("lora", "full", "head", "scratch")
    assert [values_of(FEW, train__method=method)["train.rate"] for method in methods] == [2e-3, 5e-4, 1e-3, 1e-3]
    assert [values_of(FOOD, train__method=method)["train.rate"] for method in methods] == [1e-3, 1e-4, 1e-3, 1e-3]
    assert values_of(STREETS, train__method="full")["train.rate"] == 1e-4


def test_method__of_the_head_alone_leaves_the_base_as_it_is():
    values = values_of(FEW, train__method="head")
    assert (values["base.drop_path"], values["lora.norms"]) == (0.0, False)


@pytest.mark.parametrize(
    ("names", "flip"),
    [
        (tuple("0123456789"), 0.0),
        (tuple("abc"), 0.0),
        (("turn left", "turn right"), 0.0),
        (("left_hand", "other"), 0.0),
        (("cat", "dog"), 0.5),
        (("cleft", "bright"), 0.5),
        (("x",), 0.5),
    ],
)
def test_flip__is_left_out_where_sides_matter(names, flip):
    assert values_of(replace(FEW, class_names=names))["pictures.flip"] == flip


@pytest.mark.parametrize(
    ("size", "base", "expected"),
    [
        ((300, 400), LITE, 288),
        ((100, 100), LITE, 224),
        ((2000, 3000), LITE, 512),
        ((2000, 3000), VIT, 224),
        ((2000, 3000), replace(SEGFORMER, size=(640, 640)), 640),
    ],
)
def test_size__of_a_segmentation_is_that_of_the_pictures_if_the_base_takes_it(size, base, expected):
    assert values_of(replace(STREETS, picture_size=size, base=base))["pictures.size"] == (expected, expected)


def test_best__is_not_looked_for_without_validation():
    values = values_of(replace(FEW, pictures_validation=0))
    assert values["train.best_by"] is None


def test_memory__decides_how_much_is_computed_at_once():
    machine = Machine(cores=2, memory=10**9)
    small = replace(FOOD, machine=machine)  # 86 million parameters leave 0.31 GB, half of which is one picture's
    assert values_of(small)["train.micro_batch"] == 1
    assert values_of(small, pictures__size=512)["train.grad_checkpointing"] is True
    assert values_of(small, pictures__size=512, train__method="head")["train.grad_checkpointing"] is False


@pytest.mark.parametrize(
    ("asked", "machine", "cache", "place"),
    [
        ({}, Machine(2, 400 * GB), "44300MB", "ram"),
        ({}, Machine(2, 40 * GB, disk=100 * GB), "44300MB", "disk"),
        ({}, Machine(2, 40 * GB, disk=10 * GB), "10GB", "ram"),
        ({"run__cache_on": "disk"}, Machine(2, 40 * GB, disk=10 * GB), "5GB", "disk"),
        ({"run__cache_on": "ram"}, Machine(2, 40 * GB, disk=100 * GB), "10GB", "ram"),
        ({"run__cache": "off"}, Machine(2, 400 * GB), "off", "ram"),
        ({}, Machine(2, 10**8), "off", "ram"),
    ],
)
def test_cache__goes_where_all_pictures_fit(asked, machine, cache, place):
    values = values_of(replace(FOOD, machine=machine), **asked)
    assert (values["run.cache"], values["run.cache_on"]) == (cache, place)


@pytest.mark.parametrize(
    ("path", "out"),
    [
        (None, "runs/classification"),
        ("my pictures/", "runs/my-pictures"),
        ("/data/food-101", "runs/food-101"),
        ("zalando/fashion_mnist", "runs/fashion_mnist"),
        ("../..", "runs/classification"),
        ("C:\\cats & dogs", "runs/cats-dogs"),
    ],
)
def test_out__is_called_as_the_data_are(path, out):
    assert values_of(FEW, data__path=path)["run.out"] == out


def test_weights__stay_equal_but_the_reason_tells_of_rare_classes():
    chosen = resolve(Recipe(), replace(FEW, class_counts=(100, 0, 5)))
    assert chosen.recipe.loss.class_weights == "none"
    assert "'owl' is 20 times rarer" in chosen.origins["loss.class_weights"].why
    assert "rarer" not in resolve(Recipe(), replace(FEW, class_counts=(50, 45, 55))).origins["loss.class_weights"].why


def test_validation__leaves_something_when_a_large_test_is_asked_for():
    assert values_of(FEW, data__test=0.9)["data.validation"] == pytest.approx(0.05)
    assert values_of(FEW, data__test=0.5)["data.validation"] == 0.2


def test_rules__are_functions_of_what_is_known_alone():
    folder = Path(lumora.training.rules.__file__).parent
    roots = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert roots == {"__future__", "collections", "dataclasses", "lumora", "math", "re", "types", "typing"}


@pytest.mark.parametrize("machine", [LAPTOP, SERVER, OLD_GPU])
def test_machine__is_shared_by_the_processes_that_train_together(machine):
    shared = replace(machine, processes=4)
    assert shared.for_training == (machine.memory // 4 if machine.device == "cpu" else machine.device_memory)
    one, four = (values_of(replace(FEW, machine=each), train__batch_size=32) for each in (machine, shared))
    assert four["run.workers"] <= max(0, machine.cores // 4 - (machine.device == "cuda"))
    assert {key: four[key] for key in four if key not in ("run.workers", "train.micro_batch")} == {
        key: one[key] for key in one if key not in ("run.workers", "train.micro_batch")
    }
