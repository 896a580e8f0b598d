"""From what a training in small took to what the whole one will take."""

from __future__ import annotations

from dataclasses import dataclass

from lumora.training.planning.probed import Probed
from lumora.training.recipe import Recipe


@dataclass(frozen=True)
class Course:
    """How much there is to do."""

    steps_in_epoch: int
    epochs: int
    batch_size: int
    pictures_validation: int

    @property
    def steps(self) -> int:
        """All steps."""
        return self.steps_in_epoch * self.epochs


@dataclass(frozen=True)
class Memory:
    """The most bytes that a training holds at once."""

    process: int
    """Of the training itself: Python and its libraries, model, gradients, optimizer, a batch and what is computed of
    it, also while a checkpoint or the bundle is written."""
    pictures: int
    """Decoded pictures that are kept in memory."""
    readers: int
    """Processes that read pictures."""
    verifying: int
    """At the end another process loads the bundle; what that takes beyond the rest."""
    device: int | None
    """Of the GPU."""

    @property
    def whole(self) -> int:
        """Bytes of main memory, all together."""
        return self.process + self.pictures + self.readers + self.verifying


@dataclass(frozen=True)
class Time:
    """Seconds, at the pace of the fastest and of the slowest step that was tried."""

    least: float
    most: float
    step: tuple[float, float]
    """Of a step whose pictures are decoded already."""
    evaluation: float
    """Of all pictures for validation."""


def course(recipe: Recipe, pictures_train: int, pictures_validation: int) -> Course:
    """What a recipe without gaps asks for."""
    train = recipe.train
    assert train.batch_size is not None
    assert train.epochs is not None
    return Course(pictures_train // train.batch_size, train.epochs, train.batch_size, pictures_validation)


def memory(probed: Probed, kept_pictures: int) -> Memory | None:
    """The memory of the whole training, of which `kept_pictures` bytes are decoded pictures; None if unknown."""
    if probed.most_held is None:
        return None
    # Whoever verifies holds about what this process held with its model, before the first step.
    at_end = (probed.held_after or 0) + (probed.held_before or 0)
    return Memory(
        process=probed.most_held,
        pictures=kept_pictures,
        readers=probed.readers,
        verifying=max(0, at_end - probed.most_held),
        device=probed.on_device,
    )


def time(probed: Probed, course: Course, recipe: Recipe) -> Time:
    """The time of the whole training, from its start to the verified bundle."""
    first, later = _span(probed.first_steps), _span(probed.later_steps or probed.first_steps)
    decoding = max(0.0, (sum(first) - sum(later)) / 2 / course.batch_size)
    least, most = (_whole(probed, course, recipe, decoding, first[side], later[side]) for side in (0, 1))
    return Time(least, most, later, probed.evaluation * course.pictures_validation)


def _whole(probed: Probed, course: Course, recipe: Recipe, decoding: float, first: float, later: float) -> float:
    """Seconds from the start to the end, at so many for a step of the first epoch and of later ones."""
    train, pictures = recipe.train, course.pictures_validation
    loop = course.steps_in_epoch * (first + (course.epochs - 1) * later)
    loop += course.epochs * (probed.evaluation * pictures + probed.between)
    # Checkpoints inside of epochs take about what one after an epoch does.
    loop += probed.between * (loop // (recipe.run.checkpoint_every or 60.0))
    if train.max_time is not None:
        loop = min(loop, train.max_time)
    # Around the loop there is an evaluation before and one after it, of which some pictures are counted already.
    not_counted = max(0, pictures - probed.evaluated)
    around = probed.before + probed.after + not_counted * (2 * probed.evaluation + decoding)
    # The head alone at first: each picture is seen once, as in an evaluation.
    head_first = probed.evaluation * course.steps_in_epoch * course.batch_size if train.head_first else 0.0
    return around + head_first + loop


def _span(seconds: list[float]) -> tuple[float, float]:
    """The fastest and the slowest step; the first one warms up, and counts where there are few."""
    counted = seconds[1:] if len(seconds) > 2 else seconds
    return min(counted), max(counted)
