"""Writing a run's report: at the end of its training, or again from its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from lumora.data.durable import write_file
from lumora.errors import RunError
from lumora.training.folder import RunFolder
from lumora.training.report.content import content_of
from lumora.training.report.examining import Findings
from lumora.training.report.page import render
from lumora.training.report.subject import Subject, of_folder, of_prepared
from lumora.training.setup import Prepared
from lumora.training.stopping import AskedToStop, StopRequest, ended_by_signals


def report_on(
    folder: RunFolder,
    prepared: Prepared,
    told: Callable[[str], None],
    stop: StopRequest,
    found: Findings | None = None,
) -> None:
    """Write the report of a training whose bundle was just saved. What keeps it from being written is told only.

    Without what was `found` in the pictures for validation it costs an evaluation of the model; the memory does not
    grow with the number of pictures.
    """
    try:
        with ended_by_signals(stop):
            write(of_prepared(folder, prepared), found)
    except AskedToStop:
        told(_not_written(folder, "it was asked to stop"))
    except Exception as error:
        told(_not_written(folder, str(error).rstrip(".") or type(error).__name__))


def write_report(run: str | os.PathLike[str], data: Any = None, base: str | nn.Module | None = None) -> Path:
    """Write the report of a finished run once more, from its folder, its bundle and its data; return where it is.

    Args:
        run: the folder of the run.
        data: must be given again where they were at hand in Python.
        base: where the base lies now, or the model as it was before training; only for a base without a name.
    """
    with RunFolder.open(run) as folder:
        if not folder.bundle.is_dir():
            raise RunError(
                f"{folder.path} has no bundle yet, so there is nothing to report on. Go on with it by `lumora "
                f"resume {folder.path}`."
            )
        write(of_folder(folder, data, base))
        return folder.report


def write(subject: Subject, found: Findings | None = None) -> None:
    """Write the report of a run that is at hand; looks at the pictures for validation where nothing was `found` yet."""
    # Names of files need not be text; what is none becomes a question mark.
    write_file(subject.folder.report, render(content_of(subject, found)).encode(errors="replace"))


def _not_written(folder: RunFolder, why: str) -> str:
    return (
        f"The report {folder.report} was not written: {why}. The bundle is saved all the same; to write it later: "
        f"lumora.training.write_report({folder.path.as_posix()!r})"
    )
