"""Calls that fail in peft fail here with an exception that the same `except` catches."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.peft_interop.toolkit import LIBRARIES, adapted, mlp, module_of, quiet, tiny
from torch import nn

Call = Callable[[Any, Path], Any]


def config(library: Any, **options: Any) -> Any:
    return library.LoraConfig(**{"r": 2, "target_modules": ["0", "2"], **options})


def model_of(library: Any, **options: Any) -> Any:
    return adapted(library, mlp(), **{"r": 2, "target_modules": ["0", "2"], "init_lora_weights": False, **options})


def two(library: Any, **options: Any) -> Any:
    model = model_of(library)
    with quiet():
        model.add_adapter("second", config(library, **options))
    return model


def saved(library: Any, folder: Path, **options: Any) -> Path:
    with quiet():
        model_of(library, **options).save_pretrained(folder)
    return folder


def combine(library: Any, model: Any = None, **options: Any) -> Any:
    arguments = {"adapters": ["default", "second"], "weights": [1.0, 1.0], "adapter_name": "new", **options}
    return (model or two(library)).add_weighted_adapter(**arguments)


def changed_config(library: Any, folder: Path, **values: Any) -> Path:
    path = saved(library, folder) / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def grouped(library: Any, r: int) -> Any:
    return library.get_peft_model(
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), config(library, r=r, target_modules=["0"])
    )


def merged_grouped(library: Any) -> None:
    model = grouped(library, 2)
    model.merge_adapter()


CALLS: dict[str, Call] = {
    # the configuration
    "rank zero": lambda lib, _: lib.get_peft_model(mlp(), config(lib, r=0)),
    "unknown start": lambda lib, _: lib.get_peft_model(mlp(), config(lib, init_lora_weights="nonsense")),
    "unknown task": lambda lib, _: config(lib, task_type="nonsense"),
    "pattern without indices": lambda lib, _: config(lib, layers_pattern="layers"),
    "regex with indices": lambda lib, _: config(lib, target_modules="0", layers_to_transform=[0]),
    "regex with pattern": lambda lib, _: config(lib, target_modules="0", layers_pattern="layers"),
    "orthogonal with an odd rank": lambda lib, _: lib.get_peft_model(
        mlp(), config(lib, r=3, init_lora_weights="orthogonal")
    ),
    "no targets given": lambda lib, _: lib.get_peft_model(mlp(), lib.LoraConfig()),
    "dora with lora_bias": lambda lib, _: lib.get_peft_model(mlp(), config(lib, use_dora=True, lora_bias=True)),
    # targets
    "nothing matches a list": lambda lib, _: lib.get_peft_model(mlp(), config(lib, target_modules=["zzz"])),
    "nothing matches a regex": lambda lib, _: lib.get_peft_model(mlp(), config(lib, target_modules="zzz")),
    "everything excluded": lambda lib, _: lib.get_peft_model(mlp(), config(lib, exclude_modules=["0", "2"])),
    "no such block": lambda lib, _: lib.get_peft_model(
        nn.Sequential(mlp()), config(lib, target_modules=["2"], layers_to_transform=[9])
    ),
    "an activation as target": lambda lib, _: lib.get_peft_model(mlp(), config(lib, target_modules=["1"])),
    "a container as target": lambda lib, _: lib.get_peft_model(
        nn.Sequential(mlp(), nn.Linear(3, 3)), config(lib, target_modules=["0"])
    ),
    "rank that groups do not divide": lambda lib, _: grouped(lib, 3),
    # adapters by name
    "set an unknown adapter": lambda lib, _: model_of(lib).set_adapter("zzz"),
    "delete an unknown adapter": lambda lib, _: model_of(lib).delete_adapter("zzz"),
    "a second adapter that trains biases": lambda lib, _: two(lib, bias="all").add_adapter(
        "third", config(lib, bias="all")
    ),
    "a second adapter that matches nothing": lambda lib, _: two(lib, target_modules=["zzz"]),
    "rescale by a word": lambda lib, _: module_of(lib, "helpers").rescale_adapter_scale(model_of(lib), "a").__enter__(),
    "rescale without adapters": lambda lib, _: module_of(lib, "helpers").rescale_adapter_scale(mlp(), 2.0).__enter__(),
    "status without adapters": lambda lib, _: lib.get_layer_status(mlp()),
    "model status without adapters": lambda lib, _: lib.get_model_status(mlp()),
    # per sample
    "adapter_names in training": lambda lib, _: model_of(lib).train()(torch.randn(2, 6), adapter_names=["default"] * 2),
    "adapter_names of another length": lambda lib, _: model_of(lib)(torch.randn(2, 6), adapter_names=["default"]),
    "adapter_names unknown": lambda lib, _: model_of(lib)(torch.randn(2, 6), adapter_names=["default", "zzz"]),
    # combining
    "combine an unknown adapter": lambda lib, _: combine(lib, adapters=["default", "zzz"]),
    "combine nothing": lambda lib, _: combine(lib, adapters=[], weights=[]),
    "combine in an unknown way": lambda lib, _: combine(lib, combination_type="zzz"),
    "linear with unequal ranks": lambda lib, _: combine(lib, two(lib, r=3), combination_type="linear"),
    "two heads": lambda lib, _: combine(
        lib, lib_two_heads(lib), combination_type="linear"
    ),
    # files
    "an empty folder": lambda lib, folder: lib.PeftModel.from_pretrained(mlp(), str(folder)),
    "config of an empty folder": lambda lib, folder: lib.PeftConfig.from_pretrained(str(folder)),
    "another size of base": lambda lib, folder: lib.PeftModel.from_pretrained(
        nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 4)), saved(lib, folder)
    ),
    "another base": lambda lib, folder: lib.PeftModel.from_pretrained(tiny("Linear"), saved(lib, folder)),
    "saving to a file": lambda lib, folder: model_of(lib).save_pretrained(a_file(folder)),
    "saving an unknown adapter": lambda lib, folder: model_of(lib).save_pretrained(folder, selected_adapters=["zzz"]),
    "state dict of an unknown adapter": lambda lib, _: lib.get_peft_model_state_dict(model_of(lib), adapter_name="zzz"),
    "setting an unknown adapter": lambda lib, _: lib.set_peft_model_state_dict(model_of(lib), {}, adapter_name="zzz"),
    "setting another size": lambda lib, _: lib.set_peft_model_state_dict(
        model_of(lib), {"base_model.model.0.lora_A.weight": torch.zeros(3, 6)}
    ),
    "base state dict with a missing key": lambda lib, _: lib.set_base_model_state_dict(model_of(lib), {}),
    # merging and swapping
    "safe merge of infinities": lambda lib, _: infinite(lib).merge_and_unload(safe_merge=True),
    "merging groups": lambda lib, _: merged_grouped(lib),
    "swap in more layers": lambda lib, folder: module_of(lib, "utils.hotswap").hotswap_adapter(
        model_of(lib), str(saved(lib, folder, target_modules=["0", "2", "4"])), adapter_name="default"
    ),
    "swap in dora": lambda lib, folder: module_of(lib, "utils.hotswap").hotswap_adapter(
        model_of(lib), str(saved(lib, folder, use_dora=True)), adapter_name="default"
    ),
    "swap a merged adapter": lambda lib, folder: module_of(lib, "utils.hotswap").hotswap_adapter(
        merged(lib), str(saved(lib, folder)), adapter_name="default"
    ),
    "room for fewer ranks": lambda lib, _: module_of(lib, "utils.hotswap").prepare_model_for_compiled_hotswap(
        model_of(lib), target_rank=1
    ),
    "room without adapters": lambda lib, _: module_of(lib, "utils.hotswap").prepare_model_for_compiled_hotswap(
        mlp(), target_rank=4
    ),
    "room when compiled": lambda lib, _: module_of(lib, "utils.hotswap").prepare_model_for_compiled_hotswap(
        torch.compile(model_of(lib)), target_rank=4
    ),
    "eva without data": lambda lib, _: lib.initialize_lora_eva_weights(model_of(lib, init_lora_weights="eva")),
    "eva on another start": lambda lib, _: lib.initialize_lora_eva_weights(model_of(lib), [torch.randn(2, 6)]),
}  # fmt: skip


def lib_two_heads(library: Any) -> Any:
    model = adapted(library, mlp(), r=2, target_modules=["0"], modules_to_save=["4"])
    with quiet():
        model.add_adapter("second", config(library, target_modules=["0"], modules_to_save=["4"]))
    return model


def a_file(folder: Path) -> str:
    path = folder / "file"
    path.write_text("")
    return str(path)


def infinite(library: Any) -> Any:
    model = model_of(library)
    next(p for n, p in model.named_parameters() if "lora_A" in n).data.fill_(torch.inf)
    return model


def merged(library: Any) -> Any:
    model = model_of(library)
    model.merge_adapter()
    return model


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_failing_call__raises_what_peft_raises(call: Call, tmp_path: Path) -> None:
    raised: list[BaseException] = []
    for name, library in LIBRARIES.items():
        folder = tmp_path / name
        folder.mkdir()
        with quiet(), pytest.raises(Exception) as error:
            call(library, folder)
        raised.append(error.value)
    builtin = [kind for kind in type(raised[0]).__mro__ if kind.__module__ == "builtins"]
    assert isinstance(raised[1], builtin[0]), f"{raised[0]!r} in peft, here {raised[1]!r}"


@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_nothing_matches__is_both_kinds_of_error(library: Any) -> None:
    for kind in (library.NoMatchingPeftModuleError, library.PeftError, ValueError):
        with pytest.raises(kind):
            library.get_peft_model(mlp(), config(library, target_modules=["zzz"]))


WARNED: dict[str, Call] = {
    "merging twice": lambda lib, _: merged(lib).merge_adapter(),
    "unmerging what is not merged": lambda lib, _: model_of(lib).unmerge_adapter(),
    "setting while merged": lambda lib, _: merged_of_two(lib).set_adapter("second"),
    "adding while merged": lambda lib, _: merged(lib).add_adapter("new", config(lib)),
    "a second get_peft_model": lambda lib, _: lib.get_peft_model(model_of(lib).get_base_model(), config(lib)),
    "disabling with trained biases": lambda lib, _: model_of(lib, bias="all").base_model.disable_adapter_layers(),
    "a pattern that matches nothing": lambda lib, _: lib.get_peft_model(mlp(), config(lib, rank_pattern={"zzz": 3})),
}


def merged_of_two(library: Any) -> Any:
    model = two(library)
    model.merge_adapter()
    return model


@pytest.mark.parametrize("call", WARNED.values(), ids=WARNED)
@pytest.mark.parametrize("library", LIBRARIES.values(), ids=LIBRARIES)
def test_doubtful_call__warns(library: Any, call: Call, tmp_path: Path) -> None:
    with pytest.warns((UserWarning, RuntimeWarning)):
        call(library, tmp_path)
