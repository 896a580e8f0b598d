"""What a process knows of the others before it has found them. How they talk is tested by real ones."""

from __future__ import annotations

import pytest
import torch

from lumora.errors import RecipeError, TrainingError
from lumora.training.loading import loaders, part_of
from lumora.training.processes import Alone, Processes
from lumora.training.recipe import parse_asked
from lumora.training.several import _bundled, device_here, processes_on_this_machine, taking_part


@pytest.fixture
def started(monkeypatch):
    """Set what torchrun says to a process."""

    def say(**names):
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in names.items():
            monkeypatch.setenv(name, str(value))

    return say


@pytest.mark.parametrize("names", [{}, {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}])
def test_taking_part__of_one_process_is_alone(started, names):
    started(**names)
    with taking_part() as processes:
        assert isinstance(processes, Alone)
        assert (processes.rank, processes.world, processes.is_first) == (0, 1, True)
    assert processes_on_this_machine() == 1


def test_taking_part__says_what_a_process_needs_to_find_the_others(started):
    started(WORLD_SIZE=2, RANK=1)
    with pytest.raises(TrainingError, match=r"WORLD_SIZE is set, to 2, but not MASTER_ADDR, MASTER_PORT.*torchrun"):
        taking_part().__enter__()


def test_device__is_a_gpu_for_each_process(started, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    started()
    assert device_here() == torch.device("cuda")
    started(WORLD_SIZE=2, LOCAL_RANK=1)
    assert device_here() == torch.device("cuda", 1)
    started(WORLD_SIZE=3, LOCAL_RANK=2, LOCAL_WORLD_SIZE=3)
    with pytest.raises(TrainingError, match=r"There are 3 processes on this machine.*2 to be seen.*--nproc-per-node 2"):
        device_here()


def test_machine__is_shared_by_the_processes_that_were_started_on_it(started):
    started(WORLD_SIZE=8, LOCAL_WORLD_SIZE=4)
    assert processes_on_this_machine() == 4


def test_messages__hold_neighbours_of_one_kind_and_of_some_size(monkeypatch):
    monkeypatch.setattr("lumora.training.several._AT_ONCE", 40)
    small, large = torch.zeros(3), torch.zeros(100)
    tensors = [small, small, small, small, large, small, small.double(), small.double(), small.long()]
    bundles = list(_bundled(tensors))
    assert [len(bundle) for bundle in bundles] == [3, 1, 1, 1, 1, 1, 1]
    assert [id(tensor) for bundle in bundles for tensor in bundle] == [id(tensor) for tensor in tensors]
    assert list(_bundled([])) == []


class Third(Alone):
    """One of four, by itself."""

    rank, world = 2, 4


@pytest.mark.parametrize("count", range(10))
def test_part__of_all_processes_together_is_everything_once(count):
    def part(rank):
        class One(Alone):
            world = 4

        one: Processes = One()
        one.rank = rank
        return part_of(list(range(count)), one)

    assert sorted(i for rank in range(4) for i in part(rank)) == list(range(count))
    assert part(0) == list(range(0, count, 4))


def test_loaders__refuse_a_batch_with_fewer_pictures_than_processes():
    recipe = parse_asked({"train.batch_size": 3, "train.seed": 0})
    with pytest.raises(RecipeError, match=r"train\.batch_size is 3, but there are 4 processes.*no more than 3"):
        loaders(recipe, None, None, None, torch.device("cpu"), Third())
