"""Two real processes: DDP and FSDP2 give what one process gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from tests.lora.models import workers
from torch import Tensor

from lumora import PeftModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def _in_two_processes(work: Callable[[int, str], None], folder: Path) -> None:
    mp.start_processes(work, args=(str(folder),), nprocs=workers.WORLD, start_method="spawn")


def _in_one_process(steps: int) -> tuple[list[dict[str, Tensor]], PeftModel]:
    """Gradients of each step on the whole batch, and the model afterwards."""
    model = workers.adapted()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        workers.loss_of(model, *workers.batch()).backward()
        seen.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        optimizer.step()
    return seen, model


def _assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], msg=name)


def test_ddp__has_the_gradients_of_one_process_on_the_whole_batch(tmp_path: Path) -> None:
    _in_two_processes(workers.data_parallel, tmp_path)
    expected, model = _in_one_process(steps=2)
    found = torch.load(tmp_path / "gradients.pt")
    for ours, theirs in zip(found, expected, strict=True):
        _assert_equal(ours, theirs)
    loaded = PeftModel.from_pretrained(workers.base(), tmp_path / "adapter").eval()
    x, _ = workers.batch()
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model.eval()(x))


def test_fsdp2__has_the_gradients_of_one_process_and_its_adapter_can_be_gathered(tmp_path: Path) -> None:
    _in_two_processes(workers.fully_sharded, tmp_path)
    (expected,), model = _in_one_process(steps=1)
    _assert_equal(torch.load(tmp_path / "gradients.pt"), expected)
    loaded = PeftModel.from_pretrained(workers.base(), tmp_path / "adapter").eval()
    x, _ = workers.batch()
    with torch.no_grad():
        output = model.eval()(x)
        torch.testing.assert_close(loaded(x), output)
    for sharded in torch.load(tmp_path / "outputs.pt"):
        torch.testing.assert_close(sharded, output)
