"""What a training can be asked for, and the effect that each has."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from PIL import Image
from tests.training.tiny import assert_same, sees, sees_places, settings, watched, weights_of
from torch.autograd.graph import saved_tensors_hooks

from lumora.errors import RecipeError
from lumora.training import checkpoints, finetune, resume
from lumora.training.events import Listener
from lumora.training.loop import Ending

ONE_STEP = {
    "train__epochs": 1,
    "train__batch_size": 12,
    "train__warmup": 0.0,
    "train__schedule": "constant",
    "train__best_by": None,
}
RATE = 1e-3


def run(pictures, place, base=None, listeners=(), **more):
    return finetune(pictures / "classes", base or sees(), out=place, settings=settings(**more), listeners=listeners)


def rows(done):
    return [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]


def second_factors(done):
    return torch.cat([tensor.flatten() for name, tensor in weights_of(done.folder).items() if "lora_B" in name]).abs()


def still_model():
    """One in which nothing is drawn."""
    model = sees()
    model.drop.p = 0.0
    return model


class Saved(Listener):
    """Remembers the checkpoint before each step."""

    def __init__(self, place):
        self.place, self.tensors = place, []

    def step_done(self, event):
        self.tensors.append(self.newest())

    def newest(self):
        return checkpoints.newest(self.place / "checkpoints").checkpoint.tensors


def of(tensors, group):
    return {name.removeprefix(f"{group}."): value for name, value in tensors.items() if name.startswith(f"{group}.")}


def test_ema__is_what_is_kept(pictures, tmp_path):
    saved = Saved(tmp_path / "run")
    done = run(pictures, tmp_path / "run", listeners=[saved], train__ema=0.5, train__best_by=None, train__rate=0.05)
    states = [*saved.tensors, saved.newest()]
    expected = of(states[0], "model")
    for step, state in enumerate(states[1:]):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {name: decay * expected[name] + (1 - decay) * live for name, live in of(state, "model").items()}
    average, live = of(states[-1], "average"), of(states[-1], "model")
    torch.testing.assert_close(average, expected)
    assert not all(torch.equal(average[name], live[name]) for name in average)
    kept = {name.replace(".default", "").replace(".modules_to_save", ""): value for name, value in average.items()}
    weights = weights_of(done.folder)
    assert_same({name: weights[name] for name in kept}, kept)


def test_ema__is_what_live_samples_show(pictures, tmp_path):
    seen = []

    def see(model, shown):
        seen.append((model.training, len(shown), torch.cat([weight.flatten() for weight in model.parameters()])))

    run(
        pictures,
        tmp_path / "run",
        watched(see),
        train__ema=0.5,
        train__best_by=None,
        run__live_samples=2,
        train__rate=0.05,
    )
    first, *_, last = [i for i, (training, *_) in enumerate(seen) if training]
    judged = [pair for pair in itertools.pairwise(seen[first:last]) if not any(training for training, *_ in pair)]
    assert [count for (_, count, _), _ in judged] == [3, 1]  # the three for validation, then one by one
    assert all(torch.equal(weights, after) for (_, _, weights), (_, _, after) in judged)


@pytest.mark.parametrize("kind", ["classes", "masked"])
def test_bundle__shows_pictures_with_what_the_model_says(pictures, tmp_path, kind):
    base = sees() if kind == "classes" else sees_places()
    done = finetune(pictures / kind, base, out=tmp_path / "run", settings=settings(train__epochs=1))
    with Image.open(done.bundle / "thumbnail.jpg") as shown:
        assert shown.height >= 160
        assert shown.width >= {"classes": 3 * 160, "masked": 160 + 40}[kind]  # with a legend beside masks
    assert "](thumbnail.jpg)" in (done.bundle / "README.md").read_text()


def test_lora_plus__moves_second_factors_faster(pictures, tmp_path):
    alike = run(pictures, tmp_path / "alike", train__rate=RATE, **ONE_STEP)
    faster = run(pictures, tmp_path / "faster", train__rate=RATE, train__lora_plus=16, **ONE_STEP)
    # They begin at 0, and AdamW's first step is as long as the rate.
    torch.testing.assert_close(second_factors(alike).max(), torch.tensor(RATE), rtol=0.01, atol=0)
    torch.testing.assert_close(second_factors(faster).max(), torch.tensor(16 * RATE), rtol=0.01, atol=0)


def test_head_first__lets_the_base_see_each_picture_once(pictures, tmp_path):
    def seen(epochs):
        shown = []
        base = watched(lambda model, batch: shown.append(0 if model.training else len(batch)))
        run(pictures, tmp_path / str(epochs), base, train__head_first=epochs, **ONE_STEP)
        return sum(shown)

    without, once, often = seen(0), seen(1), seen(60)
    assert (once - without, often - without) == (12, 12)


def test_patience__ends_a_training_whose_score_does_not_rise(pictures, tmp_path):
    done = run(pictures, tmp_path / "run", train__patience=2, train__epochs=9, train__rate=1e-9, train__head_rate=1e-9)
    assert done.ending is Ending.NO_GAIN
    assert (done.epochs, done.best_epoch) == (2, 0)
    assert resume(tmp_path / "run", base=sees()).ending is Ending.NO_GAIN


@pytest.mark.parametrize("score", ["macro_f1", "accuracy"])
def test_best_by__keeps_the_epoch_with_the_best_score(pictures, tmp_path, score):
    done = run(pictures, tmp_path / "run", train__best_by=score, train__rate=0.05, train__epochs=8)
    scores = [row[score] for row in rows(done)]
    assert done.best_epoch == scores.index(max(scores))
    assert done.scores[score] == pytest.approx(max(scores))


def test_best_by__nothing_keeps_the_last(pictures, tmp_path):
    done = run(pictures, tmp_path / "run", train__best_by=None, train__rate=0.05, train__epochs=5)
    last = rows(done)[-1]
    assert {name: last[name] for name in done.scores} == pytest.approx(dict(done.scores))
    assert done.best_epoch == 5


def test_max_time__ends_a_training_that_can_go_on_with_more(pictures, tmp_path):
    done = run(pictures, tmp_path / "run", train__max_time=0.001)
    assert done.ending is Ending.TIME
    assert done.bundle.is_dir()
    assert len(rows(done)) < 3
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("max_time: 0.001", "max_time: null"))
    assert resume(tmp_path / "run", base=sees()).ending is Ending.COMPLETE
    whole = run(pictures, tmp_path / "whole")
    assert_same(weights_of(whole.folder), weights_of(tmp_path / "run"))


def test_micro_batch__learns_the_same_from_fewer_pictures_at_a_time(pictures, tmp_path):
    def learnt(part):
        most = []
        base = watched(lambda model, batch: most.append(len(batch)) if model.training else None)
        base.drop.p = 0.0
        done = run(pictures, tmp_path / str(part), base, train__micro_batch=part, train__best_by=None)
        return max(most), weights_of(done.folder)

    (one, in_parts), (four, at_once) = learnt(1), learnt(4)
    assert (one, four) == (1, 4)
    torch.testing.assert_close(in_parts, at_once, rtol=1e-3, atol=1e-5)


def test_clip__keeps_single_steps_small(pictures, tmp_path):
    free = run(pictures, tmp_path / "free", train__rate=RATE, train__clip=None, **ONE_STEP)
    # So small that AdamW's epsilon counts, which it is divided by.
    clipped = run(pictures, tmp_path / "clipped", train__rate=RATE, train__clip=1e-10, **ONE_STEP)
    assert second_factors(clipped).max() < 0.1 * second_factors(free).max()


def test_precision__bf16_computes_in_it_and_keeps_weights_in_full(pictures, tmp_path):
    kinds = set()

    def see(model, batch):
        if model.training:
            kinds.add((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))

    short = run(pictures, tmp_path / "short", watched(see), train__precision="bf16", **ONE_STEP)
    assert kinds == {(True, torch.bfloat16)}
    full = run(pictures, tmp_path / "full", train__precision="fp32", **ONE_STEP)
    kept = {tensor.dtype for tensor in weights_of(short.folder).values() if tensor.is_floating_point()}
    assert kept == {torch.float32}
    assert rows(short)[-1]["loss"] == pytest.approx(rows(full)[-1]["loss"], rel=0.05)
    assert rows(short)[-1]["loss"] != rows(full)[-1]["loss"]


def test_precision__fp16_is_refused_where_the_cpu_computes(pictures, tmp_path):
    with pytest.raises(RecipeError, match=r"train\.precision is 'fp16', but the CPU computes here"):
        run(pictures, tmp_path / "run", train__precision="fp16")
    assert not (tmp_path / "run").exists()


def test_grad_checkpointing__remembers_less_and_learns_the_same(pictures, tmp_path):
    timm = pytest.importorskip("timm")

    def learnt(saves):
        torch.manual_seed(0)
        base, remembered = timm.create_model("test_vit"), []
        pack = lambda tensor: remembered.append(tensor.nbytes) or tensor  # noqa: E731
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            done = run(
                pictures, tmp_path / str(saves), base, train__grad_checkpointing=saves, base__drop_path=0.0, **ONE_STEP
            )
        return sum(remembered), weights_of(done.folder)

    (less, saving), (more, plain) = learnt(True), learnt(False)
    assert less < 0.7 * more
    torch.testing.assert_close(saving, plain, rtol=1e-3, atol=1e-5)


def test_recipe__of_a_run_reruns_it_in_a_folder_of_its_own(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = finetune(pictures / "classes", sees(), settings=settings())
    again = finetune(base=sees(), recipe=first.folder / "recipe.yaml")
    third = finetune(base=sees(), recipe=first.folder / "recipe.yaml")
    assert [str(done.folder) for done in (first, again, third)] == [
        "runs/classes",
        "runs/classes-2",
        "runs/classes-3",
    ]
    assert_same(weights_of(first.folder), weights_of(again.folder))
