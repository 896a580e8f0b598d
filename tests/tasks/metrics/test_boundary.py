"""The boundary F-score against its definition, with scipy's exact distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from lumora.tasks.metrics.boundary import Boundaries, _near


def outline(mask: np.ndarray, wanted: int, ignore: int) -> np.ndarray:
    """Pixels of a class that have a neighbour of another one, pixel by pixel."""
    found = np.zeros(mask.shape, dtype=bool)
    for y, x in np.argwhere(mask == wanted):
        for other_y, other_x in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= other_y < mask.shape[0] and 0 <= other_x < mask.shape[1]:
                found[y, x] |= mask[other_y, other_x] not in (wanted, ignore)
    return found


def by_definition(pairs, classes, tolerance, ignore=255) -> list[float | None]:
    scores: list[list[float]] = [[] for _ in range(classes)]
    for predicted, labels in pairs:
        predicted = np.where(labels == ignore, ignore, predicted)
        reach = tolerance * np.hypot(*labels.shape)
        for c in range(classes):
            own, true = outline(predicted, c, ignore), outline(labels, c, ignore)
            if not own.any() and not true.any():
                continue
            precision = recall = 0.0
            if own.any() and true.any():
                precision = (distance_transform_edt(~true)[own] <= reach).mean()
                recall = (distance_transform_edt(~own)[true] <= reach).mean()
            total = precision + recall
            scores[c].append(2 * precision * recall / total if total else 0.0)
    return [float(np.mean(s)) if s else None for s in scores]


def blobs(seed: int, size: tuple[int, int], classes: int) -> np.ndarray:
    """A mask of a few large regions."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (classes, 2)) * size
    grid = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), -1)
    return np.linalg.norm(grid[:, :, None] - points, axis=-1).argmin(-1).astype(np.uint8)


def pictures(classes: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    pairs = []
    for seed, size in enumerate([(40, 52), (33, 24), (20, 20)]):
        labels = blobs(seed, size, classes - 1)
        predicted = np.roll(labels, (seed + 1, -1), (0, 1))
        predicted[5:9, 5:9] = seed
        labels[:4] = 255
        pairs.append((predicted, labels))
    return pairs


@pytest.mark.parametrize("tolerance", [0.0, 0.0075, 0.03, 0.08])
def test_boundary_f__is_its_definition(tolerance):
    counter = Boundaries(6, 255, tolerance)
    for predicted, labels in pictures():
        counter.update(torch.from_numpy(predicted), torch.from_numpy(labels))
    expected = by_definition(pictures(), 6, tolerance)
    assert expected[-1] is None
    for found, wanted in zip(counter.scores(), expected, strict=True):
        assert found == (None if wanted is None else pytest.approx(wanted, abs=1e-7))


def test_boundary_f__many_classes():
    labels = torch.arange(400).view(20, 20) // 20
    counter = Boundaries(20, 255, 0.01)
    counter.update(labels, labels)
    assert counter.scores() == [1.0] * 20


@pytest.mark.parametrize(("classes", "ignore"), [(300, 255), (200, -100)])
def test_boundary_f__masks_of_eight_bits_are_compared_as_numbers(classes, ignore):
    labels = torch.zeros(20, 20, dtype=torch.uint8)
    labels[:, 10:] = 156  # what -100 is in eight bits; 300 would be 44
    counter = Boundaries(classes, ignore, 0.01)
    counter.update(labels, labels)
    assert counter.scores()[0] == counter.scores()[156] == 1


def test_boundary_f__a_picture_of_one_class_has_no_outline():
    counter = Boundaries(2, 255, 0.01)
    counter.update(torch.zeros(8, 8), torch.zeros(8, 8))
    assert counter.scores() == [None, None]


def test_boundary_f__a_class_that_is_only_predicted_scores_nothing():
    counter = Boundaries(2, 255, 0.01)
    predicted = torch.zeros(8, 8)
    predicted[2:4, 2:4] = 1
    counter.update(predicted, torch.zeros(8, 8))
    assert counter.scores() == [0.0, 0.0]


@pytest.mark.parametrize("reach", [0.0, 1.0, 1.5, 2.9, 5.43, 100.0])
def test_near__is_within_euclids_distance_of_the_same_class(reach):
    generator = torch.Generator().manual_seed(0)
    ones, others = (torch.randint(-60, 2, (30, 17), generator=generator).clamp(min=-1) for _ in range(2))
    expected = np.zeros((30, 17), dtype=bool)
    for c in (0, 1):
        expected |= (ones == c).numpy() & (distance_transform_edt((others != c).numpy()) <= reach)
    assert np.array_equal(_near(ones, others, reach).numpy(), expected[(ones >= 0).numpy()])
