"""The worst mistakes, with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lumora.data import Sample
from lumora.data.labels import Labels
from lumora.errors import DataError
from lumora.tasks import LabelPrediction
from lumora.tasks.worst import Judged
from lumora.training.report.thumbnails import Thumbnail, thumbnail

_LONGEST = 240


@dataclass(frozen=True)
class Said:
    """A label, and how probable the model thought it."""

    name: str
    probability: float


@dataclass(frozen=True)
class LabelMistake:
    """A picture that got a wrong label, or of which labels are wrong."""

    key: str
    picture: Thumbnail
    said: tuple[Said, ...]
    """Said and wrong."""
    meant: tuple[Said, ...]
    """Right and not said."""

    @property
    def text(self) -> str:
        """What is to be seen, for those who cannot."""
        said, meant = (", ".join(label.name for label in labels) for labels in (self.said, self.meant))
        return f"{self.key}: said {said or 'nothing wrong'}, missed {meant or 'nothing'}"


def label_mistakes(
    worst: Sequence[Judged[LabelPrediction]], samples: Sequence[Sample], labels: Labels
) -> list[LabelMistake]:
    """The worst mistakes; pictures that cannot be read any more are left out."""
    found: list[LabelMistake] = []
    for judged in worst:
        try:
            picture = thumbnail(samples[judged.place].picture(), _LONGEST)
        except DataError:
            continue
        said, right = set(judged.prediction.chosen), _right(judged.target)
        known = _known(judged.target, len(labels))
        found.append(
            LabelMistake(
                judged.key,
                picture,
                _with_probabilities((said - right) & known, judged.prediction.probabilities, labels),
                _with_probabilities((right - said) & known, judged.prediction.probabilities, labels),
            )
        )
    return found


def _right(target: Tensor) -> set[int]:
    """The ids of the right labels, of one that is an id or a row of ones."""
    return {int(target)} if target.dim() == 0 else set((target > 0).nonzero().flatten().tolist())


def _known(target: Tensor, classes: int) -> set[int]:
    return set(range(classes)) if target.dim() == 0 else set((target >= 0).nonzero().flatten().tolist())


def _with_probabilities(ids: set[int], probabilities: Tensor, labels: Labels) -> tuple[Said, ...]:
    values: list[Any] = probabilities.tolist()
    return tuple(Said(labels.names[i], values[i]) for i in sorted(ids, key=lambda i: -values[i]))
