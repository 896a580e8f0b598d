"""A bundle that cannot be trusted is refused by every command, with the reason, and no pickle is opened."""

import re

import pytest
from tests.cli.bundles import REFUSED, a_pickle, damaged_file, missing_file, newer_format, only_a_pickle, run
from tests.data.making import put
from tests.predict.making import bundle_of
from tests.predict.test_evaluating import class_folders


def arguments_of(command, folder):
    more = {
        "predict": [folder / "pictures", "--out", folder / "out"],
        "evaluate": [folder / "data", "--out", folder / "out"],
        "merge": ["--out", folder / "out"],
        "push": ["user/foxes"],
        "inspect": [],
    }
    return [command, folder / "bundle", *more[command]]


def check(lumora, command, damage, tmp_path):
    bundle_of("vit", tmp_path)
    put(tmp_path / "pictures/a.png")
    class_folders(tmp_path / "data", splits=("test",))
    damage(tmp_path)
    ended = lumora(*arguments_of(command, tmp_path))
    assert ended.code == 1
    assert ended.err.count("error: ") == 1
    assert re.search(REFUSED[damage], ended.err), ended.err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "opened").exists()
    return ended


@pytest.mark.parametrize("damage", REFUSED)
@pytest.mark.parametrize("command", ["predict", "evaluate", "merge", pytest.param("push", marks=pytest.mark.slow)])
def test_bundle__is_refused_with_the_reason(lumora, command, damage, tmp_path):
    assert check(lumora, command, damage, tmp_path).out == ""


@pytest.mark.parametrize("damage", [newer_format, damaged_file, missing_file, a_pickle, only_a_pickle])
def test_inspect__says_what_is_wrong(lumora, damage, tmp_path):
    ended = check(lumora, "inspect", damage, tmp_path)
    assert ("integrity:         damaged" in ended.out) == (damage in (damaged_file, missing_file, only_a_pickle))


def test_task__of_other_data_is_refused(lumora, tmp_path):
    bundle_of("segformer", tmp_path)
    data = class_folders(tmp_path / "data", splits=("test",))
    ended = lumora("evaluate", tmp_path / "bundle", data)
    assert (ended.code, ended.out) == (1, "")
    assert "which gives classification and not segmentation" in ended.err


@pytest.mark.slow
def test_bundle__as_a_program_ends_with_1_and_no_traceback(tmp_path):
    bundle_of("vit", tmp_path)
    damaged_file(tmp_path)
    done = run("merge", tmp_path / "bundle", "--out", tmp_path / "out", code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("error: The bundle ")
    assert "Traceback" not in done.stderr
    assert "Traceback" in run("merge", tmp_path / "bundle", "--out", tmp_path / "out", "--debug", code=1).stderr


@pytest.mark.parametrize("command", ["predict", "evaluate", "merge", "push", "inspect"])
def test_bundle__of_somebody_unknown_is_not_there(lumora, command, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    put(tmp_path / "pictures/a.png")
    class_folders(tmp_path / "data", splits=("test",))
    typed, *others = arguments_of(command, tmp_path)
    ended = lumora(typed, "~nobody-is-called-so/bundle", *others[1:])
    assert ended.code in (1, 2)
    assert re.search(r"~nobody-is-called-so/bundle'? is n|no folder \S*~nobody-is-called-so/bundle", ended.told)
