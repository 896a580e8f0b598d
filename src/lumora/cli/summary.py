"""What a training came to: for people, as one line, and as JSON."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lumora.cli import output
from lumora.cli.stopping import SIGNALLED, resume_command

if TYPE_CHECKING:
    from lumora.training import Recipe, Run
    from lumora.training.events import Opened


def show(run: Run, about: Opened, *, json: bool, quiet: bool) -> None:
    """Write the result to the standard output."""
    found = as_dict(run, about)
    if json:
        output.json(found)
    elif quiet:
        typer.echo(_as_line(found))
    else:
        output.facts(_as_facts(found))


def end(run: Run) -> None:
    """End with 130 or 143 where a signal cut the training short."""
    if run.bundle is None:
        raise typer.Exit(SIGNALLED + (run.signal or signal.SIGINT))


def as_dict(run: Run, about: Opened) -> dict[str, Any]:
    """Everything that is known of a run, as values that JSON has."""
    recipe, source = about.recipe, about.source
    bundle, report = run.bundle, run.folder / "report.html"
    return {
        "run": str(run.folder),
        "ending": run.ending.name.lower(),
        "reason": run.ending.value,
        "signal": None if run.signal is None else signal.Signals(run.signal).name,
        "resume": resume_command(run.folder) if bundle is None else None,
        "bundle": None if bundle is None else str(bundle),
        "bundle_bytes": None if bundle is None else _size(bundle),
        "report": str(report) if report.is_file() else None,
        "metric": _main_score(run, recipe),
        "scores": dict(run.scores),
        "per_class": run.scores.per_class,
        "epochs": run.epochs,
        "epochs_asked": recipe.train.epochs,
        "best_epoch": run.best_epoch,
        "seconds": round(run.seconds, 3),
        "data": recipe.data.path,
        "task": source.task,
        "labels": list(source.labels.names),
        "pictures": {split: len(samples) for split, samples in source.splits.items()},
        "base": recipe.base.name,
        "method": recipe.train.method,
        "trained_parameters": run.trained,
        "parameters": run.parameters,
        "notes": list(run.notes),
    }


def _as_facts(found: dict[str, Any]) -> dict[str, str]:
    facts = {"run": found["run"], "ended": f"{found['reason']} ({_epochs(found)})"}
    if found["bundle"] is None:
        return {**facts, "go on with": found["resume"]}
    if found["metric"] is not None:
        best = "before the training" if not found["best_epoch"] else f"after epoch {found['best_epoch']:,}"
        facts[found["metric"]] = f"{found['scores'][found['metric']]:.4f} ({best})"
    size = output.size(found["bundle_bytes"])
    facts["bundle"] = f"{found['bundle']} ({size}, tried in a fresh process)"
    if found["report"] is not None:
        facts["report"] = found["report"]
    bundle = shlex.quote(found["bundle"])
    facts["predict"] = f"lumora predict {bundle} PICTURES --out predictions"
    facts["evaluate"] = f"lumora evaluate {bundle} DATA"
    return facts


def _as_line(found: dict[str, Any]) -> str:
    if found["bundle"] is None:
        return f"stopped ({_epochs(found)}): {found['resume']}"
    score = "" if found["metric"] is None else f"{found['metric']} {found['scores'][found['metric']]:.4f}: "
    return f"{score}{found['bundle']} ({output.size(found['bundle_bytes'])})"


def _epochs(found: dict[str, Any]) -> str:
    return f"{found['epochs']:,} of {found['epochs_asked']:,} epochs"


def _main_score(run: Run, recipe: Recipe) -> str | None:
    """The score that decided; the task's usual one where the last epoch was kept."""
    from lumora.training.schema.contradictions import SCORES

    name = recipe.train.best_by or SCORES[str(recipe.data.task)][0]
    return name if name in run.scores else None


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
