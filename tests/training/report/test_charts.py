import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumora.training.report.charts import line_chart, several_lines, ticks
from lumora.training.report.curves import course

NUMBERS = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


@given(NUMBERS, NUMBERS)
def test_ticks__are_few_even_and_around_everything(one, other):
    low, high = sorted((one, other))
    marks = ticks(low, high)
    assert 3 <= len(marks) <= 8
    room = 1e-6 * max(abs(low), abs(high))
    assert marks[0] <= low + room
    assert marks[-1] >= high - room
    steps = [after - before for before, after in pairwise(marks)]
    assert min(steps) > 0
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


@given(st.lists(st.one_of(st.none(), NUMBERS, st.just(math.nan)), min_size=1, max_size=80))
def test_line_chart__keeps_every_measurement_inside_and_in_order(values):
    chart = line_chart("Loss", list(enumerate(values)), str)
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        assert chart is None
        return
    places = [[float(n) for n in pair.split()] for line in chart.lines for pair in line[1:].split("L")]
    places += [[point.x, point.y] for point in chart.points]
    assert all(chart.left <= x <= chart.right and 0 <= y <= chart.bottom for x, y in places)
    if chart.points:
        assert len(chart.points) == len(known)
        order = sorted(range(len(known)), key=known.__getitem__)
        heights = [chart.points[i].y for i in order]
        assert heights == sorted(heights, reverse=True)


def test_line_chart__is_broken_where_nothing_was_measured():
    chart = line_chart("Loss", list(enumerate([1.0, 2.0, None, 4.0, None, 1.0, 2.0])), str)
    assert len(chart.lines) == 2
    assert len(chart.points) == 5


def test_several_lines__share_their_axes():
    one, two = list(enumerate([1.0, 2.0])), list(enumerate([0.0, None, 4.0]))
    chart = several_lines("Loss", [("one", one), ("none", [(0, None)]), ("two", two)], str)
    alone = line_chart("Loss", [(0, 0.0), (1, None), (2, 4.0)], str)
    assert (chart.rows, chart.columns) == (alone.rows, alone.columns)
    assert [series.name for series in chart.series] == ["one", "none", "two"]
    assert [len(series.points) for series in chart.series] == [2, 0, 2]
    assert chart.series[2].points == alone.points
    assert (
        chart.summary == "Loss: one, 1.0 after epoch 0, 2.0 after epoch 1; two, 0.0 after epoch 0, 4.0 after epoch 2."
    )
    assert several_lines("Loss", [("none", [(0, None)])], str) is None
    assert several_lines("Loss", [], str) is None


def test_course__of_an_epoch_that_was_ended_early_is_a_part_of_it():
    rows = [
        {"epoch": 0, "step": 0, "loss": None, "rate": 0.1, "is_best": True, "accuracy": 0.25, "seconds": 1.0},
        {"epoch": 1, "step": 10, "loss": 2.0, "rate": 0.1, "is_best": False, "accuracy": 0.125, "seconds": 2.0},
        {"epoch": 1, "step": 14, "loss": 1.0, "rate": 0.1, "is_best": True, "accuracy": 0.5, "seconds": 3.5},
    ]
    found = course(rows, "accuracy")
    assert (found.epochs, found.best_epoch, found.seconds, found.before) == (1, 1.4, 3.5, 0.25)
    assert [chart.title for chart in found.charts] == ["Loss", "Accuracy", "Learning rate"]
    assert [point.text for point in found.charts[0].points] == ["epoch 1: 2", "epoch 1.4: 1"]
    assert found.charts[1].best.text == "epoch 1.4: 50.0 %"


def test_course__of_no_rows_has_nothing_to_show():
    found = course([], "accuracy")
    assert (found.epochs, found.best_epoch, found.before, found.charts) == (0, None, None, ())
