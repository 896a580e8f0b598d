"""What trainings came to: runs side by side, and what one of them still gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from lumora.bundle import About, read_about
from lumora.bundle.card import shown_name
from lumora.data import Loader, Pictures
from lumora.data.corrections import corrections_folder, read_corrections, with_corrections
from lumora.data.labels import Labels
from lumora.errors import DataError, LumoraError
from lumora.studio.doubts import Doubts
from lumora.studio.found import run_folders
from lumora.studio.progress_view import Progress, progress_of
from lumora.studio.trainings import Trainings
from lumora.studio.workshop import Workshop
from lumora.tasks.evaluating import evaluate, usual_batch_size
from lumora.tasks.worst import Judged
from lumora.training.folder import RunFolder
from lumora.training.recipe import read_recipe
from lumora.training.report.charts import Chart
from lumora.training.report.classes import ClassTable, class_table
from lumora.training.report.curves import courses
from lumora.training.report.examining import Findings, Looking
from lumora.training.report.matrix import Matrix, matrix_of
from lumora.training.report.mistakes import LabelMistake, Said, label_mistakes
from lumora.training.report.overlays import Overlay, overlays
from lumora.training.report.subject import Subject, of_folder
from lumora.training.report.telling import percent
from lumora.training.whereabouts import place_of_data

KEPT = 60
"""Mistakes that are kept."""
Split = Literal["validation", "train"]
VALIDATION: Split = "validation"
TRAINING: Split = "train"
WORDS: Mapping[Split, str] = {VALIDATION: "validation", TRAINING: "training"}
"""What people call these parts of the data."""


@dataclass(frozen=True)
class Finished:
    """A run with a bundle."""

    folder: Path
    about: About
    progress: Progress

    @property
    def name(self) -> str:
        """What people call it."""
        return self.folder.name


def finished_runs(runs: Path) -> list[Finished]:
    """The runs that have a bundle, those begun last first; bundles that cannot be read are left out."""
    trainings, found = Trainings(runs), list[Finished]()
    for folder in run_folders(runs):
        try:
            about = read_about(RunFolder(folder).bundle)
        except LumoraError:
            continue
        found.append(Finished(folder, about, progress_of(trainings.of(folder))))
    return found


@dataclass(frozen=True)
class Comparison:
    """Runs side by side."""

    runs: tuple[Finished, ...]
    measures: tuple[str, ...]
    best: Mapping[str, float]
    """The best score by each measure, where there is more than one run."""
    charts: tuple[Chart, ...]
    """One for each measure, with a line for each run."""

    @staticmethod
    def base(run: Finished) -> str:
        """What a run's base is called."""
        return shown_name(run.about)


def compared(runs: Sequence[Finished]) -> Comparison:
    """The table of some runs."""
    measures = tuple(dict.fromkeys(name for run in runs for name in run.about.metrics))
    values = {name: [run.about.metrics[name] for run in runs if name in run.about.metrics] for name in measures}
    lower = ("calibration_error", "loss")
    best = {name: (min if name in lower else max)(some) for name, some in values.items() if len(some) > 1}
    scores = tuple(dict.fromkeys(run.progress.main for run in runs))
    rows = {str(run.folder): (run.name, run.progress.rows) for run in runs}
    return Comparison(tuple(runs), measures, best, courses(list(rows.values()), scores))


# --- mistakes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mistake:
    """A sample that was predicted wrongly, before it is drawn."""

    key: str
    text: str
    doubted: bool
    """Whether its label is likely wrong."""


@dataclass(frozen=True)
class Stamp:
    """By what one correction of a sample is told from the next."""

    labels: tuple[str, ...] | None
    mask: str | None
    written: int
    """When its mask was, in nanoseconds."""


@dataclass(frozen=True, eq=False)
class Examined:
    """One run, looked at."""

    subject: Subject
    found: Findings
    judged: tuple[Judged[Any], ...]
    doubts: Mapping[str, float]
    """Samples whose labels or masks are likely wrong, and how much; of masks, the share of their pixels."""
    classes: ClassTable
    matrix: Matrix | None
    known: Mapping[str, Stamp]
    """The corrections that were made already."""
    split: Split = VALIDATION
    """Which of the data's pictures were looked at."""

    @property
    def of(self) -> tuple[str, Split]:
        """The run's folder and the split, by which it is known on the page."""
        return str(self.subject.folder.path), self.split

    @property
    def learnt(self) -> bool:
        """Whether they are those that the model has learnt from."""
        return self.split == TRAINING

    @property
    def pictures(self) -> str:
        """What these pictures are called."""
        return f"pictures for {WORDS[self.split]}"

    @property
    def labels(self) -> Labels:
        """The classes."""
        return self.subject.about.labels

    @property
    def data(self) -> str | None:
        """Where the data lie; None where they were at hand in Python."""
        return place_of_data(self.subject.folder.path, self.subject.recipe.data.path)

    def mistakes(self, *, doubted_first: bool) -> list[Mistake]:
        """All mistakes, the worst first, or those with likely wrong labels before the others."""
        corrected = _stamps(self.data)
        listed = [self._mistake(judged, corrected.get(judged.key)) for judged in self.judged]
        return sorted(listed, key=lambda one: -self.doubts.get(one.key, -1.0)) if doubted_first else listed

    def judged_of(self, key: str) -> Judged[Any]:
        """One of the mistakes."""
        found = next((judged for judged in self.judged if judged.key == key), None)
        if found is None:
            raise DataError(f"{key} is not among the mistakes; look for them again.")
        return found

    def corrected_labels(self, key: str) -> list[str] | None:
        """The labels that a sample was given in place of the data's; None where it was not."""
        found = read_corrections(self.data).get(key) if self.data else None
        if found is None or found.labels is None:
            return None
        return [self.labels.names[self.labels.index(name)] for name in found.labels]

    def is_corrected_since(self, key: str) -> bool:
        """Whether a sample was corrected after the run was looked into."""
        now = _stamps(self.data).get(key)
        return now is not None and now != self.known.get(key)

    def _mistake(self, judged: Judged[Any], corrected: Stamp | None) -> Mistake:
        since = corrected is not None and corrected != self.known.get(judged.key)
        if self.subject.task.name == "segmentation":
            text = f"{judged.key}: mean IoU {'was ' * since}{1 - judged.wrongness:.2f}"
        else:
            said = ", ".join(self.labels.names[i] for i in judged.prediction.chosen) or "nothing"
            text = f"{judged.key}: says {said}, labelled {', '.join(meant(judged, self.labels)) or 'nothing'}"
        share = self.doubts.get(judged.key)
        doubted = share is not None
        if share is not None and self.subject.task.name == "segmentation":
            text += f" (likely wrong: {percent(share)} of the mask)"
        else:
            text += " (likely a wrong label)" * doubted
        if corrected is not None:
            names = "" if corrected.labels is None else f" to {', '.join(corrected.labels) or 'nothing'}"
            text += f" – corrected{names if since else ''}"
        return Mistake(judged.key, text, doubted)


def examined(
    workshop: Workshop,
    folder: str,
    split: Split = VALIDATION,
    *,
    again: bool = False,
    seen: Callable[[int, int], None] = lambda done, pictures: None,
) -> Examined:
    """Evaluate a run's bundle on its pictures of a split, and keep the mistakes. Costs an evaluation, once.

    Args:
        workshop: keeps what was looked at last.
        folder: the run's.
        split: which pictures.
        again: look at them anew; what was seen before is there until then.
        seen: is told how many of how many pictures are done.
    """
    return workshop.examined.get((folder, split), lambda: _examined(Path(folder), split, seen), again=again)


def drawn_mistake(looked: Examined, key: str) -> LabelMistake | Overlay:
    """One mistake with its pictures."""
    judged, samples = looked.judged_of(key), _samples(looked)
    if looked.subject.task.name == "segmentation":
        mask = true_mask(looked, key)
        wrongness = looked.subject.task.wrongness(judged.prediction, mask) or 0.0
        found: Sequence[Any] = overlays([replace(judged, target=mask, wrongness=wrongness)], samples, looked.labels)
    else:
        found = label_mistakes([judged], samples, looked.labels)
    if not found:
        raise DataError(f"{key} cannot be read any more.")
    return found[0]


@dataclass(frozen=True)
class Since:
    """What a mistake was when the run was looked into, and what it is since it was corrected."""

    said: tuple[Said, ...] = ()
    """All labels that the model says."""
    was: tuple[Said, ...] = ()
    """All labels of before."""
    now: tuple[Said, ...] = ()
    """All labels since."""
    iou: float | None = None
    """With the mask of before."""


def since(looked: Examined, key: str) -> Since | None:
    """What a correction has changed since the run was looked into; None where it has changed nothing."""
    if not looked.is_corrected_since(key):
        return None
    judged = looked.judged_of(key)
    if looked.subject.task.name == "segmentation":
        return Since(iou=1 - judged.wrongness)

    def told(names: Sequence[str]) -> tuple[Said, ...]:
        likely = judged.prediction.probabilities
        return tuple(Said(name, float(likely[looked.labels.index(name)])) for name in names)

    was, now = meant(judged, looked.labels), looked.corrected_labels(key) or []
    said = [looked.labels.names[i] for i in judged.prediction.chosen]
    return Since(told(said), told(was), told(now)) if set(was) != set(now) else None


def _stamps(data: str | None) -> dict[str, Stamp]:
    """The corrections that are made now."""
    folder = corrections_folder(data)
    if data is None or folder is None:
        return {}
    return {
        key: Stamp(each.labels, each.mask, _written(folder / each.mask) if each.mask else 0)
        for key, each in read_corrections(data).items()
    }


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def meant(judged: Judged[Any], labels: Labels) -> list[str]:
    """The labels that a sample has in the data."""
    target = judged.target
    ids = [int(target)] if target.dim() == 0 else (target > 0).nonzero().flatten().tolist()
    return [labels.names[i] for i in ids]


def true_mask(looked: Examined, key: str) -> Tensor:
    """The mask of a sample as it is now, with what was corrected since the run was looked at."""
    sample = _samples(looked)[looked.judged_of(key).place]
    alone = {"all": (sample,)}
    splits, _ = with_corrections(alone, "segmentation", looked.labels, looked.data, alone.values())
    mask = splits["all"][0].mask()
    if mask is None:
        raise DataError(f"{key} has no mask.")
    return mask


def _samples(looked: Examined) -> Sequence[Any]:
    assert looked.subject.validation is not None
    return looked.subject.validation.pictures.samples


def _examined(folder: Path, split: Split, seen: Callable[[int, int], None]) -> Examined:
    run = RunFolder(folder)
    known = _stamps(place_of_data(folder, read_recipe(run.recipe).data.path))
    subject = of_folder(run, split=split)
    if subject.validation is None:
        raise DataError(f"The run {folder.name} has no pictures for {WORDS[split]}, so there is nothing to look for.")
    labels, doubts = subject.about.labels, Doubts(subject.task)

    # Without processes that read ahead: they would be forked from the many threads of a server.
    pictures, size = subject.validation.pictures, usual_batch_size(subject.task.name)
    loader = Loader(pictures, size, shuffle=False, device=next(subject.model.parameters()).device)
    looking = Looking(subject.task, pictures.samples, KEPT)

    def look(logits: Tensor, targets: Any) -> None:
        looking(logits, targets)
        doubts.update(logits, targets)

    def again(worst: Sequence[Judged[Any]], shown: Callable[[Tensor, Any], None]) -> None:
        some = Pictures([pictures.samples[one.place] for one in worst], pictures.transform, classes=pictures.classes)
        few = Loader(some, size, shuffle=False, device=loader.device)
        evaluate(subject.model, subject.task, few, precision=subject.precision, beside=shown)

    metrics = evaluate(
        subject.model,
        subject.task,
        loader,
        precision=subject.precision,
        seen=lambda done: seen(done, len(pictures)),
        beside=look,
    )
    found = looking.findings(metrics)
    matrix = None if found.confusion is None else matrix_of(found.confusion, labels.names)
    return Examined(
        subject=replace(subject, model=nn.Identity()),  # its memory is for others now
        found=found,
        judged=tuple(found.worst),
        doubts=doubts.of(found.worst, again),
        classes=class_table(found.scores, labels, subject.task.name),
        matrix=matrix,
        known=known,
        split=split,
    )
