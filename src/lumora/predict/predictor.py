"""A bundle put to work: predictions of pictures, alone or by the thousand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lumora.bundle import About, Loaded
from lumora.bundle import load as load_bundle
from lumora.data.labels import Labels
from lumora.data.reading import Limits
from lumora.data.sample import Sample, Source, TaskName
from lumora.errors import DataError, InputError
from lumora.predict.ahead import ahead, in_batches
from lumora.predict.evaluating import measure, task_of
from lumora.predict.measured_data import Reading, to_measure
from lumora.predict.pictures import Picture, is_one, pictures
from lumora.predict.telling import bare, tell
from lumora.tasks import LabelPrediction, MaskPrediction
from lumora.tasks.base import logits_of
from lumora.tasks.metrics.base import Scores

Prediction = LabelPrediction | MaskPrediction
"""What is said of one picture: labels with probabilities, or a mask of the picture's own size."""


def load(
    bundle: str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    base: str | nn.Module | None = None,
    allow_other_base: bool = False,
    limits: Limits | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Predictor:
    """A bundle, ready to predict; it is checked first, see `lumora.bundle.load`.

    Args:
        bundle: its folder, or the name of its repository on the Hub.
        device: where it computes; on a GPU if there is one, unless you say otherwise.
        base: where the base lies now, or the base itself as it was before training; only for a base that cannot be
            loaded by its name.
        allow_other_base: go on where the base's weights are others than in training.
        limits: larger pictures are refused before they are decoded.
        revision: of a repository, the branch, tag or commit.
        token: for a private repository; the one that you have logged in with if not said.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_bundle(
        bundle, base=base, device=device, allow_other_base=allow_other_base, revision=revision, token=token
    )
    return Predictor(loaded, limits=limits)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What the model sees of a picture."""

    pixels: Tensor
    """`uint8`; they become numbers a batch at a time, on the model's device."""
    size: tuple[int, int]
    """Height and width of the picture itself."""


class Predictor:
    """Predicts with a bundle's model. `lumora.load(bundle)` makes one.

    A picture is a path, the bytes of a file, a Pillow image, a numpy array (H, W, 3) or a tensor (3, H, W) of `uint8`
    in RGB, or a sample of `lumora.data`; several are a folder or anything that can be iterated over. They are turned
    upright as their EXIF data say, become RGB as training pictures do, and are preprocessed as the bundle says. What is
    predicted of a picture does not depend on those beside it in the batch.

    Args:
        loaded: what `lumora.bundle.load` gave.
        limits: larger files are refused before they are decoded.
    """

    def __init__(self, loaded: Loaded, *, limits: Limits | None = None) -> None:
        self.model: nn.Module = loaded.model
        """The model, in eval mode."""
        self.about: About = loaded.about
        """All that the bundle says of itself."""
        self.limits = limits or Limits()
        self._asked = limits
        self._task = task_of(loaded.about)
        self._preprocessing = loaded.about.at_size

    @property
    def labels(self) -> Labels:
        """The names of the classes, in the order of their ids."""
        return self.about.labels

    @property
    def task(self) -> TaskName:
        """`"classification"`, `"multilabel"` or `"segmentation"`."""
        return self.about.task

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._like.device

    # --- predictions --------------------------------------------------------------------------------------------------

    def predict(self, given: object, batch_size: int = 8, *, skip_bad: bool = False) -> Any:
        """The prediction of one picture, or a list of those of several.

        If pictures cannot be read, one error names all of them; with `skip_bad`, each is warned about and has None in
        its place.

        Args:
            given: a picture, or several.
            batch_size: how many the model sees at once.
            skip_bad: go on without pictures that cannot be read.
        """
        predictions: list[Prediction | None] = []
        bad: list[DataError] = []
        count = 0
        for group in self._groups(given, batch_size):
            count += len(group)
            bad += _errors(group)
            if bad and not skip_bad:
                continue  # the rest is only read, to name all that cannot be
            for result in self._predicted(group):
                predictions.append(None if isinstance(result, DataError) else result)
        tell(bad, count, skip_bad)
        return predictions[0] if is_one(given) else predictions

    def stream(self, given: object, batch_size: int = 8, *, skip_bad: bool = False) -> Iterator[tuple[str, Prediction]]:
        """The predictions of many pictures one after the other, each with its picture's key.

        A file's key is its path; other pictures are called `picture 0`, `picture 1`, … by their place. No more than
        three batches are held, however many there are; the next are read while the model works. Pictures that cannot be
        read are named in one error at the end, when all others are done; with `skip_bad`, each is warned about in its
        turn.
        """
        bad: list[DataError] = []
        count = 0
        for picture, result in self.each(given, batch_size):
            count += 1
            if not isinstance(result, DataError):
                yield picture.key, result
            elif skip_bad:
                tell([result], 1, skip_bad)
            else:
                bad.append(result)
        tell(bad, count, skip_bad)

    def each(self, given: object, batch_size: int = 8) -> Iterator[tuple[Picture, Prediction | DataError]]:
        """The same with the pictures themselves; where one cannot be read, the reason is in the prediction's place."""
        for group in self._groups(given, batch_size):
            yield from zip((picture for picture, _ in group), self._predicted(group), strict=True)

    def draw(self, picture: object, prediction: Prediction) -> Tensor:
        """A picture with what was predicted on it or below it: `uint8` (3, H, W)."""
        if not is_one(picture):
            raise InputError("Only one picture is drawn at a time.")
        pixels = next(pictures(picture, self.limits)).picture()
        if isinstance(prediction, MaskPrediction) and prediction.mask.shape != pixels.shape[1:]:
            (height, width), (wanted_height, wanted_width) = prediction.mask.shape, pixels.shape[1:]
            raise InputError(
                f"The mask is {width} x {height} pixels and the picture {wanted_width} x {wanted_height}: it is "
                "another picture's."
            )
        return self._task.draw(pixels, prediction)

    # --- measuring ----------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        data: Source | Sequence[Sample] | str | Path,
        *,
        split: str | None = None,
        batch_size: int | None = None,
        skip_bad: bool = False,
    ) -> Scores:
        """How good the predictions are, by the task's metrics; for segmentation at the size of each mask.

        It is what the training did after each epoch, and gives the same scores. The metrics prove themselves first.

        Args:
            data: a source, a split of one, or where the data lie. Classes are matched with the bundle's by their names.
            split: which one of a source; `"test"` or else `"validation"` if not said.
            batch_size: how many the model sees at once; as in training if not said.
            skip_bad: leave out samples that cannot be read or have no label, with a warning of each.
        """
        reading = Reading(limits=self._asked)
        chosen = to_measure(data, self.about, split, reading)
        measured = measure(
            self.model,
            self.about,
            chosen.samples,
            batch_size=None if batch_size is None else _checked(batch_size),
            skip_bad=skip_bad,
        )
        tell([error for _, error in measured.skipped], len(chosen.samples), skip_bad)
        return measured.scores

    # --- inside -------------------------------------------------------------------------------------------------------

    def _groups(self, given: object, batch_size: int) -> Iterator[list[tuple[Picture, _Seen | DataError]]]:
        """Every picture with what the model will see of it, a batch at a time."""
        return in_batches(ahead(self._look, pictures(given, self.limits), 2 * _checked(batch_size)), batch_size)

    def _predicted(self, group: Sequence[tuple[Picture, _Seen | DataError]]) -> list[Prediction | DataError]:
        """The predictions of a batch, with the reason where there is none."""
        seen = _whole(group)
        said: Iterator[Prediction] = iter(())
        if seen:
            said = iter(self._task.predict(self._logits(seen), [one.size for one in seen]))
        return [result if isinstance(result, DataError) else next(said) for _, result in group]

    def _look(self, picture: Picture) -> _Seen | DataError:
        try:
            pixels = picture.picture()
        except DataError as error:
            return bare(error)
        height, width = pixels.shape[1:]
        return _Seen(self._preprocessing.framed(pixels), (height, width))

    def _logits(self, seen: Sequence[_Seen]) -> Tensor:
        """What the model gives; in its own precision, whatever is set around."""
        like = self._like
        pixels = self._preprocessing.normalise(torch.stack([one.pixels for one in seen]).to(like.device))
        with torch.no_grad(), torch.autocast(like.device.type, enabled=False):
            return logits_of(self.model(pixels.to(like.dtype)))

    @property
    def _like(self) -> Tensor:
        """A tensor of the type that the model takes."""
        return next((p for p in self.model.parameters() if p.is_floating_point()), torch.zeros(0))


def _checked(batch_size: int) -> int:
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    return batch_size


def _whole(group: Sequence[tuple[object, _Seen | DataError]]) -> list[_Seen]:
    return [result for _, result in group if isinstance(result, _Seen)]


def _errors(group: Sequence[tuple[object, _Seen | DataError]]) -> list[DataError]:
    return [result for _, result in group if isinstance(result, DataError)]
