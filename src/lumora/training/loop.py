"""The loop of a training: steps, evaluations, the best so far, and a state from which it goes on bit for bit."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lumora.data import Loader
from lumora.errors import TrainingError
from lumora.tasks import Task
from lumora.tasks.evaluating import evaluate
from lumora.tasks.metrics.base import Scores
from lumora.training.average import Average
from lumora.training.course import Course, Ending, Progress
from lumora.training.events import EpochDone, Listener, StepDone
from lumora.training.guards import Guards
from lumora.training.mending import go_back, is_sound, mend
from lumora.training.optimizing import of_optimizer
from lumora.training.schedule import factor
from lumora.training.stepping import Stepper
from lumora.training.stopping import AskedToStop, StopRequest
from lumora.training.trained import changing_tensors, put


@dataclass
class Work:
    """What a training works with."""

    task: Task[Any]
    model: nn.Module
    loader: Loader
    validation: Loader | None
    """This process's share of the pictures to evaluate on, if there are any."""
    stepper: Stepper
    average: Average | None = None
    to_train: Callable[[], object] | None = None
    """Brings the model into the mode in which it is trained; `model.train` if not said."""

    def take_training_mode(self) -> None:
        """Switch dropout and the like as training wants them."""
        (self.to_train or self.model.train)()


Saved = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and plain values."""


class Loop:
    """Runs a training to its end, or until it is asked to stop.

    `state` can be taken between any two steps; another loop of the same work that loads it goes on with the same bits.

    Args:
        work: model, data and optimizer.
        course: how long, and by what it is judged.
        save: called with `state` when a checkpoint is due; in several processes by all of them.
        listener: hears what happens.
        stop: is looked at after every step.
    """

    def __init__(
        self,
        work: Work,
        course: Course,
        save: Callable[[Saved], None],
        listener: Listener,
        stop: StopRequest,
    ) -> None:
        self.work, self.course = work, course
        self.progress, self.guards = Progress(), Guards()
        self.best: dict[str, Tensor] = {}
        """What the training changes, as it was when the score was best."""
        self._save, self._listener, self._stop = save, listener, stop
        self._processes = work.stepper.processes
        self._began = self._saved_at = time.monotonic()
        self.seconds = 0.0
        """Spent until `run` ended."""
        self.steps = course.epochs * len(work.loader)
        if not len(work.loader):
            raise TrainingError(
                f"There are {len(work.loader.pictures)} pictures to learn from, fewer than a batch has. Take a smaller "
                "train.batch_size."
            )
        work.stepper.told = listener.told

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self) -> Ending:
        """Go on to the end."""
        self._began = self._saved_at = time.monotonic()
        self.work.take_training_mode()
        while (ending := self._ending()) is None:
            try:
                ending = self._to_next_evaluation()
            except AskedToStop:
                ending = Ending.ASKED
            self._checkpoint()
            if ending is not None:
                break
        self.seconds = self._seconds()
        return ending

    def _ending(self) -> Ending | None:
        """Why there is nothing more to do, if so."""
        progress, patience = self.progress, self.course.patience
        if not progress.evaluated:
            return None
        if progress.epoch >= self.course.epochs:
            return Ending.COMPLETE
        if patience is not None and progress.epoch - progress.best_epoch >= patience:
            return Ending.NO_GAIN
        return Ending.TIME if self._is_over() else None

    def _to_next_evaluation(self) -> Ending | None:
        """Train to the end of the epoch, or as long as there is time, and evaluate."""
        progress = self.progress
        if progress.evaluated:
            ending = self._train_epoch()
            if ending is Ending.ASKED:
                return ending
            progress.epoch += ending is None
            progress.evaluated = False
        self._evaluate()
        progress.evaluated = True
        return None

    def _train_epoch(self) -> Ending | None:
        """Train to the end of the epoch, or to where it has to end before."""
        for batch, seconds in _timed(self.work.loader):
            self._step(batch, seconds)
            if self._processes.agree(self._stop.asked):
                return Ending.ASKED
            if self._is_over():
                return Ending.TIME
            if self._processes.agree(time.monotonic() - self._saved_at > self.course.checkpoint_every):
                self._checkpoint()
        return None

    def _step(self, batch: dict[str, Any], waited: float) -> None:
        progress, began, by = self.progress, time.monotonic(), self._factor()
        stepped = self.work.stepper.step(batch, progress.step, by)
        if self.guards.after_step(stepped):
            go_back(self.work.model, self.work.stepper.optimizer, self.work.average, self.best)
        elif not stepped.changed:
            mend(self.work.model, self.best)
        self._tell_pending()
        if stepped.changed:
            if self.work.average is not None:
                self.work.average.update(progress.step)
            progress.loss_sum += stepped.loss
            progress.loss_steps += 1
        rate = self._general_rate(by)
        progress.step += 1
        pace = self._processes.world * len(batch["labels"]) / max(1e-9, waited + time.monotonic() - began)
        self._listener.step_done(StepDone(progress.step, self.steps, progress.epoch, stepped.loss, rate, pace))

    def _factor(self) -> float:
        course = self.course
        return self.guards.scale * factor(self.progress.step, self.steps, course.warmup, course.schedule)

    def _general_rate(self, by: float) -> float:
        return self.work.stepper.optimizer.general_rate * by

    # --- judging ------------------------------------------------------------------------------------------------------

    def _evaluate(self) -> None:
        """Measure the model, average in place; keep it if it is the best so far."""
        work, progress = self.work, self.progress
        rate = self._general_rate(self._factor()) if progress.step < self.steps else 0.0
        loss = progress.loss_sum / progress.loss_steps if progress.loss_steps else None
        # Who hears of it may look at the model, and sees what was measured.
        with work.average.in_place() if work.average is not None and progress.step else nullcontext():
            scores, main = self._measured(work.validation) if work.validation is not None else (Scores({}), "")
            is_best = self._is_best(scores, main)
            if is_best:
                progress.best, progress.best_epoch = scores.get(main), progress.epoch
                self.best = {name: value.clone() for name, value in changing_tensors(work.model).items()}
            if progress.best is not None and not self.course.keep_last:
                self.guards.after_score(progress.best, progress.epoch - progress.best_epoch, self.course.epochs)
            self._tell_pending()
            self._listener.epoch_done(
                EpochDone(progress.epoch, progress.step, loss, rate, scores, main, is_best, self._seconds())
            )
        if progress.step == progress.epoch * len(work.loader):
            progress.loss_sum, progress.loss_steps = 0.0, 0

    def _measured(self, validation: Loader) -> tuple[Scores, str]:
        """The scores of all processes together, and the name of the one that decides."""
        work, count = self.work, len(validation.pictures)
        # The same every time, also where a transform draws, or where the time before was broken off.
        validation.load_state_dict({"epoch": 0, "batches": 0})
        most = self._processes.highest(len(validation))
        metrics = evaluate(
            work.model,
            work.task,
            validation,
            precision=work.stepper.in_precision,
            seen=lambda done: self._seen(done, count),
        )
        for _ in range(most - len(validation)):  # others have a batch more, and are asked after it
            self._stop_if_asked()
        metrics = self._processes.summed(metrics)
        if self.progress.step:
            self.guards.after_evaluation(*metrics.said_and_meant(), work.task.labels.names)
        return metrics.scores(), self.course.best_by or metrics.main

    def _seen(self, done: int, pictures: int) -> None:
        self._listener.evaluating(done, pictures)
        self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._processes.agree(self._stop.asked):
            raise AskedToStop

    def _is_best(self, scores: Scores, main: str) -> bool:
        if self.best and not all(map(is_sound, changing_tensors(self.work.model).values())):
            return False
        if self.work.validation is None or self.course.keep_last:
            return True
        if main not in scores:
            raise TrainingError(f"There is no score {main!r} to choose the best by; there are {', '.join(scores)}.")
        return self.progress.best is None or scores[main] > self.progress.best

    # --- ending and going on ------------------------------------------------------------------------------------------

    def state(self) -> Saved:
        """Everything that decides what comes next."""
        work = self.work
        groups = {"model": changing_tensors(work.model), "best": self.best}
        if work.average is not None:
            groups["average"] = work.average.values
        tensors = {f"{group}.{name}": value for group, named in groups.items() for name, value in named.items()}
        values = {
            "progress": dataclasses.asdict(dataclasses.replace(self.progress, seconds=self._seconds())),
            "guards": self.guards.state(),
            "loader": dict(work.loader.state_dict()),
            "stepper": work.stepper.state(),
        }
        return {**tensors, **work.stepper.optimizer.state()}, values

    def load(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Go where the state was taken."""
        work = self.work
        work.take_training_mode()
        put(changing_tensors(work.model), _group(tensors, "model"))
        self.best = dict(_group(tensors, "best"))
        if work.average is not None:
            put(work.average.values, _group(tensors, "average"))
        work.stepper.optimizer.load(of_optimizer(tensors))
        work.stepper.load(values["stepper"])
        work.loader.load_state_dict(values["loader"])
        self.progress = Progress(**values["progress"])
        self.guards = Guards.of(values["guards"])

    def _checkpoint(self) -> None:
        self._save(self.state())
        self._saved_at = time.monotonic()

    def _is_over(self) -> bool:
        most = self.course.max_seconds
        return most is not None and self._processes.agree(self._seconds() > most)

    def _seconds(self) -> float:
        return self.progress.seconds + time.monotonic() - self._began

    def _tell_pending(self) -> None:
        for text in self.guards.take_pending():
            self._listener.told(text)


def _timed(loader: Loader) -> Iterator[tuple[dict[str, Any], float]]:
    """Batches, and how long each was waited for."""
    asked = time.monotonic()
    for batch in loader:
        yield batch, time.monotonic() - asked
        asked = time.monotonic()


def _group(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """Those of a state's tensors that belong together, under their own names."""
    start = f"{group}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
