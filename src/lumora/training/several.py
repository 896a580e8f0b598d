"""Several processes that train one model together: how they find each other, and how they talk.

`torchrun` and `accelerate launch` start them and say in the environment who is who. Nothing else of the training knows
`torch.distributed`.

Every message begins with whether its sender goes on. Whoever fails sends that as its next message; the others learn of
it where they wait, and nobody waits for one that is gone: the first that has failed tells why, and all end.
"""

from __future__ import annotations

import atexit
import functools
import os
import socket
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor

from lumora.errors import TrainingError
from lumora.tasks.metrics import Metrics
from lumora.training.processes import Alone, Processes

_PATIENCE = timedelta(days=7)
"""How long one waits for the others: evaluations, and what the first writes and verifies, may take long."""
_AT_ONCE = 32 * 2**20
"""Bytes of small tensors that travel together."""


class ToldElsewhere(SystemExit):
    """This process ends because another one has failed, which tells why."""

    def __init__(self) -> None:
        super().__init__(1)


@contextmanager
def taking_part() -> Generator[Processes]:
    """The processes that were started together with this one, until the end of the block.

    An error in the block ends all of them; one tells it. Of blocks in one another, the outermost sees to that.
    """
    processes = _all_of_us()
    if not isinstance(processes, Several) or processes.taking_part:
        yield processes
        return
    processes.taking_part = True
    try:
        yield processes
    except Exception:
        processes.fail()
        raise
    finally:
        processes.taking_part = False


def device_here() -> torch.device:
    """Where this process computes: each of several on a GPU of its own, where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if not _are_several() or "LOCAL_RANK" not in os.environ:
        return torch.device("cuda")
    number, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= gpus:
        raise TrainingError(
            f"There are {processes_on_this_machine()} processes on this machine, each of which needs a GPU of its own, "
            f"and {gpus} to be seen. Start as many: --nproc-per-node {gpus}."
        )
    return torch.device("cuda", number)


def processes_on_this_machine() -> int:
    """How many processes that train together share this machine's cores and memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if _are_several() else 1


class Several(Processes):
    """One of several processes that talk through `torch.distributed`, which has begun.

    Gradients travel between GPUs by NCCL. All else, and every wait, goes by gloo, which has patience and notices at
    once when a process is gone.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self._device = device
        self.taking_part = False
        """Whether it has begun what all do together."""
        self._talk = cast("dist.ProcessGroup", dist.new_group(backend="gloo", timeout=_PATIENCE))
        hosts = self._everyones(socket.gethostname())
        self._first_here = hosts.index(hosts[self.rank])

    def highest(self, mine: int) -> int:
        """The largest number that any of them gives; the end of this process where another has failed."""
        with self._lost_is_told():
            failed, largest = self._exchange(mine)
        if failed is not None:
            raise ToldElsewhere
        return largest

    def fail(self) -> None:
        """Let the others know that this process has failed; if one before it has, too, that one tells why."""
        with suppress(RuntimeError):  # there is nobody left to be told
            failed, _ = self._exchange(0, failed=True)
            if failed != self.rank:
                raise ToldElsewhere

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor the sum of everyone's, in place; small ones travel together."""
        self._travel(tensors, dist.all_reduce)

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor what it is in the first process, in place."""
        self._travel(tensors, functools.partial(dist.broadcast, src=0))

    def from_first(self, work: Callable[[], bytes]) -> bytes:
        """What `work` gives in the first process, which alone does it."""
        content = work() if self.is_first else b""
        self.wait()
        return self._told_by(0, content)

    def from_first_here(self, work: Callable[[], str]) -> str:
        """What `work` gives in the first process on this machine, which alone does it here."""
        return self._everyones(work() if self.rank == self._first_here else "")[self._first_here]

    def summed(self, metrics: Metrics) -> Metrics:
        """A copy with what all of them have counted."""
        self.wait()
        with self._lost_is_told():
            return metrics.to(self._device).summed()  # one that saw no picture has its counts elsewhere

    # --- messages -----------------------------------------------------------------------------------------------------

    def _exchange(self, number: int, *, failed: bool = False) -> tuple[int | None, int]:
        """The first of those that have failed, if any, and the largest number."""
        message = torch.tensor([self.world - self.rank if failed else 0, number])
        dist.all_reduce(message, dist.ReduceOp.MAX, group=self._talk)
        failing, largest = message.tolist()
        return self.world - failing if failing else None, largest

    def _travel(self, tensors: Sequence[Tensor], send: Callable[[Tensor], object]) -> None:
        self.wait()
        for some in _bundled(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in some])
            with self._lost_is_told():
                send(flat)
            for tensor, part in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(part.view(tensor.shape))

    def _everyones(self, mine: str) -> list[str]:
        """The texts of all, by rank."""
        self.wait()
        return [self._told_by(rank, mine.encode()).decode() for rank in range(self.world)]

    def _told_by(self, rank: int, mine: bytes) -> bytes:
        """What one of them has to tell."""
        with self._lost_is_told():
            size = torch.tensor(len(mine))
            dist.broadcast(size, rank, group=self._talk)
            if not size:
                return b""
            told = bytearray(mine if rank == self.rank else int(size))
            for part in torch.frombuffer(told, dtype=torch.uint8).split(_AT_ONCE):
                dist.broadcast(part, rank, group=self._talk)
        return bytes(told)

    @contextmanager
    def _lost_is_told(self) -> Generator[None]:
        """Where a process has gone without a word, the first one tells it."""
        try:
            yield
        except RuntimeError as error:
            if not self.is_first:
                raise ToldElsewhere from error
            raise TrainingError(
                f"One of the {self.world} processes has gone without saying why (killed, or out of memory?): "
                f"{str(error).splitlines()[0]}. `lumora resume`, started in the same way, goes on from the last "
                "checkpoint."
            ) from error


def _bundled(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one kind, of so many bytes together that one message is worth it."""
    bundle: list[Tensor] = []
    for tensor in tensors:
        full = sum(other.nbytes for other in bundle) + tensor.nbytes > _AT_ONCE
        if bundle and (full or (tensor.dtype, tensor.device) != (bundle[0].dtype, bundle[0].device)):
            yield bundle
            bundle = []
        bundle.append(tensor)
    if bundle:
        yield bundle


# --- beginning --------------------------------------------------------------------------------------------------------


def _are_several() -> bool:
    if dist.is_available() and dist.is_initialized():
        return dist.get_world_size() > 1
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _all_of_us() -> Processes:
    if not _are_several():
        return Alone()
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing and not dist.is_initialized():
        raise TrainingError(
            f"WORLD_SIZE is set, to {os.environ['WORLD_SIZE']}, but not {', '.join(missing)}: this process cannot find "
            "the others. Start them with torchrun; or unset WORLD_SIZE to train in one process."
        )
    return _begun()


@functools.cache
def _begun() -> Several:
    """One for as long as the program runs: processes find each other once."""
    device = device_here()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return Several(device)
