"""Everything that the page shows."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import safetensors

from lumora.bundle import names
from lumora.bundle.card import shown_name, snippet
from lumora.training.folder import RunFolder
from lumora.training.origins import read_origins
from lumora.training.report import examples
from lumora.training.report.choices import sections
from lumora.training.report.classes import COUNTED, class_table
from lumora.training.report.curves import course
from lumora.training.report.data_summary import data_summary
from lumora.training.report.examining import Findings, examine
from lumora.training.report.matrix import matrix_of
from lumora.training.report.mistakes import label_mistakes
from lumora.training.report.overlays import overlays
from lumora.training.report.subject import Subject

_METHODS = {
    "lora": "LoRA adapters and a head",
    "head": "the head alone",
    "full": "all weights",
    "scratch": "all weights, from random ones",
}
_GATHERED = ("running_mean", "running_var", "num_batches_tracked")
"""What a bundle holds beside what was trained: the statistics of norms."""


def content_of(subject: Subject, found: Findings | None = None) -> dict[str, Any]:
    """What the templates are given. Evaluates the model where nothing was `found` yet, and reads a few pictures."""
    if found is None and subject.validation is not None:
        found = examine(subject.model, subject.task, subject.validation, precision=subject.precision)
    folder, about, recipe = subject.folder, subject.about, subject.recipe
    main = (recipe.train.best_by or found.main) if found else ""
    return {
        "heading": _heading(subject),
        "about": about,
        "recipe": recipe,
        "task": about.task,
        "base": shown_name(about),
        "method": _METHODS[recipe.train.method or about.method],
        "found": found,
        "main": main,
        "course": course(folder.read_metrics(), main),
        "model": _model(subject),
        "written": _finished(folder),
        **_results(subject, found),
        "counted_measures": COUNTED,
        "data": data_summary(subject.source),
        "notes": list(dict.fromkeys([*_log(folder), *subject.source.notes])),
        "sections": sections(recipe, read_origins(folder.origins)),
        "bundle": folder.bundle.as_posix(),
        "use": snippet(about, folder.bundle.as_posix()),
        "predict_by_command": examples.predict_by_command(subject),
        "again": examples.again(subject),
        "again_by_command": examples.again_by_command(subject),
        "report_again": examples.report_again(subject),
    }


def _results(subject: Subject, found: Findings | None) -> dict[str, Any]:
    """What is shown of the pictures for validation; each is None or empty where there is nothing to show."""
    shown: dict[str, Any] = {"classes": None, "matrix": None, "mistakes": [], "worst": [], "samples": []}
    if found is None or subject.validation is None:
        return shown
    samples, labels = subject.validation.pictures.samples, subject.about.labels
    shown["classes"] = class_table(found.scores, labels, subject.task.name)
    if found.confusion is not None:
        shown["matrix"] = matrix_of(found.confusion, labels.names)
    if subject.task.name == "segmentation":
        shown["worst"] = overlays(found.worst, samples, labels)
        shown["samples"] = overlays(found.shown, samples, labels)
    else:
        shown["mistakes"] = label_mistakes(found.worst, samples, labels)
    return shown


def _heading(subject: Subject) -> str:
    """What the run is called: as its data are, or its folder."""
    path = subject.recipe.data.path
    return (Path(path).name if path else "") or subject.folder.path.resolve().name


def _model(subject: Subject) -> dict[str, int]:
    """How large the model is, how much of it was trained, and how much room that takes."""
    files = sorted(subject.folder.bundle.glob("*.safetensors"))
    kept = [path for path in files if path.name != names.PROOF]
    parameters = subject.parameters
    trained = parameters if subject.about.method == "full" else sum(_trained_in(path) for path in kept)
    return {"parameters": parameters, "trained": trained, "bytes": sum(path.stat().st_size for path in kept)}


def _trained_in(path: Path) -> int:
    """How many trained numbers a file of tensors holds; only its head is read."""
    with safetensors.safe_open(path, "pt") as file:
        trained = [name for name in file.keys() if not name.endswith(_GATHERED)]  # noqa: SIM118 - it is no mapping
        return sum(math.prod(file.get_slice(name).get_shape()) for name in trained)


def _finished(folder: RunFolder) -> datetime.datetime:
    """When the bundle was written."""
    return datetime.datetime.fromtimestamp((folder.bundle / names.ABOUT).stat().st_mtime).astimezone()


def _log(folder: RunFolder) -> list[str]:
    """What was told on the way."""
    try:
        lines = folder.log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()]
