"""What a recipe accepts, how it says what is wrong, and that files and hashes are the same every time."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lumora.errors import OutputError, RecipeError
from lumora.training.recipe import (
    Recipe,
    asked_of,
    parse_asked,
    read_recipe,
    recipe_hash,
    recipe_text,
    write_recipe,
)
from lumora.training.schema.asked import split_settings
from lumora.training.schema.keys import keys

# For each key: texts as typed, with the value that each means; then what is refused.
SHARE = ([("0", 0.0), ("0.25", 0.25), ("1e-3", 0.001)], ["1", "-0.1", "half", "true", "[0.1]"])
FLAG = ([("true", True), ("false", False)], ["1", "yes", "0.5", "[true]"])
COUNT = ([("1", 1), ("12", 12)], ["0", "-3", "1.5", "true", "two", "[1, 2]"])
RATE = ([("1e-3", 0.001), ("1", 1.0)], ["0", "-1e-3", "1.1", "fast", "true"])
SEED = ([("0", 0), ("4294967295", 4294967295)], ["-1", "4294967296", "0.5", "x", "true"])
PATTERNS = ["[a]", "8", "{a: x}", "{'(': 4}", "{a: 0}"]
FIELDS: dict[str, tuple[list[tuple[str, Any]], list[str]]] = {
    "data.path": ([("my pictures", "my pictures"), ("2014", "2014"), ("a: b", "a: b")], ["", " "]),
    "data.task": ([("segmentation", "segmentation"), ("multilabel", "multilabel")], ["detection", "3"]),
    "data.layout": ([("voc", "voc")], [""]),
    "data.labels": (
        [
            ("cat,dog", ("cat", "dog")),
            ("[cat, dog]", ("cat", "dog")),
            ("{0: sky, 5: sea}", {0: "sky", 5: "sea"}),
            ("ade20k", "ade20k"),
        ],
        ["", "[]", "{a: b}", "[[a]]"],
    ),
    "data.columns": (
        [("{picture: file, label: [wet, dry]}", {"picture": "file", "label": ("wet", "dry")})],
        ["{lable: x}", "[a]", "x", "{label: 1}"],
    ),
    "data.subset": ([("small", "small"), ("7", "7")], [""]),
    "data.ignore": ([("255", (255,)), ("0,255", (0, 255)), ("[]", ())], ["0.5", "none", "[1, 1]", "[a]"]),
    "data.reduce_labels": FLAG,
    "data.validation": SHARE,
    "data.test": SHARE,
    "data.seed": SEED,
    "data.near_duplicates_together": FLAG,
    "data.skip_bad": FLAG,
    "data.max_pixels": COUNT,
    "base.name": ([("timm/vit_base_patch16_224", "timm/vit_base_patch16_224"), ("x # y", "x # y")], [""]),
    "base.head": ([("auto", "auto"), ("own", "own"), ("light", "light")], ["heavy", "1"]),
    "base.width": ([("64", 64)], ["0", "8193", "64.0", "wide"]),
    "base.drop_path": SHARE,
    "lora.r": (
        [("8", 8), ("100000", 100_000)],
        ["0", "100001", "8.0", "eight", "true", "-8", "[8]", "# 8", "&8"],
    ),
    "lora.alpha": ([("8", 8.0), ("0.5", 0.5)], ["0", "-1", "a", "true"]),
    "lora.dropout": SHARE,
    "lora.targets": (
        [
            ("all", "all"),
            ("usual", "usual"),
            ("query,value", ("query", "value")),
            ("[query, value]", ("query", "value")),
            ("query", ("query",)),
            ("&x", "&x"),
            ("# x", "# x"),
            (r".*\.(query|value)", r".*\.(query|value)"),
            ("[query|value]", ("query|value",)),
        ],
        ["(", "", "[]", "[1]", "{a: 1}"],
    ),
    "lora.exclude": ([("head", ("head",)), (r"head\..*", r"head\..*")], ["(", "[]", "3.5+["]),
    "lora.norms": FLAG,
    "lora.rslora": FLAG,
    "lora.dora": FLAG,
    "lora.start": (
        [("true", True), ("false", False), ("gaussian", "gaussian"), ("pissa_niter_16", "pissa_niter_16")],
        ["kaiming", "1", "pissa_niter_", "[eva]"],
    ),
    "lora.rank_pattern": ([("{query: 4, '^v': 2}", {"query": 4, "^v": 2}), ("{}", {})], [*PATTERNS, "{a: 1.5}"]),
    "lora.alpha_pattern": ([("{query: 4.5}", {"query": 4.5})], PATTERNS),
    "lora.bias": ([("none", "none"), ("all", "all"), ("lora_only", "lora_only")], ["some", "true"]),
    "train.method": ([("lora", "lora"), ("full", "full"), ("head", "head"), ("scratch", "scratch")], ["dora", "1"]),
    "train.start_from": ([("runs/flowers/bundle", "runs/flowers/bundle"), ("3", "3")], [""]),
    "train.epochs": ([("1", 1), ("1000000", 1_000_000)], ["0", "1000001", "2.5", "long"]),
    "train.batch_size": ([("1", 1), ("64", 64)], ["0", "1000001", "8.0", "[8]"]),
    "train.micro_batch": COUNT,
    "train.rate": RATE,
    "train.head_rate": RATE,
    "train.lora_plus": ([("1", 1.0), ("16", 16.0)], ["0.5", "1001", "fast"]),
    "train.weight_decay": ([("0", 0.0), ("1", 1.0)], ["-0.1", "1.5", "x"]),
    "train.warmup": SHARE,
    "train.schedule": ([("cosine", "cosine"), ("linear", "linear"), ("constant", "constant")], ["step", "1"]),
    "train.clip": ([("1", 1.0), ("0.5", 0.5)], ["0", "-1", "hard"]),
    "train.precision": ([("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "fp32")], ["tf32", "16"]),
    "train.ema": ([("0.999", 0.999)], ["0", "1", "long"]),
    "train.patience": COUNT,
    "train.best_by": ([("accuracy", "accuracy"), ("mean_iou", "mean_iou")], ["loss", "", "3"]),
    "train.max_time": (
        [("90", 90.0), ("90s", 90.0), ("20m", 1200.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("2 h 5 min", 7500.0)],
        ["0", "-5", "soon", "1d", "h", "m5", "true", "30m1h"],
    ),
    "train.head_first": ([("0", 0), ("5", 5)], ["-1", "0.5", "true"]),
    "train.seed": SEED,
    "train.grad_checkpointing": FLAG,
    "pictures.size": (
        [("224", (224, 224)), ("[384, 512]", (384, 512)), ("384,512", (384, 512))],
        ["7", "8193", "[224]", "[1, 2, 3]", "big", "224.0", "true"],
    ),
    "pictures.area": ([("0.08,1", (0.08, 1.0))], ["0,1", "1,0.5", "0.5,1.5", "0.5", "[0.1, 0.2, 0.3]"]),
    "pictures.scale": ([("[0.5, 2]", (0.5, 2.0))], ["0,1", "2,0.5", "1", "x"]),
    "pictures.flip": ([("0", 0.0), ("1", 1.0)], ["-1", "2", "often"]),
    "pictures.colour": ([("0.25", 0.25)], ["-1", "1.1", "red"]),
    "pictures.trivial_augment": FLAG,
    "pictures.mix": ([("none", "none"), ("both", "both"), ("mixup", "mixup"), ("cutmix", "cutmix")], ["cut", "true"]),
    "loss.label_smoothing": SHARE,
    "loss.class_weights": (
        [("none", "none"), ("balanced", "balanced"), ("1,2.5", (1.0, 2.5)), ("[0, 1]", (0.0, 1.0))],
        ["even", "[0, 0]", "[-1, 2]", "[]", "[a]", "2"],
    ),
    "loss.dice": ([("0", 0.0), ("1", 1.0)], ["-1", "101", "yes"]),
    "run.out": ([("runs/today", "runs/today"), ("3", "3")], [""]),
    "run.workers": ([("0", 0), ("512", 512)], ["-1", "513", "1.5"]),
    "run.cache": (
        [("2GB", "2GB"), ("2 gb", "2GB"), ("500MB", "500MB"), ("off", "off"), ("1.5GB", "1500MB"), ("1KiB", "1024B")],
        ["a lot", "-1", "2XB", "GB", "1.5", "true"],
    ),
    "run.cache_on": ([("ram", "ram"), ("disk", "disk")], ["tape", "1"]),
    "run.checkpoint_every": ([("30", 30.0), ("2m", 120.0)], ["0", "often"]),
    "run.track": (
        [("wandb", ("wandb",)), ("wandb,mlflow", ("wandb", "mlflow")), ("[]", ()), ("[trackio]", ("trackio",))],
        ["comet", "wandb,wandb", "1"],
    ),
    "run.live_samples": ([("0", 0), ("100", 100)], ["-1", "101", "few"]),
    "run.threads": ([("1", 1)], ["0", "4097", "many"]),
}
ACCEPTED = [(key, text, value) for key, (accepted, _) in FIELDS.items() for text, value in accepted]
REFUSED = [(key, text) for key, (_, refused) in FIELDS.items() for text in refused]


def test_fields__are_all_tried_here():
    assert list(FIELDS) == list(keys())


def test_fields__are_described():
    assert [key.name for key in keys().values() if not key.description or not key.takes] == []


@pytest.mark.parametrize(("key", "text", "value"), ACCEPTED)
def test_text__becomes_the_value_that_it_means(key, text, value):
    found = asked_of(parse_asked({key: text}))
    assert found == {key: value}
    assert type(found[key]) is type(value)


@pytest.mark.parametrize(("key", "text"), REFUSED)
def test_text__that_makes_no_sense_is_refused_with_what_may_be(key, text):
    with pytest.raises(RecipeError) as raised:
        parse_asked({key: text})
    said = str(raised.value)
    assert said.startswith("The recipe cannot be used: ")
    assert f"{key} is " in said
    assert " must be " in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lora.r": "eight"}, "lora.r is 'eight'; it must be a whole number from 1 to 100,000."),
        ({"lora.r": 0}, "lora.r is 0; it must be a whole number from 1 to 100,000."),
        ({"train.warmup": 1}, "train.warmup is 1; it must be a number of at least 0 and below 1."),
        ({"train.rate": float("nan")}, "train.rate is nan; it must be a number above 0 and at most 1."),
        ({"train.clip": 10**400}, "...; it must be a number above 0, or null (as they are)."),
        ({"run.cache": "9" * 400 + ".5GB"}, "...; it must be a size such as"),
        ({"run.cache": "9" * 5000 + "GB"}, "...; it must be a size such as"),
        ({"lora.r": "９"}, "lora.r is '９'; it must be a whole number"),
        ({"train.clip": "1e999"}, "train.clip is inf; it must be a number above 0"),
        ({"train.clip": float("inf")}, "train.clip is inf; it must be a number above 0, or null (as they are)."),
        ({"lora.dora": "maybe"}, "lora.dora is 'maybe'; it must be true or false."),
        ({"pictures.mix": "blend"}, 'it must be "none", "mixup", "cutmix" or "both".'),
        ({"lora.targets": "("}, "(it is no regular expression: missing )"),
        ({"lora.rank_pattern": {"(": 4}}, "('(': it is no regular expression: missing )"),
        ({"train.max_time": "soon"}, '"90s", "20m" or "1h30m", or null (no limit) (\'soon\' is no length of time).'),
        ({"lora.rank": 8}, "there is no lora.rank; did you mean lora.r?"),
        ({"lora": 8}, "lora is 8; it must hold keys: r, alpha,"),
        ({3: 8}, "3 is no key; keys are texts such as lora.r."),
        ({"lora": {"r": 8}, "lora.r": 4}, "lora.r is there twice."),
        ({"data.path": "\ud800"}, "characters that cannot be written to a file"),
    ],
)
def test_problem__says_what_was_found_and_what_may_be(given, said):
    with pytest.raises(RecipeError) as raised:
        parse_asked(given)
    assert said in str(raised.value)


def test_problems__come_together_and_contradictions_with_them():
    with pytest.raises(RecipeError) as raised:
        parse_asked(
            {
                "lora.rank": "8",
                "lora.r": "-1",
                "train.epoch": "3",
                "train.method": "head",
                "lora.dora": "true",
                "x": "1",
            }
        )
    first, *rest = str(raised.value).splitlines()
    assert first == "The recipe cannot be used, for 5 reasons:"
    assert [line.split(";")[0] for line in rest] == [
        "- there is no lora.rank",
        "- lora.r is -1",
        "- there is no train.epoch",
        "- there is no x",
        "- lora.dora is true, but train.method is 'head', which adds no adapters.",
    ]


def test_null__chooses_where_it_says_so_and_leaves_the_choice_elsewhere():
    asked = parse_asked({"train.ema": "null", "train.max_time": None, "lora.r": "null", "run.workers": None})
    assert asked_of(asked) == {"train.ema": None, "train.max_time": None}


def test_auto__leaves_a_key_open_also_where_it_was_asked_before():
    before = parse_asked({"lora.r": 4, "train.ema": 0.9, "train.precision": "auto"})
    assert asked_of(before) == {"lora.r": 4, "train.ema": 0.9}
    assert asked_of(parse_asked({"lora.r": "auto", "train.ema": "auto", "base.head": "auto"}, onto=before)) == {
        "base.head": "auto"
    }


def test_asked__goes_on_top_of_what_was_asked_before():
    before = parse_asked({"lora.r": 4, "train.epochs": 3})
    assert asked_of(parse_asked({"train.epochs": "5"}, onto=before)) == {"lora.r": 4, "train.epochs": 5}
    assert asked_of(before) == {"lora.r": 4, "train.epochs": 3}
    with pytest.raises(RecipeError, match=r"lora\.dora is true"):
        parse_asked({"train.method": "full"}, onto=parse_asked({"lora.dora": True}))


def test_values__of_python_are_taken_as_they_are(tmp_path):
    given = {"data.path": tmp_path, "lora": {"targets": ["query"], "rank_pattern": {"a": 3}}, "run.cache": 2 * 10**9}
    found = parse_asked(given)
    assert (found.data.path, found.lora.targets, found.lora.rank_pattern) == (str(tmp_path), ("query",), {"a": 3})
    assert (found.run.cache, found.run.cache_bytes) == ("2GB", 2 * 10**9)


def test_recipe__cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Recipe().lora = None
    with pytest.raises(ValueError, match="frozen"):
        Recipe().lora.r = 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["lora.r"], "'lora.r' has no key and value; write key=value"),
        (["=8"], "'=8' has no key and value"),
        (["lora.r=8", "lora.r=4"], "lora.r is set twice, to '8' and '4'"),
    ],
)
def test_settings__that_are_none_are_refused(settings, said):
    with pytest.raises(RecipeError, match=said):
        split_settings(settings)


# --- files ------------------------------------------------------------------------------------------------------------


def test_file__is_the_same_bytes_and_plain_yaml(tmp_path: Path):
    asked = parse_asked({"train.rate": "1e-5", "lora.r": 8, "lora.targets": "a,b", "train.ema": None, "data.path": "x"})
    again = parse_asked(
        {"data.path": "x", "train.ema": None, "lora": {"targets": ["a", "b"], "r": 8}, "train.rate": 1e-5}
    )
    write_recipe(asked, tmp_path / "one.yaml")
    write_recipe(again, tmp_path / "two.yaml")
    content = (tmp_path / "one.yaml").read_bytes()
    assert content == (tmp_path / "two.yaml").read_bytes()
    loaded = yaml.safe_load(content)
    assert loaded["lora"] == {"r": 8, "targets": ["a", "b"]}
    assert loaded["data"] == {"path": "x"}
    lines = content.decode().splitlines()
    above = [lines[i - 1] for i, line in enumerate(lines) if line.endswith(":")]
    assert len(above) == 3
    assert all(line.startswith("# ") for line in above)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.yaml", "two.yaml"]


def test_file__written_by_hand_is_read_as_yaml_1_2(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(
        "train: {rate: 1e-3, max_time: 20m}\nlora:\n  start: gaussian\n  exclude: no\nrun:\n  cache: off\n"
        "data:\n  seed: 010\nloss:\n"
    )
    assert asked_of(read_recipe(tmp_path / "recipe.yaml")) == {
        "data.seed": 10,
        "lora.exclude": ("no",),
        "lora.start": "gaussian",
        "train.rate": 0.001,
        "train.max_time": 1200.0,
        "run.cache": "off",
    }


@pytest.mark.parametrize("content", ["", "# nothing\n", "{}", "lora:\n"])
def test_file__that_asks_for_nothing_leaves_everything_open(content, tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text(content)
    assert asked_of(read_recipe(tmp_path / "recipe.yaml")) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"lora: [", "This is no YAML: line 1, column 8"),
        (b"lora:\n  r: 8\n  r: 4\n", "line 3, column 3: 'r' is there twice"),
        (b"lora:\n  r: &a 8\ntrain:\n  epochs: *a\n", "line 2, column 6: references (&name, *name) are not used"),
        (b"lora:\n  r: *a\n", "line 2, column 6: references (&name, *name) are not used here"),
        (b"lora: !!python/object/apply:os.system ['true']\n", "is not used here; plain values only"),
        (b"? [a]\n: 3\n", "a key must be a word or a number"),
        (b"- lora\n", "holds ['lora']; it must hold sections: data, base,"),
        (b"hello", "holds 'hello'; it must hold sections"),
        (b"\xff\xfe\xfa", "it is no text in UTF-8"),
        (b"a: 1\n---\nb: 2\n", "This is no YAML"),
        (b"a: \x01", "This is no YAML"),
        (b"[" * 5000, "This is no YAML"),
        (b"lora:\n  r: " + b"9" * 5000, "a number is too long"),
        (b'lora:\n  r: "8"\n', "lora.r is '8'; it must be a whole number"),
        (b"lora:\n  r: 8.0\n", "lora.r is 8.0; it must be a whole number"),
        (b"model: x\n", "there is no model; did you mean base.name?"),
        (b"lora:\n  7: x\n", "there is no lora.7; lora has r, alpha"),
    ],
)
def test_file__that_cannot_be_used_is_refused_by_its_name(content, said, tmp_path: Path):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as raised:
        read_recipe(tmp_path / "recipe.yaml")
    assert said in str(raised.value)
    assert f"recipe {tmp_path / 'recipe.yaml'}" in str(raised.value)


def test_file__that_is_not_there_is_told(tmp_path: Path):
    for path, said in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(RecipeError, match=said):
            read_recipe(path)


def test_file__that_cannot_be_written_leaves_nothing(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        write_recipe(Recipe(), tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


# --- the hash ---------------------------------------------------------------------------------------------------------


def test_hash__is_that_of_the_deciding_values_as_json():
    asked = parse_asked({"train.rate": "1e-3", "lora.r": "8", "lora.targets": "query,value", "run.out": "there"})
    text = json.dumps({"lora.r": 8, "lora.targets": ["query", "value"], "train.rate": 0.001}, separators=(",", ":"))
    assert recipe_hash(asked) == hashlib.sha256(text.encode()).hexdigest()


def test_hash__never_changes():
    assert recipe_hash(parse_asked({"lora.r": 8, "train.epochs": 3})) == (
        "5d16bda4bec8c875d90e1d04c67ea3bbfb7140fab706c11d7258590a3afd7501"
    )


@pytest.mark.parametrize("key", FIELDS)
def test_hash__differs_by_whatever_decides_the_adapter(key):
    (accepted, _) = FIELDS[key]
    found = {recipe_hash(parse_asked({key: value})) for value in {repr(v): v for _, v in accepted}.values()}
    nothing = recipe_hash(Recipe())
    if key.startswith("run."):
        assert found == {nothing}
    else:
        assert len(found) == len({repr(value) for _, value in accepted})
        assert nothing not in found


def test_hash__is_the_same_in_another_process_and_without_torch(tmp_path: Path):
    asked = parse_asked({"lora.rank_pattern": {"b": 2, "a": 1}, "run.track": ["wandb"], "data.labels": ["é", "b"]})
    write_recipe(asked, tmp_path / "recipe.yaml")
    program = (
        "import sys; from lumora.training.recipe import read_recipe, recipe_hash;"
        f"print(recipe_hash(read_recipe({str(tmp_path / 'recipe.yaml')!r})), 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert printed == [recipe_hash(asked), "False"]


def test_text__has_no_line_for_what_is_open():
    assert recipe_text(Recipe()).splitlines() == recipe_text(Recipe()).splitlines()[:1]
