"""The canvas against a rasteriser of its own: in a polygon is what a ray leaves by an odd number of crossings."""

import math

import numpy as np
import pytest

from lumora.data.scenes.canvas import Canvas, Paint, mask_of


def inside(points, x, y):
    """For each (x, y): whether it lies in the polygon, by the crossing number."""
    crossings = np.zeros(np.broadcast(x, y).shape, int)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        if y0 != y1:
            at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            crossings += ((y0 > y) != (y1 > y)) & (x < at)
    return crossings % 2 == 1


def away(points, x, y):
    """The distance of each (x, y) from the polygon's outline."""
    nearest = np.full(np.broadcast(x, y).shape, np.inf)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        dx, dy = x1 - x0, y1 - y0
        share = np.clip(((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - share * dx, y - y0 - share * dy))
    return nearest


def star(middle, radius, spikes):
    turns = [math.pi * i / spikes + 0.2 for i in range(2 * spikes)]
    reach = [radius if i % 2 else radius * 0.45 for i in range(2 * spikes)]
    return [(middle[0] + r * math.cos(a), middle[1] + r * math.sin(a)) for a, r in zip(turns, reach, strict=True)]


def mask_on(canvas):
    return mask_of(canvas.numbers(), np.array([paint.kind for paint in canvas.paints], np.uint8))


@pytest.mark.parametrize("height", [48, 131])
def test_polygon__mask_is_the_class_of_the_front_shape_at_every_pixel(height):
    canvas = Canvas(height, height * 3 // 2)
    shapes = [star((0.5, 0.4), 0.35, 5), star((0.9, 0.6), 0.3, 7), [(0.1, 0.7), (1.2, 0.62), (1.1, 0.9), (0.2, 0.95)]]
    canvas.new(Paint(0, (0, 0, 0)))
    for i, points in enumerate(shapes):
        canvas.polygon([v for point in points for v in point], canvas.new(Paint(i + 3, (0, 0, 0))))
    y, x = (np.mgrid[: canvas.height, : canvas.columns] + 0.5) / height
    expected, clear = np.zeros(x.shape, int), np.ones(x.shape, bool)
    for i, points in enumerate(shapes):
        expected[inside(points, x, y)] = i + 3
        clear &= away(points, x, y) > 1 / height  # nearer than a pixel an outline may go either way
    mask = mask_on(canvas)
    assert clear.mean() > 0.6
    assert np.array_equal(mask[clear], expected[clear])


def test_ellipse__is_where_its_equation_says():
    canvas = Canvas(100, 100)
    canvas.new(Paint(0, (0, 0, 0)))
    canvas.ellipse(0.4, 0.5, 0.3, 0.2, canvas.new(Paint(1, (0, 0, 0))))
    y, x = (np.mgrid[:100, :100] + 0.5) / 100
    value = np.hypot((x - 0.4) / 0.3, (y - 0.5) / 0.2)
    mask = mask_on(canvas)
    assert np.all(mask[value < 0.95] == 1)
    assert np.all(mask[value > 1.05] == 0)


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((0, 0, 0, 1), 5),  # three points against one
        ((0, 1, 1, 1), 6),
        ((0, 1, 0, 1), 6),  # a tie: the one in front
        ((2, 1, 2, 1), 7),
        ((0, 3, 1, 1), 5),  # two numbers of the same class count together: a tie of 5 and 6, and 3 is in front
        ((0, 1, 2, 3), 5),
    ],
)
def test_mask_of__commonest_class_of_the_four_points(corners, expected):
    numbers = np.array(corners, np.intp).reshape(2, 2)
    assert mask_of(numbers, np.array([5, 6, 7, 5], np.uint8)).tolist() == [[expected]]
