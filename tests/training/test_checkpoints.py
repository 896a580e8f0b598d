"""Checkpoints come back as they were; damaged ones are passed over; kills and full disks cost no whole one."""

import os
import random
import re
import resource
import signal
import sys
import time

import pytest
import torch
from tests.processes import in_a_process, reachable_folder
from torch import nn

from lumora.data.manifest import write_manifest
from lumora.errors import CheckpointError, ConfigError
from lumora.training.checkpoints import Checkpoint, newest, save

NEEDS_FORK = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and kill")


def checkpoint(number=0):
    return Checkpoint({"a": torch.full((4, 5), float(number)), "b": torch.tensor(number)}, {"number": number})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def tensors_of_all_kinds():
    shared = torch.arange(12.0)
    kinds = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool]
    return {
        **{str(kind): torch.tensor([[0, 1], [1, 0]]).to(kind) for kind in kinds},
        "not finite": torch.tensor([float("nan"), float("inf"), -0.0]),
        "turned": torch.randn(3, 5).T,
        "every second": torch.randn(10)[::2],
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "expanded": torch.ones(1, 3).expand(4, 3),
        "shared": shared,
        "shared too": shared.view(3, 4),
        "its end": shared[6:],
        "the same": shared,
        "one number": torch.tensor(3, dtype=torch.int32),
        "none": torch.empty(0, 7),
        "trained": nn.Parameter(torch.randn(2)),
        "": torch.zeros(1),
        "ü.0": torch.zeros(1),
    }


def test_checkpoint__comes_back_bit_for_bit(tmp_path):
    tensors = tensors_of_all_kinds()
    state = {"best": float("-inf"), "bad": [1, 2.5, None, True], "name": "ü\ud800", "in": {"": 0.1 + 0.2, "n": 2**80}}
    save(tmp_path / "run/checkpoints", Checkpoint(tensors, state), 1234)
    assert names(tmp_path / "run/checkpoints") == ["step-00001234"]
    found = newest(tmp_path / "run/checkpoints")
    assert (found.step, found.notes, found.checkpoint.state) == (1234, (), state)
    assert found.checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in found.checkpoint.tensors.items():
        assert (tensor.dtype, tensor.shape) == (tensors[name].dtype, tensors[name].shape)
        values = tensors[name].detach().contiguous()
        assert tensor.flatten().view(torch.uint8).equal(values.flatten().view(torch.uint8))
    # Their own memory: what is done to one, or to the files, is seen nowhere else.
    found.checkpoint.tensors["shared"].zero_()
    (tmp_path / "run/checkpoints/step-00001234/tensors.safetensors").write_bytes(b"")
    assert found.checkpoint.tensors["shared too"].equal(tensors["shared too"])


def test_save__of_nothing_but_a_state(tmp_path):
    save(tmp_path, Checkpoint({}, {}), 0)
    assert newest(tmp_path).checkpoint == Checkpoint({}, {})


@pytest.mark.parametrize(
    ("tensors", "state", "said"),
    [
        ({}, {"a": [0, {"b": torch.ones(1)}]}, r"state\['a'\]\[1\]\['b'\] is of type Tensor"),
        ({}, {"a": (1, 2)}, r"state\['a'\] is of type tuple"),
        ({}, {"a": {1: 2}}, r"state\['a'\] has keys other than text"),
        ({"a": torch.ones(2, device="meta")}, {}, "'a' of a checkpoint cannot be saved: it has no values"),
        ({"a": torch.ones(2, 2).to_sparse()}, {}, "'a' of a checkpoint cannot be saved"),
    ],
)
def test_save__refuses_what_would_not_come_back(tmp_path, tensors, state, said):
    with pytest.raises(CheckpointError, match=said):
        save(tmp_path, Checkpoint(tensors, state), 1)
    assert newest(tmp_path) is None


def test_save__keeps_the_newest(tmp_path):
    for step in (5, 10, 100, 99_999_999, 100_000_000):
        save(tmp_path, checkpoint(step), step)
    assert names(tmp_path) == ["step-100000000", "step-99999999"]
    assert newest(tmp_path).step == 100_000_000
    save(tmp_path, checkpoint(1), 100_000_001, keep=1)
    assert names(tmp_path) == ["step-100000001"]
    with pytest.raises(ConfigError, match="keep=0"):
        save(tmp_path, checkpoint(1), 5, keep=0)


def test_save__of_the_same_step_replaces(tmp_path):
    for number in (1, 2):
        save(tmp_path, checkpoint(number), 7)
    assert newest(tmp_path).checkpoint.state == {"number": 2}
    assert names(tmp_path) == ["step-00000007"]


def test_save__after_going_back_removes_the_damaged_one_and_keeps_whole_ones(tmp_path):
    for step in (100, 200, 300):
        save(tmp_path, checkpoint(step), step, keep=3)
    (tmp_path / "step-00000300/state.json").write_text("{")
    assert newest(tmp_path).step == 200
    save(tmp_path, checkpoint(250), 250)
    assert names(tmp_path) == ["step-00000200", "step-00000250"]
    (tmp_path / "step-00000250/state.json").unlink()
    save(tmp_path, checkpoint(260), 260)
    assert names(tmp_path) == ["step-00000200", "step-00000260"]


@pytest.mark.parametrize("lost", ["manifest.json", "state.json"])
def test_save__of_the_same_step_replaces_one_that_is_damaged(tmp_path, lost):
    for step in (1, 2):
        save(tmp_path, checkpoint(step), step)
    (tmp_path / "step-00000002" / lost).unlink()
    save(tmp_path, checkpoint(7), 2)
    found = newest(tmp_path)
    assert (found.step, found.checkpoint.state, found.notes) == (2, {"number": 7}, ())


def test_newest__of_nothing_is_none(tmp_path):
    assert newest(tmp_path / "nowhere") is None
    (tmp_path / "step-7").mkdir()
    (tmp_path / ".step-00000007.12345678").mkdir()
    assert newest(tmp_path) is None


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = [
    ("tensors.safetensors", flip, r"tensors\.safetensors is damaged: its SHA-256 is not that of manifest\.json"),
    ("tensors.safetensors", lambda path: os.truncate(path, 20), r"tensors\.safetensors has 20 bytes in place of [\d]+"),
    ("tensors.safetensors", lambda path: path.unlink(), r"tensors\.safetensors is missing"),
    ("state.json", flip, r"state\.json is damaged"),
    ("manifest.json", lambda path: path.unlink(), r"manifest\.json is missing"),
]


@pytest.mark.parametrize(("name", "harm", "said"), DAMAGES)
def test_newest__falls_back_to_the_one_before_and_says_so(tmp_path, name, harm, said):
    for step in (1000, 2000):
        save(tmp_path, checkpoint(step), step)
    harm(tmp_path / "step-00002000" / name)
    found = newest(tmp_path)
    assert (found.step, found.checkpoint.state) == (1000, {"number": 1000})
    damage, taken = found.notes
    assert re.fullmatch(rf"The checkpoint {re.escape(str(tmp_path))}/step-00002000 is damaged: {said}.*\.", damage)
    assert taken == "The one before, of step 1,000, is whole and was taken."
    harm(tmp_path / "step-00001000" / name)
    with pytest.raises(
        CheckpointError, match=rf"No checkpoint .*step-0*2000 .* {said}.*step-0*1000 .* start a new run"
    ):
        newest(tmp_path)
    assert names(tmp_path) == ["step-00001000", "step-00002000"]


def rewritten(folder, text):
    """A whole folder, by its manifest, in which another state stands."""

    (folder / "state.json").write_text(text)
    write_manifest(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": 2, "step": 7, "state": {}}', "has format 2; this version of Lumora reads 1"),
        ("[]", "has format None; this version"),
        ('{"format": 1, "step": 8, "state": {}}', "is of step 8; its folder was renamed"),
        ("{", "cannot be read: Expecting property name"),
    ],
)
def test_newest__says_what_it_cannot_use(tmp_path, text, said):
    save(tmp_path, checkpoint(), 7)
    rewritten(tmp_path / "step-00000007", text)
    with pytest.raises(CheckpointError, match=said):
        newest(tmp_path)


@NEEDS_FORK
def test_newest__says_what_may_not_be_read():
    with reachable_folder() as folder:
        save(folder, checkpoint(), 7)
        folder.chmod(0)
        said = in_a_process(lambda: newest(folder), without_rights=True)
        assert said == f"CheckpointError: The checkpoints in {folder} cannot be listed: Permission denied."
        folder.chmod(0o755)
        (folder / "step-00000007").chmod(0)
        assert "step-00000007 is damaged: manifest.json cannot be read: Permission denied." in in_a_process(
            lambda: newest(folder), without_rights=True
        )


@NEEDS_FORK
def test_save__that_finds_no_room_keeps_the_last_one_whole(tmp_path):
    for step in (1, 2):
        save(tmp_path, checkpoint(step), step)

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        save(tmp_path, Checkpoint({"a": torch.ones(1000)}, {}), 3)

    assert in_a_process(work).startswith(f"OutputError: {tmp_path}/step-00000003 could not be written: File too large.")
    assert names(tmp_path) == ["step-00000001", "step-00000002"]
    assert newest(tmp_path).step == 2


@NEEDS_FORK
def test_save__removes_what_killed_writers_left_before_it_writes(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, checkpoint(step), step, keep=4)
    flip(tmp_path / "step-00000004/tensors.safetensors")

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        save(tmp_path, Checkpoint({"a": torch.ones(1000)}, {}), 5)

    assert "File too large" in in_a_process(work)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


@NEEDS_FORK
@pytest.mark.slow
def test_save__killed_at_any_moment_leaves_the_last_or_the_new_one(tmp_path):
    moments, last = random.Random(0), -1
    for _ in range(40):
        if (child := os.fork()) == 0:
            for step in range(last + 1, last + 10_000):
                save(tmp_path, checkpoint(step), step)
            os._exit(1)
        time.sleep(moments.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = newest(tmp_path)
        if found is None:
            assert last == -1
            continue
        assert found.notes == ()
        assert found.step >= last
        assert found.checkpoint.state == {"number": found.step}
        assert found.checkpoint.tensors["a"].eq(found.step).all()
        last = found.step
        assert len([name for name in names(tmp_path) if name.startswith("step-")]) <= 3
    assert last > 0
    save(tmp_path, checkpoint(last + 1), last + 1)
    assert names(tmp_path) == [f"step-{last:08d}", f"step-{last + 1:08d}"]
