"""Any recipe comes back from its file, and from the texts that somebody would type, as it was."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumora.training.recipe import asked_of, parse_asked, read_recipe, recipe_hash, recipe_text, write_recipe
from lumora.training.schema.yaml_files import parsed, written

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda text: text.strip() and text.strip().lower() != "auto"
)
SHARE = st.floats(0, 1, exclude_max=True)
RATE = st.floats(0, 1, exclude_min=True)
WORD = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
# Values that go together whatever else is drawn.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "data.path": TEXT,
    "data.labels": TEXT | st.lists(TEXT, min_size=1) | st.dictionaries(st.integers(), TEXT),
    "data.columns": st.dictionaries(st.sampled_from(["picture", "label", "mask", "split"]), TEXT),
    "data.subset": TEXT | st.none(),
    "data.ignore": st.lists(st.integers(), unique=True),
    "data.validation": SHARE,
    "data.skip_bad": st.booleans(),
    "base.name": TEXT,
    "base.drop_path": SHARE,
    "lora.r": st.integers(1, 100_000),
    "lora.alpha": st.floats(0, exclude_min=True, allow_infinity=False),
    "lora.targets": st.sampled_from(["all", "usual", r".*\.q"]) | st.lists(TEXT, min_size=1),
    "lora.start": st.booleans() | st.sampled_from(["gaussian", "eva", "pissa_niter_4"]),
    "lora.rank_pattern": st.dictionaries(WORD, st.integers(1, 100)),
    "train.epochs": st.integers(1, 1_000_000),
    "train.rate": RATE,
    "train.clip": RATE | st.none(),
    "train.ema": st.floats(0, 1, exclude_min=True, exclude_max=True) | st.none(),
    "train.max_time": st.floats(0, exclude_min=True, allow_infinity=False) | st.none(),
    "pictures.size": st.tuples(st.integers(8, 8192), st.integers(8, 8192)),
    "pictures.area": st.tuples(RATE, RATE).map(sorted),
    "loss.class_weights": st.sampled_from(["none", "balanced"]) | st.lists(RATE, min_size=1),
    "run.out": TEXT,
    "run.cache": st.integers(0, 10**14),
    "run.track": st.lists(st.sampled_from(["tensorboard", "wandb", "trackio", "mlflow"]), unique=True),
}
ASKED = st.fixed_dictionaries({}, optional=VALUES)


def sections_of(values):
    """`{"lora.r": 8}` as the file of a recipe has it."""
    nested: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    return nested


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ASKED)
def test_recipe__comes_back_from_its_file(tmp_path, values):
    (tmp_path / "given.yaml").write_text(yaml.safe_dump(sections_of(plain(values)), sort_keys=False), encoding="utf-8")
    # PyYAML writes 1e-05 as 1.0e-05, and text that looks like another value in quotes: both are read as meant.
    asked = read_recipe(tmp_path / "given.yaml")
    write_recipe(asked, tmp_path / "recipe.yaml")
    again = read_recipe(tmp_path / "recipe.yaml")
    assert asked_of(again) == asked_of(asked)
    assert again == asked
    assert recipe_text(again) == recipe_text(asked)
    assert recipe_hash(again) == recipe_hash(asked)
    assert set(asked_of(asked)) == set(values)


@settings(max_examples=100, deadline=None)
@given(ASKED)
def test_recipe__comes_back_from_what_somebody_would_type(values):
    typed = {name: value if isinstance(value, str) else written(plain(value)) for name, value in values.items()}
    asked = parse_asked(typed)
    for name, value in asked_of(asked).items():
        given_value = values[name]
        if name in ("lora.targets", "run.cache"):  # these have a form of their own
            continue
        if name == "data.labels" and isinstance(given_value, str):
            continue  # "a,b" is a list of labels
        assert plain(value) == plain(given_value), name


@settings(max_examples=500, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(st.integers() | ANY_TEXT, inner),
        max_leaves=8,
    )
)
def test_value__is_one_line_and_reads_as_it_was(value):
    line = written(value)
    assert len(line.splitlines()) == 1
    found = parsed(f"outer:\n  inner: {line}\n")["outer"]["inner"]
    assert found == value
    assert repr(found) == repr(value)


def plain(value):
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value
