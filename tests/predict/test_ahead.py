import threading

import pytest

from lumora.predict.ahead import ahead


def test_ahead__keeps_the_order_though_later_ones_are_done_first():
    later = threading.Event()

    def work(number):
        if number == 0:
            assert later.wait(60)
        later.set()
        return number * 10

    assert list(ahead(work, range(8), 8)) == [(i, 10 * i) for i in range(8)]


def test_ahead__takes_no_more_than_it_may():
    taken = []
    results = ahead(str, (taken.append(i) or i for i in range(100)), 5)
    for done in range(1, 50):
        next(results)
        assert len(taken) == done + 4


def test_ahead__errors_come_when_it_is_their_turn():
    results = ahead(lambda number: 1 / number, [1, 2, 0, 4], 4)
    assert [next(results), next(results)] == [(1, 1.0), (2, 0.5)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_ahead__whoever_stops_early_leaves_no_threads_and_no_work():
    done = []
    results = ahead(done.append, range(10**6), 1000)
    next(results)
    results.close()
    assert len(done) <= 1000
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lumora-reading")]
