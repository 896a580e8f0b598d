"""Colour alone must not solve either task: baselines that see nothing else stay low, one that sees places does not."""

import numpy as np
import pytest

from lumora.data.scenes import CLASSES, KINDS, scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def train():
    return [scene(21, index, 64) for index in range(640)]


@pytest.fixture(scope="module")
def test():
    return [scene(22, index, 64) for index in range(320)]


def histograms(scenes):
    rows = []
    for made in scenes:
        bins = (made.picture.reshape(-1, 3) // 32).astype(int) @ [64, 8, 1]
        rows.append(np.sqrt(np.bincount(bins, minlength=512) / len(bins)))
    return np.array(rows)


def test_kind__colour_histograms_do_not_tell_it(train, test):
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(200, min_samples_leaf=2, random_state=0)
    model.fit(histograms(train), [made.kind for made in train])
    assert model.score(histograms(test), [made.kind for made in test]) < 0.5


def test_kind__what_stands_where_tells_it(train, test):
    """The share of each class in each ninth of the mask."""
    from sklearn.ensemble import RandomForestClassifier

    def shares(scenes):
        ninths = [[part for row in np.array_split(s.mask, 3) for part in np.array_split(row, 3, 1)] for s in scenes]
        return [np.concatenate([np.bincount(p.ravel(), minlength=len(CLASSES)) / p.size for p in n]) for n in ninths]

    model = RandomForestClassifier(200, random_state=0).fit(shares(train), [made.kind for made in train])
    assert model.score(shares(test), [made.kind for made in test]) > 0.85
    assert len(KINDS) == 8


def test_mask__a_pixels_colour_does_not_tell_it(train, test):
    from sklearn.ensemble import RandomForestClassifier

    def pixels(scenes, each):
        chosen = np.random.default_rng(0).integers(0, 64 * 64, each)
        colours = np.concatenate([s.picture.reshape(-1, 3)[chosen] for s in scenes])
        return colours, np.concatenate([s.mask.ravel()[chosen] for s in scenes])

    model = RandomForestClassifier(40, min_samples_leaf=5, random_state=0).fit(*pixels(train, 60))
    colours, truth = pixels(test, 200)
    predicted = model.predict(colours)
    ious = [
        ((predicted == i) & (truth == i)).sum() / max(1, ((predicted == i) | (truth == i)).sum()) for i in range(18)
    ]
    assert np.mean(ious) < 0.2
