"""What a bundle says of itself, and how that lies in `lumora.json`."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any, Literal, get_args

from lumora.bundle.fields import Fields
from lumora.bundle.names import ABOUT
from lumora.data.labels import Labels
from lumora.data.sample import TaskName
from lumora.errors import BundleError, LumoraError
from lumora.models import Base, Preprocessing
from lumora.models.assembly import HeadChoice
from lumora.models.heads import WIDTH
from lumora.paths import at_home

FORMAT = 1
"""Counted up when a reader of the one before would do something wrong."""

Method = Literal["lora", "head", "full"]
"""What was trained: adapters and the head, the head alone, everything."""

_INTERPOLATIONS = ("nearest", "nearest-exact", "lanczos", "bilinear", "bicubic", "box", "hamming")
_TOLD = ("lumora", "torch", "torchvision", "transformers", "timm")


@dataclass(frozen=True)
class BaseReference:
    """Which base a bundle is for, and how its head was put on."""

    name: str
    fingerprint: str | None
    head: HeadChoice
    width: int
    library: str
    """Who made the base; "module" for one that was given ready."""
    heads: tuple[str, ...] = ()
    """Where the head is in the model."""
    licence: str | None = None
    source: str | None = None

    @property
    def is_nameless(self) -> bool:
        """Whether the base was given ready: it has no name to load it by."""
        return self.library == "module" or (self.library == "keras" and not self.name.startswith("keras:"))

    @classmethod
    def of(cls, base: Base, head: HeadChoice = "auto", width: int = WIDTH) -> BaseReference:
        """The reference to a base that `load_base` made with this `head` and `width`.

        A folder is noted by its whole path: a relative one would mean another folder elsewhere.
        """
        name, source = base.name, base.source
        if base.library == "transformers" and at_home(name).is_dir():
            name = str(at_home(name).resolve())
        return cls(name, base.fingerprint, head, width, base.library, base.heads, base.licence, source)


@dataclass(frozen=True, kw_only=True)
class About:
    """What has to be known to use a bundle, and what is good to know of it."""

    format: int = FORMAT
    task: TaskName
    labels: Labels
    preprocessing: Preprocessing
    """The base's own, see `Base.preprocessing`."""
    size: tuple[int, int]
    """Height and width of what the model sees."""
    base: BaseReference
    method: Method
    threshold: float | None = None
    """Of several labels: how probable one must be to be said."""
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    per_class: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    """Label -> metric -> value."""
    recipe: dict[str, Any] = field(default_factory=dict[str, Any])
    recipe_hash: str = ""
    versions: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def at_size(self) -> Preprocessing:
        """What is done to a picture before the model sees it.

        For segmentation the whole picture is resized: every part of it gets a label.
        """
        if self.task == "segmentation":
            return dataclasses.replace(self.preprocessing, resize=self.size, crop=None, longest=None)
        return self.preprocessing.with_size(self.size)


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the libraries that a model's outputs depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in _TOLD}}


def about_to_json(about: About) -> str:
    """The text of `lumora.json`."""
    values = dataclasses.asdict(about)
    values["preprocessing"] = about.preprocessing.to_dict()
    values["metrics"] = _plain_numbers(about.metrics)
    values["per_class"] = {label: _plain_numbers(numbers) for label, numbers in about.per_class.items()}
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def about_from_json(text: str, where: str = ABOUT) -> About:
    """What such a text says; `where` is named in errors. Fields that this version does not know are left out."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where} is not JSON: {error}. Copy or download the bundle again.") from error
    fields = Fields(values, where)
    _check_format(fields, where)
    task = fields.choice("task", get_args(TaskName))
    return About(
        format=fields.whole("format"),
        task=task,
        labels=_labels(fields.section("labels"), where),
        preprocessing=_preprocessing(fields.section("preprocessing"), where),
        size=fields.sides("size"),
        base=_base(fields.section("base")),
        method=fields.choice("method", get_args(Method)),
        threshold=fields.number("threshold") if "threshold" in fields else None,
        metrics=fields.numbers("metrics"),
        per_class=_per_class(fields.section("per_class")),
        recipe=dict(fields.section("recipe").values),
        recipe_hash=fields.text("recipe_hash"),
        versions=fields.words("versions"),
    )


def _check_format(fields: Fields, where: str) -> None:
    if (found := fields.whole("format")) > FORMAT:
        written = fields.values.get("versions")
        by = f" by Lumora {written['lumora']}" if isinstance(written, dict) and "lumora" in written else ""
        raise BundleError(
            f"{where} has format {found}, written{by}; this version of Lumora reads format {FORMAT}. Install a newer "
            "one: pip install -U lumora"
        )


def _labels(fields: Fields, where: str) -> Labels:
    try:
        return Labels(fields.texts("names"), fields.colours("colours") if "colours" in fields else None)
    except BundleError:
        raise
    except LumoraError as error:
        raise BundleError(f'{where}: "labels": {error}') from error


def _preprocessing(fields: Fields, where: str) -> Preprocessing:
    """Checked field by field; one that is unknown would change the pixels, so it is refused."""
    if "resize" in fields and not isinstance(fields.any("resize"), int):
        fields.sides("resize")
    elif "resize" in fields:
        fields.whole("resize")
    for name, check in (("crop", fields.sides), ("longest", fields.whole)):
        if name in fields:
            check(name)
    fields.choice("crop_corner", ("even", "floor"))
    fields.choice("interpolation", _INTERPOLATIONS)
    fields.number("rescale")
    for name in ("mean", "std"):
        fields.three(name)
    for name in ("bgr", "reduce_labels"):
        fields.yes_or_no(name)
    fields.text("origin")
    fields.texts("notes")
    try:
        return Preprocessing.from_dict(fields.values)
    except LumoraError as error:
        raise BundleError(f'{where}: "preprocessing": {error}') from error


def _base(fields: Fields) -> BaseReference:
    def text_or_none(name: str) -> str | None:
        return fields.text(name) if name in fields else None

    return BaseReference(
        name=fields.text("name"),
        fingerprint=text_or_none("fingerprint"),
        head=fields.choice("head", get_args(HeadChoice)),
        width=fields.whole("width"),
        library=fields.text("library"),
        heads=fields.texts("heads"),
        licence=text_or_none("licence"),
        source=text_or_none("source"),
    )


def _per_class(fields: Fields) -> dict[str, dict[str, float]]:
    return {label: fields.numbers(label) for label in fields.values}


def _plain_numbers(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in numbers.items()}
