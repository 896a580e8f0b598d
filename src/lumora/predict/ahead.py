"""Doing things in threads before their turn comes."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], count: int) -> Generator[tuple[Item, Result]]:
    """Each item with what `work` makes of it, in order; up to `count` items are taken and worked on ahead.

    Items are taken in the thread that asks for the next one, and never more than `count` are held.

    >>> list(ahead(len, ["one", "three"], count=4))
    [('one', 3), ('three', 5)]
    """
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), "lumora-reading")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= count:
                yield _next(waiting)
        while waiting:
            yield _next(waiting)
    finally:
        pool.shutdown(cancel_futures=True)  # whoever stops early does not wait for what is left


def _next(waiting: deque[tuple[Item, Future[Result]]]) -> tuple[Item, Result]:
    item, future = waiting.popleft()
    return item, future.result()


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of this size; the last may be shorter.

    >>> list(in_batches("abc", 2))
    [['a', 'b'], ['c']]
    """
    iterator = iter(items)
    return iter(lambda: list(itertools.islice(iterator, size)), [])
