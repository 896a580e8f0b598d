"""Saving and loading: what is written, what comes back, and what remains when saving is cut short."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import peft
import pytest
import safetensors.torch
import torch
from tests.lora.adapter_folders import (
    CONFIG,
    PICKLE,
    WEIGHTS,
    adapted,
    base,
    bytes_of,
    edit_config,
    fill,
    pixels,
    refused,
    same,
    tensors_of,
)
from tests.processes import in_a_process, reachable_folder
from torch import nn

from lumora import LoraConfig, LumoraError, PeftConfig, PeftModel
from lumora.errors import AdapterError, AdapterFileError, PeftWarning

CARD = "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved adapter."""
    adapted().save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


# --- what is written, and what comes back -----------------------------------------------------------------------------


def test_save_and_load__gives_every_bit_and_the_same_outputs(tmp_path: Path) -> None:
    model = adapted().eval()
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(), tmp_path).eval()
    assert same(tensors_of(loaded), tensors_of(model))
    assert torch.equal(loaded(pixels()), model(pixels()))
    assert not torch.equal(loaded(pixels()), base()(pixels()))


def test_save_and_load__keeps_two_adapters_apart(tmp_path: Path) -> None:
    model = adapted()
    model.add_adapter("second", LoraConfig(r=3, lora_alpha=7, use_rslora=True, target_modules=["body", "head"][:1]))
    model.set_adapter("second")
    fill(model, 5)
    model.save_pretrained(tmp_path)
    assert sorted(bytes_of(tmp_path)) == sorted(
        [CARD, CONFIG, WEIGHTS, f"second/{CARD}", f"second/{CONFIG}", f"second/{WEIGHTS}"]
    )
    loaded = PeftModel.from_pretrained(base(), tmp_path)
    loaded.load_adapter(tmp_path, "second", subfolder="second")
    for name in ("default", "second"):
        assert same(tensors_of(loaded, name), tensors_of(model, name))
        loaded.set_adapter(name)
        model.set_adapter(name)
        assert torch.equal(loaded(pixels()), model(pixels()))


def test_load__takes_another_name(folder: Path) -> None:
    loaded = PeftModel.from_pretrained(base(), folder, adapter_name="mine")
    assert list(loaded.peft_config) == ["mine"]
    assert torch.equal(loaded(pixels()), adapted()(pixels()))


def test_load__is_frozen_unless_asked_to_train(folder: Path) -> None:
    frozen = PeftModel.from_pretrained(base(), folder)
    assert not any(p.requires_grad for p in frozen.parameters())
    trained = PeftModel.from_pretrained(base(), folder, is_trainable=True)
    assert {n for n, p in trained.named_parameters() if p.requires_grad} == {
        n for n, p in adapted().named_parameters() if p.requires_grad
    }


def test_save__writes_only_selected_adapters(tmp_path: Path) -> None:
    model = adapted()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["body"]))
    model.save_pretrained(tmp_path, selected_adapters=["second"])
    assert {path.split("/")[0] for path in bytes_of(tmp_path)} == {"second"}
    with pytest.raises(LumoraError, match="third"):
        model.save_pretrained(tmp_path / "other", selected_adapters=["second", "third"])
    assert not (tmp_path / "other").exists()


def test_save__writes_nothing_in_other_processes(tmp_path: Path) -> None:
    adapted().save_pretrained(tmp_path / "adapter", is_main_process=False)
    assert not (tmp_path / "adapter").exists()


def test_save__never_writes_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="pickle"):
        adapted().save_pretrained(tmp_path / "adapter", safe_serialization=False)
    assert not (tmp_path / "adapter").exists()


def test_save__writes_files_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    adapted().save_pretrained(tmp_path / "adapter")
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "adapter").iterdir()} == {usual}


def test_save__over_the_files_that_were_loaded_from(folder: Path) -> None:
    model = PeftModel.from_pretrained(base(), folder, is_trainable=True)
    fill(model, 9)
    model.save_pretrained(folder)
    assert same(tensors_of(PeftModel.from_pretrained(base(), folder)), tensors_of(model))


def test_save__of_an_adapter_without_values_is_refused(tmp_path: Path) -> None:
    model = adapted()
    model.add_adapter("empty", LoraConfig(r=2, target_modules=["body"]), low_cpu_mem_usage=True)
    with pytest.raises(AdapterFileError, match="no values"):
        model.save_pretrained(tmp_path / "adapter", selected_adapters=["empty"])
    assert not (tmp_path / "adapter").exists()


def test_low_memory_load__gives_the_same_model(folder: Path) -> None:
    lean = PeftModel.from_pretrained(base(), folder, low_cpu_mem_usage=True)
    assert torch.equal(lean(pixels()), adapted()(pixels()))
    assert same(tensors_of(lean), tensors_of(adapted()))


def test_config__goes_through_a_file(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["b", "a"], rank_pattern={"a": 2}, layers_to_transform=None)
    config.save_pretrained(tmp_path)
    read = PeftConfig.from_pretrained(tmp_path)
    assert (read.r, read.target_modules, read.rank_pattern) == (4, {"a", "b"}, {"a": 2})
    assert json.loads((tmp_path / CONFIG).read_text())["target_modules"] == ["a", "b"]


# --- the card ---------------------------------------------------------------------------------------------------------


def test_card__says_what_the_adapter_is(folder: Path) -> None:
    text = (folder / CARD).read_text()
    front = text.split("---")[1]
    assert "library_name: peft" in front and "- lora" in front and "base_model" not in front
    assert "rank 2" in text and "`body`" in text and "`head`" in text


@pytest.mark.parametrize(("name", "shown"), [("user/base", True), ("/data/my base: 3", False), ("tests", False)])
def test_card__names_a_base_only_if_the_hub_may_know_it(tmp_path: Path, name: str, shown: bool) -> None:
    adapted(base_model_name_or_path=name).save_pretrained(tmp_path)
    assert (f"base_model: {name}" in (tmp_path / CARD).read_text()) == shown


def test_card__is_brought_up_to_date_while_it_is_ours(tmp_path: Path) -> None:
    adapted().save_pretrained(tmp_path)
    adapted(r=1).save_pretrained(tmp_path)
    assert "rank 1" in (tmp_path / CARD).read_text()


@pytest.mark.parametrize("content", [b"# Mine\n", b"\xff\xfe no UTF-8", b""])
def test_card__of_the_user_is_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD).write_bytes(content)
    model = adapted()
    model.save_pretrained(tmp_path)
    model.create_or_update_model_card(tmp_path)
    assert (tmp_path / CARD).read_bytes() == content


# --- reading into a model that has adapters ---------------------------------------------------------------------------


def test_load_adapter__reads_into_the_adapter_of_that_name(folder: Path) -> None:
    model = adapted()
    fill(model, 8)
    result = model.load_adapter(folder, "default", is_trainable=True)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert same(tensors_of(model), tensors_of(adapted()))
    assert any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "change",
    [{"lora_alpha": 5}, {"use_rslora": True}, {"alpha_pattern": {"body": 9}}, {"init_lora_weights": "pissa"}],
)
def test_load_adapter__refuses_a_file_of_other_arithmetic(folder: Path, change: dict[str, object]) -> None:
    edit_config(folder, **change)
    model = adapted()
    with refused(model, next(iter(change)), AdapterFileError):
        model.load_adapter(folder, "default")


def test_load_adapter__beside_one_that_took_part_of_the_base_says_so(folder: Path) -> None:
    took = PeftModel(base(), LoraConfig(r=2, target_modules=["body"], init_lora_weights="pissa"), "took")
    with pytest.warns(PeftWarning, match="'second' lies on layers of which 'took' took a part"):
        took.load_adapter(folder, "second")


def test_load_adapter__refuses_to_change_what_is_merged(folder: Path) -> None:
    model = adapted()
    model.merge_adapter()
    with refused(model, "merged", AdapterError):
        model.load_adapter(folder, "default")


# --- old pickles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new_format", [True, False])
def test_pickle__of_peft_loads_when_allowed(tmp_path: Path, new_format: bool) -> None:
    theirs = peft.get_peft_model(base(), peft.LoraConfig(r=2, target_modules=["body"], modules_to_save=["head"]))
    fill(theirs, 4)
    theirs.save_pretrained(tmp_path)
    tensors = safetensors.torch.load_file(tmp_path / WEIGHTS)
    torch.save(tensors, tmp_path / PICKLE, _use_new_zipfile_serialization=new_format)
    (tmp_path / WEIGHTS).unlink()
    model = base()
    with refused(model, "allow_pickle=True", AdapterFileError):
        PeftModel.from_pretrained(model, tmp_path)
    loaded = PeftModel.from_pretrained(model, tmp_path, allow_pickle=True)
    torch.testing.assert_close(loaded(pixels()), theirs(pixels()))


# --- saving that is cut short -----------------------------------------------------------------------------------------


class Pause:
    """Stands in for a function: says that it was reached for the nth time, and then waits to be killed."""

    def __init__(self, pipe: int, nth: int, real: Callable[..., object]) -> None:
        self.pipe, self.left, self.real = pipe, nth, real

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.left -= 1
        if self.left == 0:
            os.write(self.pipe, b"here")
            time.sleep(60)
        return self.real(*args, **kwargs)


@pytest.mark.parametrize(
    ("function", "nth"),
    [("fsync", 1), ("fsync", 2), ("fsync", 3), ("replace", 1)],
    ids=["weights written", "configuration written", "card written", "before the first is in place"],
)
def test_save__killed_in_the_middle_leaves_the_old_adapter_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str, nth: int
) -> None:
    before = bytes_of(folder)
    model = adapted(r=1, lora_alpha=50)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        pause = Pause(writing, nth, getattr(os, function))
        monkeypatch.setattr(os, function, pause)
        if function == "replace":
            monkeypatch.setattr(Path, "replace", lambda path, target: pause(path, target))
        model.save_pretrained(folder)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read(4) == b"here"
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    after = bytes_of(folder)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith(".") for name in after.keys() - before.keys())
    assert same(tensors_of(PeftModel.from_pretrained(base(), folder)), tensors_of(adapted()))
    model.save_pretrained(folder)
    assert same(tensors_of(PeftModel.from_pretrained(base(), folder)), tensors_of(model))


@pytest.mark.slow
def test_save__killed_at_any_moment_leaves_one_whole_adapter(tmp_path: Path) -> None:
    models = [adapted(), adapted()]
    fill(models[1], 77)
    models[0].save_pretrained(tmp_path)
    wanted = [tensors_of(model) for model in models]
    for turn in range(40):
        if (child := os.fork()) == 0:
            while True:
                for model in models:
                    model.save_pretrained(tmp_path)
        time.sleep(0.01 + 0.0037 * turn)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        read = tensors_of(PeftModel.from_pretrained(base(), tmp_path))
        assert any(same(read, one) for one in wanted)


@pytest.mark.parametrize("room", [200, 900], ids=["not for the weights", "not for the configuration"])
def test_save__to_a_full_disk_says_so_and_keeps_the_old_adapter(folder: Path, room: int) -> None:
    before = bytes_of(folder)
    model = adapted(modules_to_save=["head"])
    fill(model, 6)
    assert len(before[CONFIG]) > room

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))  # a write beyond this fails as on a full disk
        model.save_pretrained(folder)

    answer = in_a_process(work)
    assert answer.startswith("AdapterFileError") and str(folder) in answer and "unchanged" in answer
    assert bytes_of(folder) == before


@pytest.fixture
def public_folder() -> Iterator[Path]:
    with reachable_folder() as folder:
        yield folder


def test_save__to_a_read_only_folder_says_so_and_keeps_the_old_adapter(public_folder: Path) -> None:
    adapted().save_pretrained(public_folder)
    before = bytes_of(public_folder)
    public_folder.chmod(0o555)
    model = adapted(r=1)
    answer = in_a_process(lambda: model.save_pretrained(public_folder), without_rights=True)
    assert answer.startswith("AdapterFileError") and "Permission denied" in answer and str(public_folder) in answer
    assert bytes_of(public_folder) == before


def test_load__of_an_unreadable_file_says_so(public_folder: Path) -> None:
    adapted().save_pretrained(public_folder)
    for name in (CONFIG, WEIGHTS):
        (public_folder / name).chmod(0o000)
        answer = in_a_process(lambda: PeftModel.from_pretrained(base(), public_folder), without_rights=True)
        assert answer.startswith("AdapterFileError") and "Permission denied" in answer and name in answer
        (public_folder / name).chmod(0o644)


@pytest.mark.parametrize("name", ["default", "second"])
def test_save__to_the_path_of_a_file_is_refused(tmp_path: Path, name: str) -> None:
    model = adapted()
    model.add_adapter("second", LoraConfig(r=2, target_modules=["body"]))
    path = tmp_path if name == "second" else tmp_path / "taken"
    (path / "second" if name == "second" else path).write_text("a file")
    with pytest.raises(AdapterFileError, match=name if name == "second" else "taken"):
        model.save_pretrained(path, selected_adapters=[name])
    assert list(bytes_of(tmp_path).values()) == [b"a file"]


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_save__over_a_folder_of_that_name_changes_nothing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).mkdir()
    before = bytes_of(folder)
    with pytest.raises(AdapterFileError, match=name):
        adapted(r=1).save_pretrained(folder)
    assert bytes_of(folder) == before


def test_save__of_a_model_in_a_wrapper_of_torch_compile_is_the_same(tmp_path: Path) -> None:
    model = adapted()
    model.save_pretrained(tmp_path / "plain")
    wrapped: nn.Module = torch.compile(model)  # type: ignore[assignment]
    wrapped.save_pretrained(tmp_path / "compiled")  # type: ignore[operator]
    assert bytes_of(tmp_path / "plain") == bytes_of(tmp_path / "compiled")
