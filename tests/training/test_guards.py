"""What goes wrong in trainings again and again, made to go wrong."""

from __future__ import annotations

import json
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch
from tests.training.tiny import assert_same, sees, settings, watched, weights_of
from torch import nn

from lumora.data.labels import Labels
from lumora.errors import SelfTestError, TrainingError
from lumora.tasks import TASKS, Classification
from lumora.training import finetune
from lumora.training.guards import Guards
from lumora.training.loop import Ending
from lumora.training.stepping import Stepped

SOUND, UNSOUND = Stepped(0.5, 1.0, True), Stepped(float("nan"), 1.0, False)
TOO_LARGE = Stepped(0.5, float("inf"), False, overflowed=True)


def run(pictures, place, base, **more):
    return finetune(pictures / "classes", base, out=place, settings=settings(**more))


def rows(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


class OnceInTraining:
    """Does something in one of the training's forward passes."""

    def __init__(self, step, deed):
        self.step, self.deed, self.steps = step, deed, 0

    def __call__(self, model, pictures):
        self.steps += model.training
        if model.training and self.steps == self.step:
            self.deed(model, pictures)


# --- numbers that are not finite --------------------------------------------------------------------------------------


def test_step__without_a_finite_loss_is_left_out_and_spoils_no_statistics(pictures, tmp_path):
    spoil = OnceInTraining(2, lambda model, shown: shown.fill_(float("nan")))
    asked = {"train__method": "full", "train__best_by": None, "run__checkpoint_every": 60}
    del (more := settings(**asked))["lora.r"]
    done = finetune(pictures / "classes", watched(spoil), out=tmp_path / "run", settings=more)
    assert done.ending is Ending.COMPLETE
    assert any("no finite number in a step, which was left out" in note for note in done.notes)
    weights = weights_of(done.folder)
    assert any(name.endswith("running_mean") for name in weights)
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_weights__that_a_step_threw_away_come_back(pictures, tmp_path):
    def throw(model, _):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.mul_(float("inf"))

    done = run(pictures, tmp_path / "run", watched(OnceInTraining(4, throw)), train__epochs=4, train__best_by=None)
    assert done.ending is Ending.COMPLETE
    assert all(tensor.isfinite().all() for tensor in weights_of(done.folder).values())
    assert sum("All learning rates are halved" in note for note in done.notes) <= 1


class Steep(nn.Module):
    """Says more than numbers can hold as soon as its weights are changed much."""

    def __init__(self):
        super().__init__()
        self.inside = sees()

    def forward(self, pixel_values):
        return (60 * self.inside(pixel_values)).cosh()


def test_rate__that_is_far_too_high_is_halved_until_it_is_not(pictures, tmp_path):
    high = {"train__rate": 1.0, "train__head_rate": 1.0, "train__warmup": 0.0, "train__epochs": 30}
    done = run(pictures, tmp_path / "run", Steep(), **high)
    assert done.ending is Ending.COMPLETE
    told = [note for note in done.notes if "in 3 steps in a row. The weights are again what they were" in note]
    assert len(told) >= 2
    assert all(tensor.isfinite().all() for tensor in weights_of(done.folder).values())


def test_guards__give_up_where_the_weights_go_astray_again_and_again():
    guards = Guards()
    for _ in range(8):
        assert [guards.after_step(step) for step in (SOUND, UNSOUND, UNSOUND, UNSOUND)] == [False] * 3 + [True]
    assert guards.scale == 0.5**8
    with pytest.raises(TrainingError, match=r"no finite number in 27 steps.*also at 0.0039 of the learning rates"):
        [guards.after_step(UNSOUND) for _ in range(3)]


def test_guards__do_not_count_what_the_scaling_of_half_precision_leaves_out():
    guards = Guards()
    for _ in range(20):
        assert not guards.after_step(TOO_LARGE)
    assert (guards.unsound, guards.scale, guards.take_pending()) == (0, 1.0, [])


def test_guards__go_on_with_what_they_remember():
    guards = Guards()
    answers = [guards.after_step(step) for step in (UNSOUND, UNSOUND, SOUND, UNSOUND, UNSOUND)]
    again = Guards.of(json.loads(json.dumps(guards.state())))
    assert [*answers, again.after_step(UNSOUND)] == [False] * 5 + [True]
    assert again.scale == 0.5


# --- scores -----------------------------------------------------------------------------------------------------------


def test_collapse__to_one_class_is_noticed_and_slows_down(pictures, tmp_path):
    del (more := settings(train__method="head", train__epochs=3))["lora.r"]
    blind = watched(lambda model, shown: shown.zero_())
    done = finetune(pictures / "classes", blind, out=tmp_path / "run", settings=more)
    [note] = [note for note in done.notes if "of nearly everything" in note]
    assert note.startswith("All learning rates are halved: twice in a row the model said")


def test_score__that_does_not_rise_halves_the_rates_once(pictures, tmp_path):
    still = {"train__rate": 1e-9, "train__head_rate": 1e-9, "train__schedule": "constant", "train__warmup": 0.0}
    done = run(pictures, tmp_path / "run", sees(), train__epochs=10, **still)
    if done.scores["accuracy"] == 1:
        pytest.fail("the pictures must not be told apart by chance")
    [note] = [note for note in done.notes if "has not risen" in note]
    assert "for 5 epochs" in note
    measured = rows(done)
    best = max(measured, key=lambda row: (row["accuracy"], -row["epoch"]))["epoch"]
    slower = best + 5  # the epoch after which it is told
    assert slower < 9
    assert measured[slower + 1]["rate"] == measured[slower]["rate"] / 2
    assert done.ending is Ending.COMPLETE


class Shifted(Classification):
    """Takes each class for the next when it measures."""

    def new_metrics(self):
        metrics = super().new_metrics()
        update = metrics.update
        metrics.update = lambda logits, targets: update(logits.roll(1, 1), targets)
        return metrics


def test_evaluation__that_is_wired_wrongly_ends_a_training_before_it_begins(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "classification", Shifted)
    with pytest.raises(SelfTestError, match=r"wired wrongly: a model that gives exactly the labels.*accuracy 0 "):
        run(pictures, tmp_path / "run", sees())
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    assert Shifted(Labels(("a", "b"))).labels.names == ("a", "b")


# --- adapters ---------------------------------------------------------------------------------------------------------


class Unused(nn.Module):
    """Has a layer that it does not call, and one that no gradient comes to."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.unused = nn.Conv2d(3, 3, 1)
        self.cut_off = nn.Conv2d(3, 3, 1)
        self.inside = sees()

    def forward(self, pixel_values):
        with torch.no_grad():
            changed = self.cut_off(pixel_values)
        return self.inside(changed)


def test_adapters__that_do_nothing_are_named(pictures, tmp_path):
    targets = ["unused", "cut_off", "mix"]
    done = run(pictures, tmp_path / "run", Unused(), train__epochs=1, lora__targets=targets)
    [note] = [note for note in done.notes if "do nothing" in note]
    assert note.startswith(
        "2 of 3 adapters do nothing: the model does not call 'unused'; no gradient comes to 'cut_off'"
    )
    assert "lora.exclude" in note


def test_adapters__of_which_none_learns_end_a_training_before_it_begins(pictures, tmp_path):
    with pytest.raises(TrainingError, match=r"None of the 1 adapters would learn anything.*'cut_off'.*lora\.targets"):
        run(pictures, tmp_path / "run", Unused(), lora__targets=["cut_off"])


# --- memory -----------------------------------------------------------------------------------------------------------


def test_memory__that_does_not_suffice_makes_smaller_parts_of_the_same_batch(pictures, tmp_path):
    def narrow(model, shown):
        if model.training and len(shown) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    done = run(pictures, tmp_path / "run", watched(narrow), train__best_by=None)
    [note] = [note for note in done.notes if "Not enough memory" in note]
    assert "for 4 pictures at a time; going on with 2 at a time. A batch stays as large as it was." in note
    small = run(pictures, tmp_path / "small", sees(), train__best_by=None, train__micro_batch=2)
    assert_same(weights_of(small.folder), weights_of(done.folder))


def test_memory__that_does_not_suffice_in_evaluation_changes_no_score(pictures, tmp_path):
    failed = []

    def narrow(model, shown):
        if not model.training and len(shown) > 2:
            failed.append(len(shown))
            raise torch.OutOfMemoryError("CUDA out of memory.")

    done = run(pictures, tmp_path / "run", watched(narrow))
    assert set(failed) == {3}
    assert done.scores == run(pictures, tmp_path / "whole", sees()).scores


class Confined:
    """Lets a process have one GiB more than when its first step begins, and takes much of it for each picture."""

    def __init__(self):
        self.begun = False

    def __call__(self, model, pictures):
        if not model.training:
            return
        if not self.begun:
            self.begun = True
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
            resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
        torch.empty(len(pictures), 120 * 2**20, dtype=torch.uint8)


def with_little_memory(pictures, folder):
    os.environ["LUMORA_CACHE"] = str(folder / "cache")
    asked = {"train__batch_size": 12, "train__micro_batch": 12}
    done = run(pictures, folder / "run", watched(Confined()), **asked)
    return str((done.ending.name, [note for note in done.notes if "memory" in note]))


@pytest.mark.slow
def test_memory__of_a_process_that_may_not_have_more(pictures, tmp_path):
    # Not forked from here, where gradients may have been computed: torch would refuse to compute more of them.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        answer = fresh.submit(with_little_memory, pictures, tmp_path).result()
    assert answer.startswith("('COMPLETE', ['Not enough memory for 12 pictures at a time; going on with 6"), answer
