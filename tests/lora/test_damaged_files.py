"""Adapter folders that are damaged, or made to do harm: one clear error, and the model as it was."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.lora.adapter_folders import (
    CONFIG,
    PICKLE,
    WEIGHTS,
    adapted,
    appearance,
    base,
    bytes_of,
    edit_config,
    pixels,
    raw_safetensors,
    refused,
)
from torch import nn

from lumora import LoraConfig, LumoraError, PeftConfig, PeftModel, get_peft_model
from lumora.errors import AdapterFileError, AdapterShapeError, PeftWarning
from lumora.lora import get_peft_model_state_dict

BODY = "base_model.model.body.lora_A.weight"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder without a fault."""
    folder = tmp_path_factory.mktemp("sound") / "adapter"
    adapted().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "adapter"))


def load_fresh(model: nn.Module, folder: Path) -> PeftModel:
    return PeftModel.from_pretrained(model, folder)


def load_second(model: nn.Module, folder: Path) -> PeftModel:
    model.load_adapter(folder, "second")  # type: ignore[operator]
    return model  # type: ignore[return-value]


def load_over(model: nn.Module, folder: Path) -> PeftModel:
    model.load_adapter(folder, "default", is_trainable=True)  # type: ignore[operator]
    return model  # type: ignore[return-value]


def assert_holds(model: PeftModel, folder: Path, name: str = "default") -> None:
    """The adapter has the values that the file has."""
    expected = safetensors.torch.load_file(folder / WEIGHTS)
    found = get_peft_model_state_dict(model, adapter_name=name)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


WAYS = [(load_fresh, base), (load_second, adapted), (load_over, adapted)]
every_way = pytest.mark.parametrize(("load", "make"), WAYS, ids=["fresh", "second", "over"])
Load = Callable[[nn.Module, Path], PeftModel]
Make = Callable[[], nn.Module]


def test_sound_folder__loads_every_way(sound: Path) -> None:
    for load, make in WAYS:
        model = make()
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                nn.init.constant_(parameter, 7.0)
        assert_holds(load(model, sound), sound, "second" if load is load_second else "default")


# --- the tensors ------------------------------------------------------------------------------------------------------


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 6], "data_offsets": [0, 48]} | changes


WRONG_TENSORS: dict[str, bytes] = {
    "empty": b"",
    "shorter than its length": b"\x01\x02\x03",
    "no header": raw_safetensors(b""),
    "zeros": bytes(4096),
    "text": b"this is no safetensors file at all" * 10,
    "header of 2**62 bytes": raw_safetensors(b"{}", declared=2**62),
    "header of 2**64-1 bytes": raw_safetensors(b"{}", declared=2**64 - 1),
    "header of 99 MB": raw_safetensors(b"{}", declared=99_000_000),
    "header that is no JSON": raw_safetensors(b"{nonsense"),
    "header that is a list": raw_safetensors([1, 2]),
    "header that is a number": raw_safetensors(5),
    "deep header": raw_safetensors(b'{"a":' * 50_000),
    "no UTF-8": raw_safetensors(b'{"\xff\xfe": {}}'),
    "tensor of 2**60 bytes": raw_safetensors({BODY: entry(shape=[2**58], data_offsets=[0, 2**60])}),
    "tensor beyond the end": raw_safetensors({BODY: entry()}, bytes(20)),
    "offsets backwards": raw_safetensors({BODY: entry(data_offsets=[48, 0])}, bytes(48)),
    "negative offsets": raw_safetensors({BODY: entry(data_offsets=[-48, 0])}, bytes(48)),
    "overlapping": raw_safetensors({BODY: entry(), "b": entry(data_offsets=[24, 72])}, bytes(72)),
    "a gap": raw_safetensors({BODY: entry(), "b": entry(data_offsets=[56, 104])}, bytes(104)),
    "bytes after the end": raw_safetensors({BODY: entry()}, bytes(100)),
    "shape that is too small": raw_safetensors({BODY: entry(shape=[1, 6])}, bytes(48)),
    "negative shape": raw_safetensors({BODY: entry(shape=[-2, -6])}, bytes(48)),
    "shape whose size overflows": raw_safetensors({BODY: entry(shape=[2**33, 2**33, 12])}, bytes(48)),
    "unknown number format": raw_safetensors({BODY: entry(dtype="F99")}, bytes(48)),
    "no dtype": raw_safetensors({BODY: {"shape": [2, 6], "data_offsets": [0, 48]}}, bytes(48)),
    "a pickle": pickle.dumps({BODY: 1}),
}


@every_way
@pytest.mark.parametrize("content", WRONG_TENSORS.values(), ids=WRONG_TENSORS.keys())
def test_damaged_tensors__are_refused(folder: Path, load: Load, make: Make, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    with refused(model := make(), str(folder), AdapterFileError):
        load(model, folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.3, 0.5, 0.9, 0.99, 0.999])
def test_truncated_tensors__are_refused(folder: Path, share: float) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: min(int(len(whole) * share), len(whole) - 1)])
    with refused(model := base(), "damaged", AdapterFileError):
        load_fresh(model, folder)


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    change(tensors)
    safetensors.torch.save_file(tensors, folder / WEIGHTS)


@every_way
@pytest.mark.parametrize("key", [BODY, "base_model.model.head.bias"])
@pytest.mark.parametrize("shape", [(3, 6), (2, 7), (12,), (0,), (), (2, 6, 1)], ids=str)
def test_wrong_shapes__are_refused_with_both_named(
    folder: Path, load: Load, make: Make, key: str, shape: tuple[int, ...]
) -> None:
    change_tensors(folder, lambda tensors: tensors.update({key: torch.zeros(shape)}))
    with refused(model := make(), "instead of", AdapterShapeError):
        load(model, folder)


@every_way
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8, torch.complex64])
def test_numbers_of_another_kind__are_refused(folder: Path, load: Load, make: Make, dtype: torch.dtype) -> None:
    change_tensors(folder, lambda tensors: tensors.update({BODY: tensors[BODY].to(dtype)}))
    with refused(model := make(), "lora_A", AdapterFileError):
        load(model, folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions__are_converted(folder: Path, dtype: torch.dtype) -> None:
    change_tensors(folder, lambda tensors: tensors.update({k: v.to(dtype) for k, v in tensors.items()}))
    loaded = PeftModel.from_pretrained(base(), folder)
    stored = safetensors.torch.load_file(folder / WEIGHTS)[BODY]
    weight = loaded.get_parameter("base_model.model.body.lora_A.default.weight")
    assert weight.dtype == torch.float32 and torch.equal(weight, stored.float())


@every_way
@pytest.mark.parametrize("key", [BODY, "base_model.model.body.lora_B.weight", "base_model.model.head.bias"])
def test_missing_keys__are_refused_by_name(folder: Path, load: Load, make: Make, key: str) -> None:
    change_tensors(folder, lambda tensors: tensors.pop(key))
    with refused(model := make(), key, AdapterFileError):
        load(model, folder)


@every_way
@pytest.mark.parametrize("key", ["base_model.model.act.lora_A.weight", "stray", "base_model.model.head.extra"])
def test_extra_keys__are_refused_by_name(folder: Path, load: Load, make: Make, key: str) -> None:
    change_tensors(folder, lambda tensors: tensors.update({key: torch.zeros(2)}))
    with refused(model := make(), key, AdapterFileError):
        load(model, folder)


@every_way
def test_two_tensors_for_one_place__are_refused(folder: Path, load: Load, make: Make) -> None:
    change_tensors(folder, lambda tensors: tensors.update({"body.lora_A.weight": torch.zeros(2, 6)}))
    with refused(model := make(), "body.lora_A.weight", AdapterFileError):
        load(model, folder)


def test_not_strict__loads_what_fits_and_says_what_does_not(folder: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["base_model.model.head.bias"]
        tensors["stray"] = torch.zeros(2)

    change_tensors(folder, change)
    model = get_peft_model(base(), LoraConfig(r=1, target_modules=["body"]), adapter_name="first")
    with pytest.warns(PeftWarning, match=r"head\.bias"):
        result = model.load_adapter(folder, "second", strict=False)
    assert result.missing_keys == ["base_model.model.head.bias"]
    assert result.unexpected_keys == ["base_model.model.stray"]
    head = model.get_submodule("base_model.model.head")
    assert torch.equal(head.modules_to_save["second"].bias, base().head.bias)  # type: ignore[union-attr,index]
    wanted = safetensors.torch.load_file(folder / WEIGHTS)["base_model.model.head.weight"]
    assert torch.equal(head.modules_to_save["second"].weight, wanted)  # type: ignore[union-attr,index]


def test_mismatched_sizes__can_be_left_out(folder: Path) -> None:
    model = nn.Sequential()
    model.add_module("body", base().body)
    model.add_module("act", nn.ReLU())
    model.add_module("head", nn.Linear(5, 9))
    with refused(model, "head", AdapterShapeError):
        load_fresh(model, folder)
    before = model.head.weight.clone()
    with pytest.warns(PeftWarning, match="head"):
        loaded = PeftModel.from_pretrained(model, folder, ignore_mismatched_sizes=True, strict=False)
    assert torch.equal(loaded.get_parameter("base_model.model.head.modules_to_save.default.weight"), before)


@every_way
def test_another_model__is_refused(folder: Path, load: Load, make: Make, sound: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
    with refused(model, "unchanged|nothing was loaded"):
        PeftModel.from_pretrained(model, folder)


# --- the configuration ------------------------------------------------------------------------------------------------

WRONG_CONFIGS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"{nonsense",
    "cut off": b'{"peft_type": "LORA", "r": 2',
    "a list": b"[]",
    "a string": b'"LORA"',
    "null": b"null",
    "a number": b"5",
    "no kind": b"{}",
    "another kind": b'{"peft_type": "IA3"}',
    "a kind that is a list": b'{"peft_type": ["LORA"]}',
    "no UTF-8": b'{"peft_type": "\xff\xfe"}',
    "UTF-16": '{"peft_type": "LORA"}'.encode("utf-16"),
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep inside a field": b'{"peft_type": "LORA", "rank_pattern": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "a number of 9999 digits": b'{"peft_type": "LORA", "r": ' + b"9" * 9999 + b"}",
    "binary": bytes(range(256)),
    "17 MB": b" " * (17 * 2**20) + b'{"peft_type": "LORA"}',
}


@pytest.mark.parametrize("content", WRONG_CONFIGS.values(), ids=WRONG_CONFIGS.keys())
def test_damaged_configuration__is_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    for load, make in WAYS:
        with refused(model := make(), CONFIG, AdapterFileError):
            load(model, folder)
    with pytest.raises(AdapterFileError, match=CONFIG):
        PeftConfig.from_pretrained(str(folder))


WRONG_FIELDS: list[tuple[str, list[Any]]] = [
    ("r", ["8", None, 0, -1, 1.5, True, [8], {}, 10**12, 1e400]),
    ("lora_alpha", ["8", None, [8], {}, True, float("nan"), float("inf"), 10**400]),
    ("lora_dropout", ["0", None, -0.1, 1, 1.5, True, float("nan"), []]),
    ("target_modules", [5, True, {"body": 1}, [5], [["body"]], [None], "(", "*", "[", "(?P<a>x)(?P<a>y)", [], ""]),
    ("exclude_modules", [5, {"body": 1}, [5], [["body"]], "(", "body", ["body"]]),
    ("modules_to_save", [5, True, {"head": 1}, [5], [["head"]], [None]]),
    ("bias", ["some", None, 5, True, [], {}]),
    ("fan_in_fan_out", ["no", None, 1, []]),
    ("use_rslora", ["no", None, 1, []]),
    ("use_dora", ["no", None, 1, [], True]),
    ("lora_bias", ["no", None, 1, [], True]),
    ("init_lora_weights", ["other", None, 5, [], {}, "pissa_niter_", "pissa_niter_x", "pissa_niter_²", "loftq"]),
    ("layers_to_transform", ["1", True, [1.5], ["1"], {}, [[1]]]),
    ("layers_pattern", [5, [5], {}, "layers", "(", ["("]]),
    ("rank_pattern", [5, [], "body", {"body": "8"}, {"body": 0}, {"body": None}, {"(": 4}, None, {"body": 10**12}]),
    ("alpha_pattern", [5, [], "body", {"body": "8"}, {"body": None}, {"(": 4}, None, {"body": float("nan")}]),
    ("eva_config", [5, "x", [], {"rho": "x"}, {"unknown": 1}, {"rho": 0.5}, {"tau": 7}]),
    ("auto_mapping", [5, "x", []]),
    ("base_model_name_or_path", [5, [], {}, True]),
    ("revision", [5, [], {}, True]),
    ("task_type", [5, [], {}]),
    ("inference_mode", ["x", 5, None, []]),
    ("peft_version", [5, [], {}]),
    ("megatron_config", [{"a": 1}, "x", 5]),
    ("target_parameters", [["body.weight"], "x", 5]),
    ("use_qalora", [True, "x", 5]),
    ("layer_replication", [[[0, 4]], 5]),
    ("something_of_the_future", [True, "x", 5, [1], {"a": 1}]),
    ("lumora", [{"batch_norm": 5}, {"batch_norm": "x"}, {"batch_norm": ["saved"]}]),
]


@pytest.mark.parametrize(
    ("field", "value"), [(f, v) for f, values in WRONG_FIELDS for v in values], ids=lambda v: repr(v)[:30]
)
def test_wrong_field__is_refused(folder: Path, field: str, value: Any) -> None:
    edit_config(folder, **{field: value})
    with refused(model := base()):
        load_fresh(model, folder)


@pytest.mark.parametrize(
    "field",
    [f for f, _ in WRONG_FIELDS if f not in ("lumora", "auto_mapping")],
)
def test_wrong_field__is_named(folder: Path, field: str) -> None:
    edit_config(folder, **{field: {"odd": ["value"]}})
    with pytest.raises(LumoraError, match=field):
        load_fresh(base(), folder)


@pytest.mark.parametrize("field", ["megatron_config", "use_qalora", "target_parameters", "something_of_the_future"])
def test_unknown_field__at_its_default_is_no_hindrance(folder: Path, field: str) -> None:
    edit_config(folder, **{field: None if field != "use_qalora" else False})
    assert_holds(load_fresh(base(), folder), folder)


def test_every_field__with_every_value_loads_or_is_refused(folder: Path) -> None:
    text = (folder / CONFIG).read_text()
    values = [None, True, False, 0, 1, 2, -3, 2.5, "", "body", "default", [], ["body"], [0], [[1]], {}, {"body": 2}]
    for field in json.loads(text):
        for value in values:
            edit_config(folder, **{field: value})
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loads_or_is_refused(folder)
            (folder / CONFIG).write_text(text)


def loads_or_is_refused(folder: Path) -> None:
    """Either the adapter loads and the model runs, or one error of ours leaves the model alone."""
    model = base()
    before = appearance(model)
    try:
        loaded = PeftModel.from_pretrained(model, folder)
    except LumoraError:
        assert appearance(model) == before
    else:
        loaded(pixels())


def test_explicit_configuration__stands_in_for_the_file(folder: Path) -> None:
    config = PeftConfig.from_pretrained(str(folder))
    (folder / CONFIG).write_text("{nonsense")
    assert_holds(PeftModel.from_pretrained(base(), folder, config=config), folder)
    (folder / CONFIG).unlink()
    assert_holds(PeftModel.from_pretrained(base(), folder, config=config), folder)


# --- folders and paths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_missing_file__is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    for load, make in WAYS:
        with refused(model := make(), missing, AdapterFileError):
            load(model, folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_folder_in_place_of_a_file__is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    with refused(model := base(), name, AdapterFileError):
        load_fresh(model, folder)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("kind", ["loop", "dangling", "endless", "pipe"])
def test_strange_file__is_refused_without_being_read(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink()
    if kind == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to({"loop": name, "dangling": "nowhere", "endless": "/dev/zero"}[kind])
    with refused(model := base(), name, AdapterFileError):
        load_fresh(model, folder)


def test_links_to_sound_files__are_followed_as_in_the_cache_of_the_hub(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in (CONFIG, WEIGHTS):
        (linked / name).symlink_to(folder / name)
    assert_holds(load_fresh(base(), linked), folder)


def test_file_in_place_of_the_folder__is_refused(folder: Path) -> None:
    with refused(model := base(), "folder", AdapterFileError):
        load_fresh(model, folder / WEIGHTS)


@pytest.mark.parametrize("target", ["itself", "nowhere"])
def test_link_that_leads_nowhere__is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "itself").symlink_to(target)
    with refused(model := base(), "folder", AdapterFileError):
        load_fresh(model, tmp_path / "itself")


@pytest.mark.parametrize("path", ["missing", "./a/b/c", "", "~/x", "nul\0byte", "a" * 5000, "/"])
def test_path_that_is_nothing__is_refused(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(model := base()):
        PeftModel.from_pretrained(model, path, local_files_only=True)


@pytest.mark.parametrize("way_out", ["..", "../adapter", "second/../../adapter", "/", "second/..//.."])
def test_subfolder__cannot_leave_the_folder(folder: Path, way_out: str) -> None:
    shutil.copytree(folder, folder / "second")
    for where in (folder, "user/repository"):
        with refused(model := base(), "subfolder", AdapterFileError):
            PeftModel.from_pretrained(model, where, subfolder=way_out)
    absolute = str(folder)
    with refused(model := base(), "subfolder", AdapterFileError):
        PeftModel.from_pretrained(model, folder / "second", subfolder=absolute)


@pytest.mark.parametrize("inside", ["missing", "nul\0byte", CONFIG, "a" * 5000])
def test_subfolder__that_is_not_there_is_refused(folder: Path, inside: str) -> None:
    with refused(model := base(), CONFIG, AdapterFileError):
        PeftModel.from_pretrained(model, folder, subfolder=inside)


def test_folder_of_folders__says_which_subfolder_to_give(folder: Path) -> None:
    with refused(model := base(), "subfolder='adapter'", AdapterFileError):
        load_fresh(model, folder.parent)


BAD_NAMES = [
    "../evil",
    "a/b",
    "..",
    ".",
    "",
    "/tmp/x",
    "a\\b",
    "C:x",
    "nul\0byte",
    "new\nline",
    "a.b",
    "__base__",
    "keys",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_name_of_an_adapter__cannot_be_a_path(folder: Path, tmp_path: Path, name: str) -> None:
    before = bytes_of(tmp_path)
    with refused(model := base()):
        PeftModel.from_pretrained(model, folder, adapter_name=name)
    with refused(model := base()):
        get_peft_model(model, LoraConfig(r=2, target_modules=["body"]), adapter_name=name)
    model = adapted()
    for attempt in (
        lambda: model.add_adapter(name, LoraConfig(r=2, target_modules=["body"])),
        lambda: model.load_adapter(folder, name),
        lambda: model.rename_adapter("default", name),
        lambda: model.add_weighted_adapter(["default"], [1.0], name),
    ):
        with refused(model):
            attempt()
    assert bytes_of(tmp_path) == before


# --- pickles ----------------------------------------------------------------------------------------------------------


class Evil:
    """An object whose unpickling leaves a mark."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def evil_pickles(marker: Path) -> dict[str, bytes]:
    new, old = io.BytesIO(), io.BytesIO()
    torch.save({BODY: Evil(marker)}, new)
    torch.save({BODY: Evil(marker)}, old, _use_new_zipfile_serialization=False)
    return {"new": new.getvalue(), "old": old.getvalue(), "plain": pickle.dumps(Evil(marker))}


@pytest.mark.parametrize("kind", ["new", "old", "plain"])
def test_pickle__is_never_opened_unless_allowed_and_never_runs_code(folder: Path, tmp_path: Path, kind: str) -> None:
    marker = tmp_path / "marker"
    content = evil_pickles(marker)[kind]
    (folder / WEIGHTS).unlink()
    (folder / PICKLE).write_bytes(content)
    for load, make in WAYS:
        with refused(model := make(), "allow_pickle=True", AdapterFileError):
            load(model, folder)
    with refused(model := base(), "not loaded", AdapterFileError):
        PeftModel.from_pretrained(model, folder, allow_pickle=True)
    assert not marker.exists()
    pickle.loads(evil_pickles(marker)["plain"])  # the trap works
    assert marker.exists()


def test_pickle__beside_safetensors_is_ignored(folder: Path, tmp_path: Path) -> None:
    (folder / PICKLE).write_bytes(evil_pickles(tmp_path / "marker")["plain"])
    PeftModel.from_pretrained(base(), folder, allow_pickle=True)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("content", [5, [1], {"a": 1}, {1: torch.zeros(2)}, torch.zeros(2)], ids=str)
def test_pickle__of_anything_but_tensors_is_refused(folder: Path, content: Any) -> None:
    (folder / WEIGHTS).unlink()
    torch.save(content, folder / PICKLE)
    with refused(model := base(), PICKLE, AdapterFileError):
        PeftModel.from_pretrained(model, folder, allow_pickle=True)


def test_pickle__that_does_not_fit_is_refused_whole(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(dict(list(tensors.items())[:-1]), folder / PICKLE)
    with refused(model := base(), "missing", AdapterFileError):
        PeftModel.from_pretrained(model, folder, allow_pickle=True)


# --- fuzzing ----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["body", "head", "all-linear", ".*", "LORA", "saved", "lora_only", "all", "pissa", "eva"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.just("body"), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [f for f, _ in WRONG_FIELDS] + ["peft_type", "runtime_config"]


@st.composite
def bent(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with a few of them changed, cut out, put in, or the end cut off."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        what = draw(st.sampled_from(["change", "cut", "insert", "end", "bit"]))
        if what == "change":
            content[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif what == "bit" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del content[at : at + draw(st.integers(1, 30))]
        elif what == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        else:
            del content[at:]
    return bytes(content)


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """The same examples in every run, so that a failure is never a matter of luck."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def try_folder(folder: Path, **content: bytes) -> None:
    kept = {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    try:
        for name, value in content.items():
            (folder / {"config": CONFIG, "weights": WEIGHTS}[name]).write_bytes(value)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loads_or_is_refused(folder)
    finally:
        for name, value in kept.items():
            (folder / name).write_bytes(value)


@fuzzed(60)
@given(content=st.binary(max_size=200))
def test_fuzz__random_bytes_load_or_are_refused(folder: Path, content: bytes) -> None:
    try_folder(folder, config=content)
    try_folder(folder, weights=content)


@fuzzed(200)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=4), data=st.data())
def test_fuzz__configurations_load_or_are_refused(folder: Path, changes: dict[str, Any], data: st.DataObject) -> None:
    values = json.loads((folder / CONFIG).read_text()) | changes
    for field in data.draw(st.lists(st.sampled_from(sorted(values)), max_size=2)):
        values.pop(field, None)
    try_folder(folder, config=json.dumps(values).encode())


@fuzzed(150)
@given(data=st.data())
def test_fuzz__bent_files_load_or_are_refused(folder: Path, data: st.DataObject) -> None:
    which = data.draw(st.sampled_from(["config", "weights"]))
    whole = (folder / {"config": CONFIG, "weights": WEIGHTS}[which]).read_bytes()
    try_folder(folder, **{which: data.draw(bent(whole))})


@fuzzed(150)
@given(data=st.data())
def test_fuzz__headers_of_tensors_load_or_are_refused(folder: Path, data: st.DataObject) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header, body = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(header)))
        field = data.draw(st.sampled_from(["dtype", "shape", "data_offsets", "name", "gone", "anything"]))
        value = header[key] if isinstance(header[key], dict) else {}
        if field == "dtype":
            value["dtype"] = data.draw(
                st.sampled_from("F64 F32 F16 BF16 F8_E4M3 F8_E5M2 I64 I32 U16 U8 BOOL C64 F4 X".split())
            )
        elif field in ("shape", "data_offsets"):
            value[field] = data.draw(st.lists(st.integers(-1, 70) | st.integers(), max_size=3))
        elif field == "name":
            header[data.draw(st.text(max_size=20))] = header.pop(key)
        elif field == "gone" and len(header) > 1:
            del header[key]
        else:
            header[key] = data.draw(JSON)
    try_folder(folder, weights=raw_safetensors(header, body))


@pytest.mark.slow
@settings(
    max_examples=3000,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=4), data=st.data())
def test_fuzz__many_more_load_or_are_refused(folder: Path, changes: dict[str, Any], data: st.DataObject) -> None:
    values = json.loads((folder / CONFIG).read_text()) | changes
    weights = (folder / WEIGHTS).read_bytes()
    bend = data.draw(st.booleans())
    try_folder(
        folder,
        config=json.dumps(values).encode() if not bend else data.draw(bent(json.dumps(values).encode())),
        weights=data.draw(bent(weights)) if bend else weights,
    )
