"""What follows the last epoch: the best one is measured, the bundle written and tried, and the report written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from lumora.bundle import written_and_verified
from lumora.tasks.evaluating import evaluate
from lumora.tasks.metrics.base import Scores
from lumora.training.agreeing import ended_by_signals_to_any
from lumora.training.events import Listener
from lumora.training.folder import RunFolder
from lumora.training.live import thumbnail
from lumora.training.report import report_on
from lumora.training.report.examining import Findings, Looking
from lumora.training.setup import Prepared
from lumora.training.stopping import AskedToStop, StopRequest
from lumora.training.trained import changing_tensors, put


def finish(
    folder: RunFolder,
    prepared: Prepared,
    best: Mapping[str, Tensor],
    listener: Listener,
    stop: StopRequest,
    module: nn.Module | None = None,
) -> Scores | None:
    """The scores of the best weights, once their bundle is saved; None if it was asked to stop before.

    The pictures for validation are gone through once, for the scores and the report.

    Args:
        folder: of the run.
        prepared: the training, whose model has the best weights afterwards.
        best: those weights.
        listener: hears what is done.
        stop: whether somebody asks for the end.
        module: the base, where it was at hand in Python.
    """
    processes = prepared.work.stepper.processes
    try:
        with ended_by_signals_to_any(processes, stop):
            if processes.agree(stop.asked):
                raise AskedToStop
            listener.doing("measuring the best epoch")
            put(changing_tensors(prepared.model), best)
            scores, found = _measured(prepared)
            listener.doing("writing the bundle, and trying it in a fresh process")
            processes.first(lambda: _write_bundle(folder, prepared, scores, module))
    except AskedToStop:
        return None
    listener.doing("writing the report")
    processes.first(lambda: report_on(folder, prepared, listener.told, stop, found))
    return scores


def _write_bundle(folder: RunFolder, prepared: Prepared, scores: Scores, module: nn.Module | None) -> None:
    picture = thumbnail(prepared)
    written_and_verified(folder.bundle, prepared.model, prepared.about(scores), thumbnail=picture, base=module)


def _measured(prepared: Prepared) -> tuple[Scores, Findings | None]:
    """The scores, and what the report shows beside them; that is None where several processes see a part each."""
    work = prepared.work
    if work.validation is None:
        return Scores({}), None
    work.validation.load_state_dict({"epoch": 0, "batches": 0})
    precision, processes = work.stepper.in_precision, work.stepper.processes
    if processes.world > 1:
        metrics = evaluate(work.model, work.task, work.validation, precision=precision)
        return processes.summed(metrics).scores(), None
    looking = _Looker(Looking(work.task, work.validation.pictures.samples))
    metrics = evaluate(work.model, work.task, work.validation, precision=precision, beside=looking)
    return metrics.scores(), None if looking.failed else looking.looking.findings(metrics)


class _Looker:
    """Looks on as long as nothing fails: what only the report needs must not keep the bundle from being written."""

    def __init__(self, looking: Looking) -> None:
        self.looking, self.failed = looking, False

    def __call__(self, logits: Tensor, targets: Tensor | Sequence[Tensor]) -> None:
        """Look at a batch."""
        if self.failed:
            return
        try:
            self.looking(logits, targets)
        except Exception:  # the report looks again, and then tells why it cannot
            self.failed = True
