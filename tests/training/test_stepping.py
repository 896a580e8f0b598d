import subprocess
import sys
import textwrap

import pytest
import torch
from tests.training.small import Sees
from torch import nn

from lumora.data import Labels
from lumora.errors import TrainingError
from lumora.tasks import Classification
from lumora.training.optimizing import Optimizer, Rates
from lumora.training.processes import Alone
from lumora.training.stepping import Stepper

CPU, LABELS = torch.device("cpu"), Labels(("red", "green", "blue"))


def batch(count=6):
    generator = torch.Generator().manual_seed(0)
    return {
        "pixel_values": torch.randn(count, 3, 8, 8, generator=generator),
        "labels": torch.randint(0, 3, (count,), generator=generator),
    }


def stepper(model=None, task=None, **options):
    torch.manual_seed(0)
    task = task or Classification(LABELS)
    model = model or Sees(False)
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
    return Stepper(model, task, Optimizer(model, (), Rates(0.01, 0.01)), CPU, **options)


class Narrow(Sees):
    """Has memory for so many pictures at a time."""

    def __init__(self, room):
        super().__init__(False)
        self.room, self.seen = room, []

    def forward(self, pixel_values):
        self.seen.append(len(pixel_values))
        if len(pixel_values) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(pixel_values)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 9])
def test_stepper__gives_the_same_step_in_parts(size):
    whole, parts = stepper(), stepper(micro_batch=size)
    one, other = whole.step(batch(), 0, 1.0), parts.step(batch(), 0, 1.0)
    assert one.loss == pytest.approx(other.loss)
    assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=1e-5)
    for name, parameter in whole.optimizer.parameters.items():
        torch.testing.assert_close(parameter, parts.optimizer.parameters[name], rtol=1e-4, atol=1e-6)


def test_stepper__takes_smaller_parts_when_memory_does_not_suffice_and_says_so():
    told = []
    torch.manual_seed(0)
    model = Narrow(room=2)
    narrow, whole = stepper(model, told=told.append), stepper()
    whole.optimizer.parameters["stem.weight"].data.copy_(model.stem.weight)
    narrow.step(batch(), 0, 1.0)
    assert model.seen == [6, 3, 2, 2, 2]
    assert narrow.micro_batch == 2
    assert [text.split(";")[0] for text in told] == [
        "Not enough memory for 6 pictures at a time",
        "Not enough memory for 3 pictures at a time",
    ]
    narrow.step(batch(), 1, 1.0)
    assert model.seen[5:] == [2, 2, 2]


def test_stepper__without_memory_for_one_picture_says_what_to_change():
    with pytest.raises(TrainingError, match=r"not enough memory for a single picture.*pictures\.size"):
        stepper(Narrow(room=0)).step(batch(), 0, 1.0)


def test_stepper__other_errors_are_not_about_memory():
    with pytest.raises(RuntimeError, match="expected input"):
        stepper().step({**batch(), "pixel_values": torch.zeros(6, 4, 8, 8)}, 0, 1.0)


@pytest.mark.slow
def test_stepper__survives_a_process_that_may_not_have_more_memory():
    code = """
    import resource, torch
    from torch import nn
    from lumora.data import Labels
    from lumora.tasks import Classification
    from lumora.training.optimizing import Optimizer, Rates
    from lumora.training.stepping import Stepper
    torch.set_num_threads(1)
    model = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(1)
    )
    told = []
    task = Classification(Labels(tuple(map(str, range(64)))))
    stepper = Stepper(model, task, Optimizer(model, (), Rates(0.01, 0.01)),
                      torch.device("cpu"), told=told.append)
    def batch(n): return {"pixel_values": torch.randn(n, 3, 256, 256), "labels": torch.zeros(n, dtype=torch.int64)}
    stepper.step(batch(1), 0, 1.0)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20, resource.RLIM_INFINITY))
    stepped = stepper.step(batch(32), 1, 1.0)
    print(stepped.changed, stepper.micro_batch < 32, told[0].split(";")[0])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.stdout == "True True Not enough memory for 32 pictures at a time\n", done.stderr


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_stepper__leaves_out_a_step_that_is_no_number(bad):
    one = stepper()
    before = {name: p.detach().clone() for name, p in one.optimizer.parameters.items()}
    pictures = batch()
    pictures["pixel_values"][0, 0, 0, 0] = bad
    assert not one.step(pictures, 0, 1.0).changed
    assert all(torch.equal(p, before[name]) for name, p in one.optimizer.parameters.items())
    assert one.step(batch(), 1, 1.0).changed


def test_stepper__draws_dropout_from_seed_step_and_process_alone():
    class Second(Alone):
        rank = 1

    def loss(number, **given):
        torch.manual_seed(torch.seed())
        one = stepper(**given)
        one.model.train()
        torch.rand(3)
        return one.step(batch(), number, 1.0).loss

    assert loss(3) == loss(3)
    assert len({loss(3), loss(4), loss(3, processes=Second()), loss(3, seed=1)}) == 4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_stepper__in_half_precision_learns_the_same_thing_roughly(precision):
    full, half = stepper(), stepper(precision=precision)
    one, other = full.step(batch(), 0, 1.0), half.step(batch(), 0, 1.0)
    assert other.loss == pytest.approx(one.loss, rel=0.02)
    assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=0.1)
    assert all(p.dtype == torch.float32 for p in half.optimizer.parameters.values())


def test_stepper__in_fp16_lowers_a_scaling_that_is_too_large_and_says_that_it_was_that():
    class Steep(Classification):
        def losses(self, *given):
            return 300 * super().losses(*given)

    one = stepper(precision="fp16", task=Steep(LABELS))
    before = {name: p.detach().clone() for name, p in one.optimizer.parameters.items()}
    steps = [one.step(batch(), 0, 1.0)]
    assert (steps[0].changed, steps[0].overflowed) == (False, True)
    assert all(torch.equal(p, before[name]) for name, p in one.optimizer.parameters.items())
    while not steps[-1].changed:
        steps.append(one.step(batch(), 0, 1.0))
        assert len(steps) < 17
    assert not steps[-1].overflowed
    assert one.state()["scaler"]["scale"] == 2.0 ** (16 - (len(steps) - 1))
