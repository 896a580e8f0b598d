"""Pictures of many requests in few batches: no larger than allowed, and waiting only when others are to be expected."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from lumora.serve.hosting.hosted import Computed, Seen, compute_together


@dataclass(frozen=True, eq=False)
class Answer:
    """What was computed, and how it came about."""

    computed: Computed
    batch: int
    """How many pictures were computed together."""
    bundles: int
    """How many bundles they belonged to."""
    waited: float
    """Seconds in the queue."""
    seconds: float
    """How long the batch took."""


@dataclass(eq=False)
class _Waiting:
    seen: Seen
    future: Future[Answer] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """A queue, and a thread that computes what is in it. Masks are left to whoever wants them: one may be large.

    A batch is of one company (`Hosted.company`). The oldest picture decides which; pictures that nobody waits for any
    more are left out. While a batch is computed the next one gathers. A batch that is not full yet waits for others,
    `max_wait` at most, if about one more is to be expected in that time; so a lone picture does not wait.

    Args:
        max_batch: the most pictures in a batch.
        max_wait: in seconds.
        listener: is told the number of pictures and bundles of each batch and the seconds that it took.
    """

    def __init__(
        self, max_batch: int, max_wait: float, listener: Callable[[int, int, float], None] | None = None
    ) -> None:
        self._max_batch, self._max_wait, self._listener = max_batch, max_wait, listener
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._gap = 1.0
        """Seconds between pictures that come, a running mean."""
        self._last = time.monotonic()
        self.seconds = 0.01
        """How long one picture takes, a running mean."""
        self._thread = threading.Thread(target=self._work, name="lumora-computing", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._queue)

    def submit(self, seen: Seen) -> Future[Answer]:
        """What will be predicted; cancel it when nobody waits for it any more."""
        waiting = _Waiting(seen)
        with self._changed:
            if self._closed:
                raise RuntimeError("The batcher is closed.")
            self._gap += 0.2 * (min(1.0, waiting.since - self._last) - self._gap)
            self._last = waiting.since
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Compute what is in the queue, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # --- in the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while batch := self._next():
            running = [one for one in batch if one.future.set_running_or_notify_cancel()]
            if running:
                self._compute(running)

    def _next(self) -> list[_Waiting]:
        """The next batch; an empty one at the end."""
        with self._changed:
            while True:
                self._forget_cancelled()
                if not self._queue:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                oldest = self._queue[0]
                company = oldest.seen.hosted.company
                found = [one for one in self._queue if one.seen.hosted.company == company][: self._max_batch]
                left = oldest.since + self._max_wait - time.monotonic()
                if len(found) == self._max_batch or left <= 0 or self._closed or self._gap > self._max_wait:
                    taken = set(map(id, found))
                    self._queue = deque(one for one in self._queue if id(one) not in taken)
                    return found
                self._changed.wait(left)

    def _forget_cancelled(self) -> None:
        while self._queue and self._queue[0].future.cancelled():
            self._queue.popleft()

    def _compute(self, batch: Sequence[_Waiting]) -> None:
        began = time.monotonic()
        try:
            computed = compute_together([one.seen for one in batch])
        except Exception as error:  # whatever it is, it must not reach the others in the batch
            self._alone(batch, error)
            return
        seconds, bundles = time.monotonic() - began, len({one.seen.hosted for one in batch})
        self.seconds += 0.2 * (seconds / len(batch) - self.seconds)
        if self._listener is not None:
            self._listener(len(batch), bundles, seconds)
        for one, own in zip(batch, computed, strict=True):
            one.future.set_result(Answer(own, len(batch), bundles, began - one.since, seconds))

    def _alone(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Find out which picture it is that a batch fails for."""
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        for one in batch:
            self._compute([one])
