"""Two real processes come to what one comes to."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.training import together
from tests.training.small import result, small_loop

from lumora.training.course import Course

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What both processes have written down, by name and rank."""
    folder = tmp_path_factory.mktemp("together")
    together.start(together.all_trainings, str(folder))

    def read(name):
        return [
            (load_file(folder / f"{name}-{rank}.safetensors"), json.loads((folder / f"{name}-{rank}.json").read_text()))
            for rank in range(together.WORLD)
        ]

    return read


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def is_learnt(name):
    return name.startswith(("model.", "optimizer.")) and ".running_" not in name and ".num_batches" not in name


def assert_close(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        # Adam divides by the square root of what may be nearly nothing.
        assert torch.allclose(tensor, other[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize(
    ("name", "in_parts"),
    [
        ("adapters", False),
        ("adapters", True),
        ("workers", False),
        ("uneven", False),
        ("masks", False),
        ("uneven masks", False),
        ("weighed", False),
        ("everything", True),
    ],
)
def test_together__two_processes_come_to_the_adapter_of_one(trained, name, in_parts):
    (first, heard), (second, heard_too) = trained(name)
    assert equal(first, second)
    alone, heard_alone = together.train(name, in_parts=in_parts)
    if name == "everything":  # one after the other, norms gather other statistics, and another epoch may be the best
        first, alone = ({n: t for n, t in each.items() if is_learnt(n)} for each in (first, alone))
    assert_close(first, alone)
    assert heard["losses"] == heard_too["losses"] == pytest.approx(heard_alone["losses"], rel=1e-4)


@pytest.mark.parametrize("name", together.SHAPES)
def test_together__both_have_the_same_scores(trained, name):
    assert trained(name)[0][1]["epochs"] == trained(name)[1][1]["epochs"]


@pytest.mark.parametrize("name", ["adapters", "masks", "uneven"])
def test_together__scores_are_those_of_one_process(trained, name):
    _, heard = trained(name)[0]
    _, alone = together.train(name)
    for mine, its in zip(heard["epochs"], alone["epochs"], strict=True):
        del mine["loss"], its["loss"]  # none before the first step
        assert mine == pytest.approx(its, rel=1e-3)


@pytest.mark.parametrize("name", [name for name in together.SHAPES if name != "workers"])  # they look elsewhere
def test_together__every_picture_is_looked_at_by_one_of_them_once(trained, name):
    parts = [heard["looked_at"] for _, heard in trained(name)]
    _, alone = together.train(name)
    assert sorted(parts[0] + parts[1]) == sorted(alone["looked_at"])
    assert not set(parts[0]) & set(parts[1]) - set(range(20))  # what is judged by one is not judged by the other


def test_together__statistics_of_norms_are_those_of_both(trained):
    first, alone = trained("a step")[0][0], together.train("a step")[0]
    torch.testing.assert_close(first["model.norm.running_mean"], alone["model.norm.running_mean"])
    assert not torch.equal(first["model.norm.running_mean"], torch.zeros(8))


@pytest.mark.parametrize("name", ["adapters", "masks"])
def test_together__memory_that_lacks_in_one_makes_smaller_parts_in_both(trained, name):
    (first, heard), (second, heard_too) = trained(f"memory of {name}")
    assert heard["micro"] == heard_too["micro"] == 1
    assert [len(texts) for texts in (heard["texts"], heard_too["texts"])] == [1, 1]
    assert "(in another process)" not in heard["texts"][0]
    assert equal(first, second)
    whole = small_loop(course=Course(1), chance=False, **together.SHAPES[name])
    if name == "masks":  # Dice is of each part
        whole.work.stepper.micro_batch = 1
    whole.run()
    assert_close(first, result(whole))


def test_together__one_that_is_asked_to_stop_stops_both_after_the_same_step(trained):
    (first, heard), (second, heard_too) = trained("asked")
    assert heard == heard_too
    assert (heard["ending"], heard["steps"], heard["saved"]) == ("ASKED", 3, 2)
    assert equal(first, second)
    again = small_loop(chance=False)
    again.load(first, heard["values"])
    again.run()
    whole = small_loop(chance=False)
    whole.run()
    assert_close(result(again), result(whole))


def test_together__stopped_and_gone_on_with_come_to_the_same_bits(trained):
    (gone_on_with, _), (whole, _) = trained("gone-on-with")[1], trained("whole")[0]
    assert equal(gone_on_with, whole)


def test_together__what_is_counted_and_looked_through_is_shared(trained):
    (_, first), (_, second) = trained("shared")
    assert first["counts"] == [2, 2, 2]  # one of each class is for validation
    assert {name: first[name] for name in ("counts", "told", "left")} == {
        name: second[name] for name in ("counts", "told", "left")
    }
    assert "'red/broken.png'" in first["told"][0]
    assert len(first["left"]) == 9


def test_together__what_is_decoded_is_kept_once(trained):
    (_, first), (_, second) = trained("shared")
    assert first["cache"] == second["cache"]
    assert (first["others"], second["others"]) == (1, 0)
