from __future__ import annotations

import dataclasses

import pytest

from lumora.training import Machine, parse_asked
from lumora.training.planning.disk import Disk
from lumora.training.planning.forecast import Memory
from lumora.training.planning.shortages import shortages

GB = 10**9
ROOMY = Machine(cores=4, memory=8 * GB)
DISK = Disk(checkpoints=GB, bundle=GB, pictures=GB, base=0, free=9 * GB, free_for_pictures=9 * GB)
MEMORY = Memory(process=3 * GB, pictures=GB, readers=GB, verifying=GB, device=None)
RECIPE = {"train.batch_size": 12, "train.micro_batch": 6, "run.out": "runs/owls", "train.grad_checkpointing": False}


def found(machine=ROOMY, disk=DISK, memory=MEMORY, **settings):
    asked = parse_asked({**RECIPE, **{key.replace("__", "."): value for key, value in settings.items()}})
    return shortages(asked, machine, disk, memory)


def test_shortages__of_nothing():
    assert found() == []
    assert found(memory=None) == []


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (5.5, "run.cache_on=disk, or run.cache=off"),
        (4.5, "train.micro_batch=3."),
    ],
)
def test_shortages__of_memory_name_the_setting_that_helps(free, words):
    [told] = found(dataclasses.replace(ROOMY, memory=int(free * GB)))
    assert told.startswith(f"The training needs 6.00 GB of memory, and {free:.2f} GB are free.")
    assert words in told


def test_shortages__of_memory_that_readers_take():
    [told] = found(
        dataclasses.replace(ROOMY, memory=4 * GB), memory=dataclasses.replace(MEMORY, pictures=0, readers=2 * GB)
    )
    assert "run.workers=0" in told


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "train.micro_batch=3."),
        ({"train__batch_size": 9, "train__micro_batch": 9}, "train.micro_batch=3."),
        ({"train__batch_size": 10, "train__micro_batch": 5}, "train.micro_batch=2."),
        ({"train__micro_batch": 1}, "train.grad_checkpointing=true"),
        ({"train__micro_batch": 1, "train__method": "head"}, "pictures.size"),
        ({"train__micro_batch": 1, "train__grad_checkpointing": True}, "pictures.size"),
    ],
)
def test_shortages__of_a_gpu_name_what_harms_least(settings, words):
    gpu = dataclasses.replace(ROOMY, device="cuda", device_memory=2 * GB)
    [told] = found(gpu, memory=dataclasses.replace(MEMORY, device=3 * GB), **settings)
    assert "3.00 GB of the GPU's memory, which has 2.00 GB" in told
    assert words in told


def test_shortages__of_disks():
    [told] = found(disk=dataclasses.replace(DISK, free=GB))
    assert "takes up to 2.00 GB, and 1.00 GB are free in runs/owls" in told
    assert "run.out" in told
    [told] = found(disk=dataclasses.replace(DISK, free_for_pictures=GB // 2))
    assert "up to 1.00 GB" in told
    assert "run.cache=off" in told


def test_shortages__of_one_disk_for_everything():
    half = dataclasses.replace(DISK, free=5 * GB // 2, free_for_pictures=5 * GB // 2)
    assert found(disk=half) == []
    [told] = found(disk=dataclasses.replace(half, on_one=True))
    assert "beside the run's folder, which takes 2.00 GB" in told
    assert "run.cache=off" in told
