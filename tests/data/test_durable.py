"""Folders that are whole or not there. Kills are real ones, at every step and at any moment; so are full disks."""

import errno
import hashlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.processes import in_a_process, reachable_folder

from lumora.data import durable
from lumora.data.durable import check_folder, clear_leftovers, remove_folder, write_file, write_folder
from lumora.errors import HubError, OutputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and kill")


def writer(number, size=3000):
    """Fill a folder with files that all show the same number."""

    def write(folder):
        (folder / "inside").mkdir()
        for name in ("first", "second", "inside/third"):
            (folder / name).write_bytes(bytes([number]) * size)

    return write


def number_of(folder):
    """The number that all files of a folder show, which must be whole."""
    assert check_folder(folder) == []
    contents = {(folder / name).read_bytes() for name in ("first", "second", "inside/third")}
    assert len(contents) == 1
    return contents.pop()[0]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def killed_at(step, work):
    """Run this in a process that is killed at its `step`-th doing with files; whether it was killed."""
    if (child := os.fork()) == 0:
        left = step or 10**9

        def count(event, _arguments):
            nonlocal left
            if event == "open" or event.startswith(("os.", "shutil.")):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchanges(request, monkeypatch):
    if not request.param:  # a system that cannot
        monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    return request.param


def test_write_folder__makes_what_was_written_and_a_manifest_that_says_so(tmp_path):
    write_folder(tmp_path / "a/b/made", writer(1))
    folder = tmp_path / "a/b/made"
    assert names(folder) == ["first", "inside", "manifest.json", "second"]
    digest = hashlib.sha256(bytes([1]) * 3000).hexdigest()
    assert (folder / "manifest.json").read_text().count(digest) == 3
    assert number_of(folder) == 1
    assert names(folder.parent) == ["made"]


def test_write_folder__replaces_what_it_made_before(tmp_path, exchanges):
    for number in (1, 2, 3):
        write_folder(tmp_path / "made", writer(number))
        assert number_of(tmp_path / "made") == number
        assert names(tmp_path) == ["made"]


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_write_folder__leaves_no_moment_without_a_folder(tmp_path):
    target = tmp_path / "made"
    write_folder(target, writer(1))
    pause, moments = 0.3, 0
    if (child := os.fork()) == 0:
        end = time.time() + pause
        while time.time() < end:
            write_folder(target, writer(1, size=10))
        os._exit(0)
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        assert (target / "first").exists()
        moments += 1
    assert moments


def test_write_folder__fills_an_empty_folder_and_the_one_that_a_link_leads_to(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    write_folder(tmp_path / "link", writer(1))
    assert (tmp_path / "link").is_symlink()
    assert number_of(tmp_path / "empty") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_write_folder__brings_everything_to_the_disk_before_the_new_name_and_that_after(tmp_path, monkeypatch):
    happened, fsync, swap = [], os.fsync, durable.exchange

    def noted_sync(file):
        happened.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        fsync(file)

    def noted_exchange(one, other):
        happened.append("exchange")
        return swap(one, other)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(durable, "exchange", noted_exchange)
    write_folder(tmp_path / "in/made", writer(1))
    assert str(tmp_path) in happened  # where the folder "in" was made
    happened.clear()
    write_folder(tmp_path / "in/made", writer(2))
    synced = [re.sub(r".*/new", "new", path) for path in happened]
    before, after = synced[: synced.index("exchange")], synced[synced.index("exchange") + 1 :]
    files = {"new/first", "new/second", "new/inside/third", "new/manifest.json"}
    assert set(before) == {*files, "new/inside", "new"}
    assert before[-1] == "new"
    assert after == [str(tmp_path / "in")]


def test_write_folder__lets_those_read_who_may_read_new_files(tmp_path):
    write_folder(tmp_path / "made", lambda folder: safetensors.torch.save_file({"a": torch.ones(1)}, folder / "one"))
    (tmp_path / "usual").touch()
    assert (tmp_path / "made/one").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_write_folder__replaces_nothing_that_others_wrote(tmp_path):
    (tmp_path / "mine").mkdir()
    for name in ("thesis.tex", "manifest.json"):
        (tmp_path / "mine" / name).write_text("{}")
        with pytest.raises(
            OutputError, match=rf"mine holds other things \(.*{name}.*would be lost; name a folder that"
        ):
            write_folder(tmp_path / "mine", writer(1))
    with pytest.raises(OutputError, match=r"thesis\.tex is a file; name a folder"):
        write_folder(tmp_path / "mine/thesis.tex", writer(1))
    with pytest.raises(
        OutputError, match=r"thesis.tex/made could not be written: (File exists|Not a directory)\. Choo"
    ):
        write_folder(tmp_path / "mine/thesis.tex/made", writer(1))
    assert names(tmp_path / "mine") == ["manifest.json", "thesis.tex"]
    assert names(tmp_path) == ["mine"]


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (ValueError("wrong"), ValueError, "^wrong$"),
        (HubError("no network"), HubError, "^no network$"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (
            OSError(errno.EIO, "I/O"),
            OutputError,
            r"made could not be written: Input/output error\. Choose another plac",
        ),
        (FileNotFoundError(2, "?", "/x.jpg"), OutputError, r"No such file or directory: /x\.jpg\. Mend this"),
        (OSError("encoder error -2"), OutputError, r"could not be written: encoder error -2\. .* unchanged\.$"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_write_folder__that_fails_leaves_everything_as_it_was(tmp_path, error, raised, said, there):
    if there:
        write_folder(tmp_path / "made", writer(1))

    def write(folder):
        writer(2)(folder)
        raise error

    with pytest.raises(raised, match=said):
        write_folder(tmp_path / "made", write)
    assert names(tmp_path) == ["made"] * there
    assert not there or number_of(tmp_path / "made") == 1


def test_write_folder__puts_the_old_one_back_when_the_new_one_cannot_take_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    write_folder(tmp_path / "made", writer(1))

    class Stubborn(type(tmp_path)):
        def rename(self, target):
            if self.name == "new" and target.name == "made":
                raise OSError(errno.EIO, "I/O")
            return super().rename(target)

    monkeypatch.setattr(durable, "Path", Stubborn)
    with pytest.raises(OutputError, match="Input/output error"):
        write_folder(tmp_path / "made", writer(2))
    assert number_of(tmp_path / "made") == 1
    assert names(tmp_path) == ["made"]


@pytest.mark.slow
@pytest.mark.parametrize("there", [False, True])
def test_write_folder__killed_at_every_step_leaves_the_old_or_the_new(tmp_path, there, exchanges):
    target, step, seen = tmp_path / "made", 0, set()
    while True:
        step += 1
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        if there:
            write_folder(target, writer(1, 10))
        was_killed = killed_at(step, lambda: write_folder(target, writer(2, 10)))
        if there and not target.exists():
            assert not exchanges  # the moment between the two renames, which can be told
            (problem,) = check_folder(target)
            old = problem.rpartition(" in ")[2]
            assert "killed while replacing it; what was there is whole in" in problem
            assert number_of(type(target)(old)) == 1
        clear_leftovers(tmp_path)
        assert names(tmp_path) == (["made"] if target.exists() else [])
        seen.add(number_of(target) if target.exists() else None)
        assert not there or target.exists()
        write_folder(target, writer(3, 10))
        assert number_of(target) == 3
        assert names(tmp_path) == ["made"]
        if not was_killed:
            break
    assert step > 20
    assert seen == {1 if there else None, 2}


@pytest.mark.slow
def test_clear_leftovers__never_puts_a_part_of_a_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "exchange", lambda one, other: False)
    step, was_killed, seen = 0, True, set()
    while was_killed:
        step += 1
        write_folder(tmp_path / "made", writer(1, 10))
        was_killed = killed_at(step, lambda: write_folder(tmp_path / "made", writer(2, 10)))
        if (tmp_path / "made").exists():
            shutil.rmtree(tmp_path / "made")  # by the user
        clear_leftovers(tmp_path)
        seen.add((tmp_path / "made").exists() and number_of(tmp_path / "made"))
    assert seen == {False, 1}


@pytest.mark.slow
def test_write_folder__killed_at_any_moment_leaves_one_whole(tmp_path):
    target, moments = tmp_path / "made", random.Random(0)
    write_folder(target, writer(0))
    seen = set()
    for _ in range(60):
        if (child := os.fork()) == 0:
            for number in range(256):
                write_folder(target, writer(number, 200_000))
            os._exit(1)
        time.sleep(moments.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen.add(number_of(target))
        assert len(names(tmp_path)) <= 2  # each writer clears away what the one before it left
    assert len(seen) > 1
    write_folder(target, writer(7))
    assert names(tmp_path) == ["made"]


def test_write_folder__leaves_living_writers_alone(tmp_path, exchanges):
    reading, writing = os.pipe()
    ready, told = os.pipe()
    if (child := os.fork()) == 0:

        def write(folder):
            os.write(told, b"1")
            os.read(reading, 1)
            writer(2)(folder)

        write_folder(tmp_path / "made", write)
        os._exit(0)
    os.read(ready, 1)
    try:
        for number in (1, 3):
            write_folder(tmp_path / "made", writer(number))
            write_folder(tmp_path / "other", writer(number))
        assert len(names(tmp_path)) == 3
    finally:
        os.write(writing, b"1")
        ended = os.waitpid(child, 0)[1]
    assert ended == 0
    assert number_of(tmp_path / "made") == 2
    assert names(tmp_path) == ["made", "other"]


def test_write_folder__by_many_at_once_leaves_one_of_theirs(tmp_path, exchanges):
    children = []
    for number in range(4):
        if (child := os.fork()) == 0:
            try:
                for _ in range(25):
                    write_folder(tmp_path / f"made-{number % 2}", writer(number, 10))
                os._exit(0)
            except OutputError:
                os._exit(2)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not exchanges or codes == [0, 0, 0, 0]
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["made-0", "made-1"]
    assert [number_of(tmp_path / f"made-{i}") % 2 for i in (0, 1)] == [0, 1]


def test_write_folder__works_where_files_cannot_be_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "hold", lambda path: path.touch())
    assert killed_at(0, lambda: write_folder(tmp_path / "made", lambda folder: os.kill(os.getpid(), signal.SIGKILL)))
    left = names(tmp_path)
    for number in (1, 2):
        write_folder(tmp_path / "made", writer(number))
        assert number_of(tmp_path / "made") == number
    assert left
    assert names(tmp_path) == [*left, "made"]  # perhaps of a living one


def test_clear_leftovers__leaves_what_is_not_its_own(tmp_path):
    for name in (".git", ".made.12345678", ".made.12345678/lumora.lock.d", ".other.1234567"):
        (tmp_path / name).mkdir()
    (tmp_path / ".made.12345678/mine").write_text("mine")
    (tmp_path / ".made.abcdef01").write_text("a file")
    before = names(tmp_path)
    clear_leftovers(tmp_path)
    assert names(tmp_path) == before
    clear_leftovers(tmp_path / "nowhere")


def on_a_small_disk(folder, megabytes):
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder]).returncode:
        pytest.skip("may not mount a disk")


@pytest.mark.parametrize("how", ["bytes", "safetensors"])
def test_write_folder__on_a_full_disk_says_what_is_free_and_keeps_the_old(tmp_path, how):
    disk = tmp_path / "disk"
    disk.mkdir()
    on_a_small_disk(disk, 2)
    try:
        write_folder(disk / "made", writer(1))

        def write(folder):
            if how == "bytes":
                return writer(2, 1_900_000)(folder)
            return safetensors.torch.save_file({"a": torch.zeros(10**6)}, folder / "weights.safetensors")

        with pytest.raises(OutputError) as caught:
            write_folder(disk / "made", write)
        assert str(caught.value).startswith(f"{disk}/made could not be written: the disk is full: 2.1 MB are free")
        assert "Make room, or choose another place. What was there is unchanged." in str(caught.value)
        assert number_of(disk / "made") == 1
        assert names(disk) == ["made"]
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("limit", [100, 1500, 3000 + 10])  # the first file, and the manifest
def test_write_folder__over_a_limit_for_files_says_so(tmp_path, limit):
    write_folder(tmp_path / "made", writer(1))

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        write_folder(tmp_path / "made", writer(2, 3000 if limit < 3000 else 10**5))

    said = in_a_process(work)
    assert said.startswith(f"OutputError: {tmp_path}/made could not be written: File too large. This place, or a limit")
    assert number_of(tmp_path / "made") == 1
    assert names(tmp_path) == ["made"]


def test_write_folder__where_one_may_not_write_says_so():
    with reachable_folder() as folder:
        write_folder(folder / "made", writer(1))
        folder.chmod(0o555)
        said = in_a_process(lambda: write_folder(folder / "made", writer(2)), without_rights=True)
        assert said == (
            f"OutputError: {folder}/made could not be written: Permission denied. Give yourself the right to write "
            "there (chmod +w), or choose another place. What was there is unchanged."
        )
        assert number_of(folder / "made") == 1
        assert names(folder) == ["made"]


def test_write_file__killed_at_every_step_leaves_the_old_or_the_new(tmp_path):
    step, seen, was_killed = 0, set(), True
    while was_killed:
        step += 1
        write_file(tmp_path / "recipe.yaml", b"old")
        was_killed = killed_at(step, lambda: write_file(tmp_path / "recipe.yaml", b"new"))
        seen.add((tmp_path / "recipe.yaml").read_bytes())
    assert seen == {b"old", b"new"}
    clear_leftovers(tmp_path)
    assert names(tmp_path) == ["recipe.yaml"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder could not be written: Is a directory"):
        write_file(tmp_path / "folder", b"")


def test_remove_folder__killed_at_every_step_leaves_all_or_nothing(tmp_path):
    step, was_killed, seen = 0, True, set()
    while was_killed:
        step += 1
        write_folder(tmp_path / "made", writer(1))
        was_killed = killed_at(step, lambda: remove_folder(tmp_path / "made"))
        seen.add((tmp_path / "made").exists() and number_of(tmp_path / "made"))
    assert seen == {1, False}
    with pytest.raises(OutputError, match="made could not be removed: No such file"):
        remove_folder(tmp_path / "made")
    assert names(tmp_path) == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def become_a_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "harm", "said"),
    [
        ("first", cut, r"^first has 2,999 bytes in place of 3,000$"),
        ("first", lambda path: path.write_bytes(b""), r"^first has 0 bytes in place of 3,000$"),
        ("inside/third", flip, r"^inside/third is damaged: its SHA-256 is not that of manifest\.json$"),
        ("second", lambda path: path.unlink(), "^second is missing$"),
        ("inside", shutil.rmtree, "^inside/third is missing$"),
        ("second", become_a_folder, "^second is no file$"),
        ("manifest.json", lambda path: path.unlink(), r"^manifest\.json is missing$"),
        ("manifest.json", cut, None),  # the last newline
        ("manifest.json", lambda path: path.write_bytes(path.read_bytes()[:-3]), r"^manifest\.json is damaged$"),
        ("manifest.json", lambda path: path.write_text("[" * 10**5), r"^manifest\.json is damaged$"),
        ("manifest.json", lambda path: path.write_text("{}"), r"^manifest\.json is damaged$"),
        ("manifest.json", lambda path: path.write_bytes(b"\xff"), r"^manifest\.json is damaged$"),
        (
            "manifest.json",
            lambda path: path.write_text('{"lumora_manifest": 1, "files": {"a": {"size": "1", "sha256": ""}}}'),
            r"^manifest\.json is damaged$",
        ),
        (
            "manifest.json",
            lambda path: path.write_text('{"lumora_manifest": 1, "files": {"../a": {"size": 1, "sha256": ""}}}'),
            r"^manifest\.json is damaged$",
        ),
        (
            "manifest.json",
            lambda path: path.write_text('{"lumora_manifest": 2}'),
            "has format 2, of a newer Lumora; th",
        ),
    ],
)
def test_check_folder__tells_every_damage(tmp_path, name, harm, said):
    write_folder(tmp_path / "made", writer(1))
    harm(tmp_path / "made" / name)
    problems = check_folder(tmp_path / "made")
    if said is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert re.search(said, problems[0])


def test_check_folder__tells_all_damages_at_once_and_looks_at_nothing_else(tmp_path):
    write_folder(tmp_path / "made", writer(1))
    (tmp_path / "made/notes.txt").write_text("mine")
    assert check_folder(tmp_path / "made") == []
    cut(tmp_path / "made/first")
    flip(tmp_path / "made/second")
    assert [problem.split()[0] for problem in check_folder(tmp_path / "made")] == ["first", "second"]
    assert check_folder(tmp_path / "none") == [f"{tmp_path}/none is missing"]
    assert check_folder(tmp_path / "made/first") == [f"{tmp_path}/made/first is no folder"]


def test_check_folder__tells_what_may_not_be_read():
    with reachable_folder() as folder:
        write_folder(folder / "made", writer(1))
        (folder / "made/first").chmod(0)
        said = in_a_process(lambda: check_folder(folder / "made"), without_rights=True)
        assert said == "['first cannot be read: Permission denied']"
