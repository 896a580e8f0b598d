import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from lumora.cli import app, main
from lumora.errors import LumoraError

HEAVY = ("torch", "torchvision", "transformers", "timm", "numpy", "rich", "huggingface_hub")


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["inspect", "--help"], ["doctor", "--help"], ["sample", "scenes", "--help"], ["--version"]),
        *(["train", "--help"], ["train", "--help-all"], ["resume", "--help"]),
    ],
)
def test_main__help_and_version_import_nothing_heavy(arguments):
    program = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr))\n"
        "from lumora.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")


def test_main__help_names_every_command(lumora):
    assert "inspect" in lumora("--help").out


def test_main__version(lumora):
    assert lumora("--version").out.strip() == f"lumora {version('lumora')}"


@pytest.mark.parametrize(
    "arguments",
    [["inspect"], ["inspec", "x"], ["inspect", "x", "--rank", "0"], ["inspect", "x", "--rank", "many"], ["--so"]],
)
def test_main__misuse_ends_with_2_and_says_how_to_use_it(lumora, arguments):
    ended = lumora(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Usage: " in ended.err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            LumoraError("The folder is empty; put pictures into it."),
            "error: The folder is empty; put pictures into it.",
        ),
        (KeyError("label"), "error: KeyError: 'label'. Add --debug for the traceback."),
    ],
)
def test_main__failure_ends_with_1_and_one_message(lumora, monkeypatch, error, expected):
    def fail():
        raise error

    monkeypatch.setattr(app, "app", fail)
    ended = lumora("inspect", "x")
    assert (ended.code, ended.out, ended.err.strip()) == (1, "", expected)
    monkeypatch.setattr(sys, "argv", ["lumora", "inspect", "x", "--debug"])
    with pytest.raises(type(error)):
        main()


def test_main__a_warning_of_ours_is_a_note():
    program = (
        "import warnings\n"
        "from lumora.cli import app, main\n"
        "from lumora.errors import LumoraWarning\n"
        "app.app = lambda: warnings.warn('The usual size is taken.', LumoraWarning)\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "note: The usual size is taken.\n")


def test_main__letters_that_the_output_cannot_hold_end_nothing():
    done = subprocess.run(
        [sys.executable, "-c", "from lumora.cli import main; main()", "inspect", "torchvision/squeezenet1_1"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert b"64 ? 3 ? 3 ? 3" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("merge", "bundle", "--out=~/mine"),
        ("merge", "bundle", "--out=~/mine", "--force"),
        ("soup", "one", "other", "--out=~/mine", "--force"),
        ("export", "bundle", "--onnx=~/mine/thesis.txt"),
        ("pull", "somebody/bundle", "--out=~/mine", "--force"),
        ("predict", "bundle", "a.png", "--out=~/mine"),
        ("evaluate", "bundle", "somebody/data", "--out=~/mine"),
        ("train", "pictures", "--out=~/mine"),
        ("doctor", "pictures", "--fix=~/mine"),
        ("demo", "--out=~/mine"),
        ("sample", "scenes", "~/mine"),
    ],
)
def test_main__what_lies_in_the_users_folder_is_seen_behind_a_tilde(lumora, tmp_path, monkeypatch, arguments):
    (tmp_path / "home/mine").mkdir(parents=True)
    (tmp_path / "home/mine/thesis.txt").write_text("mine")
    (tmp_path / "here/pictures").mkdir(parents=True)
    (tmp_path / "here/a.png").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    ended = lumora(*arguments)
    assert ended.code in (1, 2)
    assert str(tmp_path / "home/mine") in ended.told
    assert not (tmp_path / "here/~").exists()
    assert [path.name for path in (tmp_path / "home/mine").iterdir()] == ["thesis.txt"]


def test_main__what_begins_as_a_users_name_does_is_a_folder_here(lumora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lumora("sample", "scenes", "~nobody-is-called-so", "--count", "3", "--size", "32").code == 0
    assert (tmp_path / "~nobody-is-called-so").is_dir()
