"""The threads of a pool: some load what lies here, others what comes over the network, one looks into folders."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

_AT_ONCE = 4
"""Bundles that are being loaded at the same time; as many more may come over the network."""


class Threads:
    """Do work for others, which wait for it. What is slow because of a network keeps only its like waiting."""

    def __init__(self) -> None:
        self._loading = ThreadPoolExecutor(_AT_ONCE, "lumora-loading")
        self._fetching = ThreadPoolExecutor(_AT_ONCE, "lumora-fetching")
        self._looking = ThreadPoolExecutor(1, "lumora-looking")
        self._working: set[Future[Any]] = set()

    @property
    def busy(self) -> bool:
        """Whether something is being worked on, or waits for it."""
        return bool(self._working)

    def load(self, work: Callable[[], Result], is_far: Callable[[], bool]) -> Future[Result]:
        """What a function gives that takes long; `is_far` says whether it may wait for a network."""
        return self._begin(self._loading, work, is_far)

    def look(self, work: Callable[[], Result], is_far: Callable[[], bool] | None = None) -> Future[Result]:
        """What a function gives that reads a file or two."""
        return self._begin(self._looking, work, is_far)

    def close(self) -> None:
        """Begin nothing more; what has begun goes on."""
        for threads in (self._loading, self._fetching, self._looking):
            threads.shutdown(wait=False, cancel_futures=True)

    def _begin(
        self, threads: ThreadPoolExecutor, work: Callable[[], Result], is_far: Callable[[], bool] | None
    ) -> Future[Result]:
        coming: Future[Result] = Future()
        coming.set_running_or_notify_cancel()  # none of those who wait for it can cancel it for the others
        self._working.add(coming)
        coming.add_done_callback(self._working.discard)
        self._submit(threads, coming, work, is_far)
        return coming

    def _submit(self, threads: ThreadPoolExecutor, coming: Future[Result], *given: Any) -> None:
        try:
            submitted = threads.submit(self._run, coming, *given)
        except RuntimeError as error:  # they are closed
            coming.set_exception(error)
            return
        submitted.add_done_callback(lambda done: coming.set_exception(CancelledError()) if done.cancelled() else None)

    def _run(self, coming: Future[Result], work: Callable[[], Result], is_far: Callable[[], bool] | None) -> None:
        if is_far is not None and _said(is_far):
            self._submit(self._fetching, coming, work, None)
            return
        try:
            result = work()
        except BaseException as error:
            coming.set_exception(error)
            del coming  # else the error would hold what holds it
        else:
            coming.set_result(result)


def _said(is_far: Callable[[], bool]) -> bool:
    try:
        return is_far()
    except Exception:
        return False  # the work itself will find what is wrong, and say it to whom waits
