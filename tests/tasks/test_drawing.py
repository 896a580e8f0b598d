from __future__ import annotations

import pytest
import torch

from lumora.data import Labels
from lumora.tasks.drawing import legend, overlay, with_caption, with_legend

LABELS = Labels(("sky", "sea", "boat"), ((0, 0, 255), (0, 255, 0), (255, 0, 0)))


def test_overlay__mixes_each_pixel_with_its_classs_colour():
    picture = torch.full((3, 1, 3), 100, dtype=torch.uint8)
    drawn = overlay(picture, torch.tensor([[0, 2, 255]]), LABELS.palette(), opacity=0.5, ignore=255)
    assert drawn[:, 0, 0].tolist() == [50, 50, 178]
    assert drawn[:, 0, 1].tolist() == [178, 50, 50]
    assert drawn[:, 0, 2].tolist() == [100, 100, 100]


@pytest.mark.parametrize(("opacity", "expected"), [(0.0, [100, 100, 100]), (1.0, [0, 255, 0])])
def test_overlay__from_the_picture_to_the_bare_mask(opacity, expected):
    drawn = overlay(torch.full((3, 1, 1), 100, dtype=torch.uint8), torch.tensor([[1]]), LABELS.palette(), opacity)
    assert drawn[:, 0, 0].tolist() == expected


def colours_of(page):
    return {tuple(pixel) for pixel in page.permute(1, 2, 0).reshape(-1, 3).tolist()}


def test_legend__shows_the_classes_that_are_there_and_no_others():
    mask = torch.tensor([[0, 0, 0, 2, 255]]).repeat(4, 1)
    shown = colours_of(legend(mask, LABELS, 100))
    assert {(0, 0, 255), (255, 0, 0)} <= shown
    assert (0, 255, 0) not in shown


def test_legend__more_classes_than_lines():
    labels = Labels(tuple(f"class {i}" for i in range(100)))
    page = legend(torch.arange(100).view(10, 10), labels, 64)
    assert page.shape[:2] == (3, 64)


def test_with_legend__stands_right_of_the_picture():
    picture = torch.randint(0, 255, (3, 40, 50), dtype=torch.uint8)
    drawn = with_legend(picture, torch.full((40, 50), 255), LABELS)
    assert torch.equal(drawn[:, :, :50], picture)
    assert drawn.shape[2] > 50


@pytest.mark.parametrize("size", [(1, 1), (20, 30), (300, 500)])
@pytest.mark.parametrize("text", ["cat  97%", "a name " * 100, "Köln · Ελλάδα · 京都", ""])
def test_with_caption__any_size_and_text(size, text):
    picture = torch.randint(0, 255, (3, *size), dtype=torch.uint8)
    drawn = with_caption(picture, [text, text])
    assert drawn.shape[1] > size[0] and drawn.shape[2] >= size[1]
    left = (drawn.shape[2] - size[1]) // 2
    assert torch.equal(drawn[:, : size[0], left : left + size[1]], picture)
