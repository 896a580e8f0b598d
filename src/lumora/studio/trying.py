"""A picture tried with several bundles side by side, and with their bases alone."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from torch import Tensor

from lumora.bundle.names import ABOUT
from lumora.data.labels import Colour, Labels
from lumora.data.reading import read_picture
from lumora.errors import InputError
from lumora.lora import PeftModel
from lumora.lora.files import DEFAULT
from lumora.paths import at_home
from lumora.predict import Predictor, load, plain
from lumora.predict.files import encoded_drawing, encoded_mask
from lumora.studio.library_view import name_of
from lumora.studio.workshop import Workshop
from lumora.tasks import MaskPrediction
from lumora.tasks.drawing import overlay
from lumora.training.report.thumbnails import Thumbnail, thumbnail

_LONGEST = 560
_LIKELIEST = 5
_LABELS = 12
_one_at_a_time = threading.Lock()
"""Strengths are set on the models themselves."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What one model says of the picture."""

    name: str
    detail: str
    labels: Labels
    prediction: Any
    seconds: float


@dataclass(frozen=True, eq=False)
class Tried:
    """A picture, and what was said of it."""

    name: str
    picture: Tensor
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Drawn:
    """An answer as it is shown."""

    name: str
    detail: str
    picture: Thumbnail
    alt: str
    rows: tuple[tuple[Colour | None, str, float], ...]
    """Colour, label and probability, or share of the picture."""
    more: int = 0
    """Classes in the mask that are not among them."""


def try_picture(
    workshop: Workshop, picture: str | None, bundles: Sequence[str], strength: float, *, with_base: bool
) -> Tried:
    """Let bundles say what a picture shows, one after the other.

    Args:
        workshop: keeps the bundles that were loaded last.
        picture: its file.
        bundles: their folders, or repositories.
        strength: how much the adapters count; 1 is as they were trained.
        with_base: ask the base of each as well: the same head, and adapters that count nothing.
    """
    if not picture:
        raise InputError("Choose a picture first.")
    if not bundles:
        raise InputError("Choose at least one bundle; trainings that are done have one.")
    pixels = read_picture(picture)
    answers: list[Answer] = []
    with _one_at_a_time:
        for bundle in bundles:
            answers += _answers(workshop, bundle, pixels, strength, with_base)
    return Tried(PurePath(picture).name, pixels, tuple(answers))


def drawn(tried: Tried, opacity: float) -> list[Drawn]:
    """Every answer drawn on the picture; nothing is predicted again."""
    return [_drawn(tried, answer, opacity) for answer in tried.answers]


def write_answers(tried: Tried, opacity: float, to: Path) -> Path:
    """Write everything that was said into an archive: a line of JSON for each answer, masks and overlays."""
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        lines: list[str] = []
        for i, answer in enumerate(tried.answers, 1):
            said = {"model": answer.name, "detail": answer.detail, **plain(answer.prediction, answer.labels)}
            if isinstance(answer.prediction, MaskPrediction):
                stem = f"{i}-{_file_name(answer.name)}"
                archive.writestr(f"masks/{stem}.png", encoded_mask(answer.prediction.mask, answer.labels))
                archive.writestr(f"overlays/{stem}.jpg", encoded_drawing(_over(tried, answer, opacity)))
                said |= {"mask": f"masks/{stem}.png", "overlay": f"overlays/{stem}.jpg"}
            lines.append(json.dumps({"picture": tried.name, **said}))
        archive.writestr("predictions.jsonl", "\n".join(lines) + "\n")
        archive.writestr(_picture_name(tried.name), _encoded(tried.picture))
    return to


# --- asking -----------------------------------------------------------------------------------------------------------


def _answers(workshop: Workshop, bundle: str, pixels: Tensor, strength: float, with_base: bool) -> Iterable[Answer]:
    predictor: Predictor = workshop.predictors.get(_state_of(bundle), lambda: load(bundle))
    model, name = predictor.model, name_of(Path(bundle))
    if not isinstance(model, PeftModel):
        trained = "the head alone" if predictor.about.method == "head" else "all weights"
        yield _answer(predictor, pixels, name, f"no adapters: {trained} learnt")
        return
    if model.peft_config[DEFAULT].moves_base:
        yield _answer(predictor, pixels, name, "adapters as trained: they hold part of the base")
        return
    try:
        if with_base:
            model.set_strength(DEFAULT, 0.0)
            yield _answer(predictor, pixels, f"base of {name}", "adapters off, the trained head on")
        model.set_strength(DEFAULT, strength)
        yield _answer(predictor, pixels, name, f"adapters at strength {strength:g}")
    finally:
        model.set_strength(DEFAULT, 1.0)


def _answer(predictor: Predictor, pixels: Tensor, name: str, detail: str) -> Answer:
    begun = time.perf_counter()
    prediction = predictor.predict(pixels)
    return Answer(name, detail, predictor.labels, prediction, time.perf_counter() - begun)


def _state_of(bundle: str) -> tuple[str, int]:
    """A key that is another one once the bundle is written anew."""
    try:
        return bundle, (at_home(bundle) / ABOUT).stat().st_mtime_ns
    except OSError:
        return bundle, 0


# --- showing ----------------------------------------------------------------------------------------------------------


def _drawn(tried: Tried, answer: Answer, opacity: float) -> Drawn:
    said, labels = plain(answer.prediction, answer.labels, _LIKELIEST), answer.labels
    if isinstance(answer.prediction, MaskPrediction):
        rows = [(labels.palette()[labels.index(c["label"])], c["label"], c["share"]) for c in said["classes"]]
        names = ", ".join(label for _, label, _ in rows[:_LIKELIEST])
        picture = thumbnail(_over(tried, answer, opacity), _LONGEST)
        shown, more = tuple(rows[:_LABELS]), max(0, len(rows) - _LABELS)
        return Drawn(answer.name, answer.detail, picture, f"{answer.name} sees {names}", shown, more)
    rows = [(None, label, share) for label, share in said["probabilities"].items()]
    alt = f"{answer.name} says {', '.join(said['labels']) or 'no label'}"
    return Drawn(answer.name, answer.detail, thumbnail(tried.picture, _LONGEST), alt, tuple(rows))


def _over(tried: Tried, answer: Answer, opacity: float) -> Tensor:
    return overlay(tried.picture, answer.prediction.mask, answer.labels.palette(), opacity, answer.labels.ignore)


def _encoded(pixels: Tensor) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


def _picture_name(name: str) -> str:
    return f"{PurePath(_file_name(name)).stem or 'picture'}.png"


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".-") or "model"
