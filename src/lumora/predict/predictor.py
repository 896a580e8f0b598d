"""A bundle put to work: predictions of pictures, alone or by the thousand."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lumora.bundle import About, Loaded
from lumora.bundle import load as load_bundle
from lumora.bundle.card import METHODS
from lumora.data.labels import Labels
from lumora.data.palettes import Palette, coloured
from lumora.data.reading import Limits
from lumora.data.sample import Sample, Source, TaskName
from lumora.errors import DataError, InputError
from lumora.lora import PeftModel
from lumora.predict.ahead import ahead, in_batches
from lumora.predict.asking import Asking
from lumora.predict.evaluating import measure, task_of
from lumora.predict.looking import Large, Looking, Seen
from lumora.predict.measured_data import Reading, to_measure
from lumora.predict.pictures import Picture, is_one, pictures
from lumora.predict.settings import Settings
from lumora.predict.telling import bare, tell
from lumora.predict.tiles.grid import Tiling
from lumora.predict.tiles.mask import LargeMask
from lumora.tasks import LabelPrediction, MaskPrediction
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
    palette: Palette | None = None,
    strength: float = 1.0,
    flip: bool = False,
    tile: int | Literal["auto"] | None = None,
    overlap: int | None = None,
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
        palette: colours in place of the bundle's own, see `lumora.data.palettes.coloured`.
        strength: how much the adapters count: 0 not at all, 1 as trained. The head stays as it is.
        flip: show every picture mirrored as well, and average the two answers; takes twice as long.
        tile: of a segmentation, predict pictures that are larger than this by tiles, whose longer side has so many
            pixels; `"auto"` takes what the model sees. If not said, only pictures beyond the limits are, and only
            TIFFs.
        overlap: by how many pixels tiles overlap; about a quarter of a tile if not said.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    loaded = load_bundle(
        bundle, base=base, device=device, allow_other_base=allow_other_base, revision=revision, token=token
    )
    return Predictor(loaded, limits=limits, settings=Settings(palette, strength, flip, tile, overlap))


class Predictor:
    """Predicts with a bundle's model. `lumora.load(bundle)` makes one.

    A picture is a path, the bytes of a file, a Pillow image, a numpy array (H, W, 3) or a tensor (3, H, W) of `uint8`
    in RGB, or a sample of `lumora.data`; several are a folder or anything that can be iterated over. They are turned
    upright as their EXIF data say, become RGB as training pictures do, and are preprocessed as the bundle says. What is
    predicted of a picture does not depend on those beside it in the batch.

    Args:
        loaded: what `lumora.bundle.load` gave.
        limits: larger files are refused before they are decoded.
        settings: how it predicts.
        adapter: where several share the base, the one that predicts.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        limits: Limits | None = None,
        settings: Settings | None = None,
        adapter: str | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.model: nn.Module = loaded.model
        """The model, in eval mode."""
        self.about: About = _coloured(loaded.about, self.settings.palette)
        """All that the bundle says of itself."""
        self.limits = limits or Limits()
        self._asked = limits
        self._task = task_of(self.about)
        self._asking = Asking(self.model, self.about.task, self.about.at_size, self.settings.flip, adapter)
        tiling = Tiling(self.about.size, self.limits, self.settings.tile, self.settings.overlap)
        self._looking = Looking(self._asking, tiling)
        self._looking.check()
        if self.settings.strength != 1.0:
            self.set_strength(self.settings.strength)

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
        return self._asking.like.device

    def set_strength(self, strength: float) -> None:
        """Let the adapters count `strength` times as much as they were trained to, from now on.

        0 leaves the base with the new head (and with biases and DoRA's magnitudes, if trained), 1 is as trained. A
        bundle without adapters has nothing to weaken, and one that began with part of the base would lose that part.
        """
        if not math.isfinite(strength):
            raise InputError(f"strength is {strength}; it must be a number, as 0.5 is.")
        if self.about.method != "lora":
            raise InputError(
                f"This bundle has no adapters ({METHODS[self.about.method]} was trained), so there is no strength."
            )
        model: Any = self.model  # a PeftModel, or what stands for one of another library
        name = self._asking.adapter or model.active_adapters[0]
        if strength != 1 and isinstance(model, PeftModel) and model.peft_config[name].moves_base:
            raise InputError(
                f"The adapters of this bundle began with part of the base (PiSSA, OLoRA), which {strength:g} would "
                "weaken with them. `lumora soup BUNDLE BUNDLE --out DIR`, of the bundle with itself, gives the same "
                "model with adapters for the whole base, which have a strength."
            )
        model.set_strength(name, strength)

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
            for result in map(_put_together, self._predicted(group, batch_size)):
                if not isinstance(result, DataError):
                    predictions.append(result)
                else:
                    predictions.append(None)
                    bad += [] if result in bad else [result]
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
        for picture, result in self.lazily(given, batch_size):
            yield picture, _put_together(result)

    def lazily(
        self, given: object, batch_size: int = 8
    ) -> Iterator[tuple[Picture, Prediction | LargeMask | DataError]]:
        """The same, but masks of pictures that are predicted by tiles are not put together: see `LargeMask`."""
        for group in self._groups(given, batch_size):
            yield from zip((picture for picture, _ in group), self._predicted(group, batch_size), strict=True)

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

        It is what the training did after each epoch, and gives the same scores: pictures are seen whole, and once. The
        metrics prove themselves first.

        Args:
            data: a source, a split of one, or where the data lie. Classes are matched with the bundle's by their names.
            split: which one of a source; `"test"` or else `"validation"` if not said.
            batch_size: how many the model sees at once; as in training if not said.
            skip_bad: leave out samples that cannot be read or have no label, with a warning of each.
        """
        if self.settings.flip or self.settings.tile is not None:
            raise InputError(
                "Scores are of whole pictures, seen once; load the bundle without flip and tile to measure it."
            )
        self._asking.choose_adapter()
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

    def _groups(self, given: object, batch_size: int) -> Iterator[list[tuple[Picture, Seen | Large | DataError]]]:
        """Every picture with what the model will see of it, a batch at a time."""
        looked = ahead(self._looking.look, pictures(given, self.limits), 2 * _checked(batch_size))
        return in_batches(looked, batch_size)

    def _predicted(
        self, group: Sequence[tuple[Picture, Seen | Large | DataError]], batch_size: int
    ) -> list[Prediction | LargeMask | DataError]:
        """The predictions of a batch, with the reason where there is none."""
        seen = [result for _, result in group if isinstance(result, Seen)]
        said: Iterator[Prediction] = iter(())
        if seen:
            logits = self._asking.logits([one.pixels for one in seen])
            said = iter(self._task.predict(logits, [one.size for one in seen]))
        return [
            next(said)
            if isinstance(result, Seen)
            else LargeMask(result, self._asking, len(self.labels), batch_size)
            if isinstance(result, Large)
            else result
            for _, result in group
        ]


def _coloured(about: About, palette: Palette | None) -> About:
    return about if palette is None else dataclasses.replace(about, labels=coloured(about.labels, palette))


def _checked(batch_size: int) -> int:
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}; it must be at least 1.")
    return batch_size


def _put_together(result: Prediction | LargeMask | DataError) -> Prediction | DataError:
    if not isinstance(result, LargeMask):
        return result
    try:
        return result.whole()
    except DataError as error:
        return bare(error)


def _errors(group: Sequence[tuple[object, object]]) -> list[DataError]:
    return [result for _, result in group if isinstance(result, DataError)]
