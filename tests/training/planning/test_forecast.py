"""Arithmetic by hand: how a few measured steps become a whole training."""

from __future__ import annotations

import dataclasses

import pytest

from lumora.training import parse_asked
from lumora.training.planning.forecast import Course, memory, time
from lumora.training.planning.probed import Probed

PROBED = Probed(
    first_steps=[9.0, 3.0, 4.0],
    later_steps=[8.0, 1.0, 2.0],
    evaluation=0.1,
    evaluated=15,
    before=5.0,
    between=0.5,
    after=7.0,
    most_held=1000,
    held_before=400,
    held_after=900,
    readers=50,
    on_device=None,
    fingerprint=None,
    notes=[],
)
COURSE = Course(steps_in_epoch=10, epochs=3, batch_size=8, pictures_validation=20)
SELDOM = parse_asked({"run.checkpoint_every": 1e6})
# Before and after the steps, with two evaluations of 20 pictures, of which 15 are counted already. To decode one takes
# (3.5 - 1.5) / 8 seconds.
AROUND = 5.0 + 7.0 + 5 * (2 * 0.1 + 0.25)


def test_time__adds_up_steps_evaluations_and_what_is_around_them():
    found = time(PROBED, COURSE, SELDOM)
    epochs = 3 * (20 * 0.1 + 0.5)
    assert found.least == pytest.approx(10 * 3 + 20 * 1 + epochs + AROUND)
    assert found.most == pytest.approx(10 * 4 + 20 * 2 + epochs + AROUND)
    assert found.step == (1.0, 2.0)
    assert found.evaluation == pytest.approx(2.0)


def test_time__counts_checkpoints_between_epochs():
    often = time(PROBED, COURSE, parse_asked({"run.checkpoint_every": 10.0}))
    # 10 × 3 + 20 × 1 + 7.5 seconds hold five times ten.
    assert often.least - time(PROBED, COURSE, SELDOM).least == pytest.approx(5 * 0.5)


def test_time__ends_where_it_is_limited():
    limited = time(PROBED, COURSE, parse_asked({"run.checkpoint_every": 1e6, "train.max_time": 20.0}))
    assert limited.least == limited.most == pytest.approx(20 + AROUND)


def test_time__of_steps_so_slow_that_there_were_two():
    slow = dataclasses.replace(PROBED, first_steps=[40.0, 30.0], later_steps=[], evaluation=0.0, evaluated=0)
    found = time(slow, dataclasses.replace(COURSE, pictures_validation=0), SELDOM)
    assert found.least == pytest.approx(30 * 30.0 + 3 * 0.5 + 5 + 7)
    assert found.most == pytest.approx(30 * 40.0 + 3 * 0.5 + 5 + 7)


def test_time__of_a_head_that_is_trained_first_sees_each_picture_once_more():
    first = time(PROBED, COURSE, parse_asked({"run.checkpoint_every": 1e6, "train.head_first": 5}))
    assert first.least - time(PROBED, COURSE, SELDOM).least == pytest.approx(80 * 0.1)


def test_memory__holds_everything_that_is_there_at_once():
    found = memory(PROBED, kept_pictures=7)
    assert (found.process, found.pictures, found.readers) == (1000, 7, 50)
    # At the end the process holds 900, and the one that verifies as much as this one with its model: 400.
    assert found.verifying == 300
    assert found.whole == 1357


def test_memory__is_unknown_where_the_system_does_not_tell():
    assert memory(dataclasses.replace(PROBED, most_held=None), kept_pictures=7) is None
