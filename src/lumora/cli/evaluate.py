"""`lumora evaluate`: how good a bundle is on data with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumora.cli import data_options, options, output, places
from lumora.paths import at_home

if TYPE_CHECKING:
    from lumora.bundle import About
    from lumora.data import Limits
    from lumora.predict import Predictor
    from lumora.predict.evaluating import Evaluation
    from lumora.predict.measured_data import ToMeasure

_KEPT = 12
_SHOWN = 5

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="Pictures with labels or masks: a folder, a table, a dataset's name.", show_default=False
    ),
]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="train, validation or test; the test or else the validation."),
]
Out = Annotated[Path | None, options.place("--out", "DIR", "Write scores, a table of the classes, the worst samples.")]
Worst = Annotated[int, typer.Option("--worst", metavar="N", min=0, help="How many of the worst samples are told.")]
LabelNames = Annotated[
    str | None,
    typer.Option("--labels", metavar="FILE|NAMES", help="What the data's classes are called, if they do not say."),
]
LeaveOut = Annotated[
    bool, typer.Option("--leave-out-unknown", help="Measure without classes that the bundle does not know.")
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out samples that cannot be read.")]


def command(
    bundle: options.Bundle,
    data: Data,
    split: Split = None,
    out: Out = None,
    worst: Worst = _KEPT,
    skip_bad: SkipBad = False,
    leave_out_unknown: LeaveOut = False,
    labels: LabelNames = None,
    layout: data_options.Layout = None,
    ignore: data_options.Ignore = None,
    reduce_labels: data_options.Reduce = None,
    column: data_options.Columns = None,
    subset: data_options.Subset = None,
    batch_size: options.BatchSize = None,
    device: options.Device = None,
    base: options.Base = None,
    revision: options.Revision = None,
    max_pixels: options.MaxPixels = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> None:
    """Measure a bundle on pictures with labels or masks, as its training did.

    Classes are matched by their names. The metrics prove themselves first.
    """
    names, columns = data_options.labels_of(labels), data_options.columns_of(column or ())
    data = _place(bundle, data)
    _check_there(data)
    if out is not None:
        _check_place(out, data)
    from lumora.cli.loading import predictor as loaded
    from lumora.predict.measured_data import Reading, to_measure

    limits = _limits(max_pixels)
    predictor = loaded(bundle, device, base, limits, revision)
    reading = Reading(layout, names, ignore or None, reduce_labels, columns or None, subset, limits, leave_out_unknown)
    with data_options.there(data):
        chosen = to_measure(data, predictor.about, split, reading)
    for note in () if quiet else chosen.notes:
        output.note(note)
    found = _measured(predictor, chosen, batch_size, skip_bad, worst, quiet)
    values = _as_dict(bundle, data, chosen, found, predictor.about)
    if out is not None:
        _write(out, values, predictor.about, chosen, found)
    _tell_skipped(found, len(chosen.samples))
    if json:
        output.json(values)
    elif quiet:
        typer.echo(_as_line(values))
    else:
        _show(values)


def _place(bundle: str, data: str) -> str:
    """Where the data lie: from another folder, those that the bundle's run names so are found all the same."""
    from lumora.training.whereabouts import place_from_here

    run = Path(bundle) if (Path(bundle) / "recipe.yaml").is_file() else Path(bundle).parent
    return place_from_here(run, data)


def _check_there(data: str) -> None:
    """Misuse where the data are neither here nor a name that a dataset on the Hub could have."""
    from lumora.data.layouts import HUB

    path = at_home(data)
    if not path.exists() and (path.suffix or not HUB.sees(data)):
        raise typer.BadParameter(f"There is no file or folder {data}.", param_hint="DATA")


def _check_place(out: Path, data: str) -> None:
    from lumora.predict.evaluation_files import MARK, METRICS

    places.check_new(out, is_ours=lambda folder: places.is_marked(folder, METRICS, MARK), replace=True, apart_from=data)


def _limits(max_pixels: int | None) -> Limits | None:
    from lumora.data import Limits

    return None if max_pixels is None else Limits(max_pixels)


def _measured(
    predictor: Predictor, chosen: ToMeasure, batch_size: int | None, skip_bad: bool, worst: int, quiet: bool
) -> Evaluation:
    from lumora.predict.evaluating import measure

    with output.progress("evaluating", len(chosen.samples), hidden=quiet) as show:
        return measure(
            predictor.model,
            predictor.about,
            chosen.samples,
            batch_size=batch_size,
            skip_bad=skip_bad,
            keep=worst,
            seen=show,
        )


# --- what is told -----------------------------------------------------------------------------------------------------


def _as_dict(bundle: str, data: str, chosen: ToMeasure, found: Evaluation, about: About) -> dict[str, Any]:
    """Everything that was found, as values that JSON has."""
    from lumora.predict.worst_samples import plain_worst

    return {
        "bundle": bundle,
        "data": data,
        "split": chosen.split,
        "task": about.task,
        "labels": list(about.labels.names),
        "pictures": found.pictures,
        "metric": found.main,
        "scores": output.numbers(found.scores),
        "recorded": output.numbers(about.metrics),
        "per_class": {name: output.numbers(row) for name, row in found.scores.per_class.items()},
        "absent": list(found.absent),
        "worst": [plain_worst(judged, about.labels) for judged in found.worst],
        "skipped": [{"sample": key, "reason": str(error)} for key, error in found.skipped],
        "notes": list(chosen.notes),
    }


def _write(out: Path, values: dict[str, Any], about: About, chosen: ToMeasure, found: Evaluation) -> None:
    """Write the files; the worst samples learn where their drawings are."""
    from lumora.predict.evaluating import task_of
    from lumora.predict.evaluation_files import WORST, drawing_name, write_evaluation
    from lumora.predict.worst_samples import drawn_worst

    wanted = {judged.key for judged in found.worst}
    samples = {sample.key: sample for sample in chosen.samples if sample.key in wanted}
    for number, one in enumerate(values["worst"], 1):
        one["drawing"] = f"{WORST}/{drawing_name(number, one['sample'])}"
    task = task_of(about)
    drawings = ((judged.key, drawn_worst(task, judged, samples[judged.key])) for judged in found.worst)
    write_evaluation(out, values, drawings)
    values["out"] = str(out)


def _as_line(values: dict[str, Any]) -> str:
    name = values["metric"]
    return f"{name} {output.number(values['scores'][name])} on {values['pictures']:,} pictures"


def _show(values: dict[str, Any]) -> None:
    output.facts(
        {
            "bundle": values["bundle"],
            "data": values["data"] + (f", {values['split']}" if values["split"] else ""),
            "task": values["task"],
            "pictures": f"{values['pictures']:,}",
        }
    )
    scores, recorded = values["scores"], values["recorded"]
    head = ["score", "here", "in training"] if recorded else ["score", "here"]
    rows = [[n, output.number(v), output.number(recorded.get(n))][: len(head)] for n, v in scores.items()]
    output.table(head, rows, numbers=head[1:])
    _show_classes(values)
    _show_worst(values["worst"])
    if "out" in values:
        typer.echo()
        output.facts({"written to": values["out"]})


def _show_classes(values: dict[str, Any]) -> None:
    per_class = values["per_class"]
    columns = list(dict.fromkeys(column for numbers in per_class.values() for column in numbers))
    rows = [[n, *(output.number(per_class.get(n, {}).get(c)) for c in columns)] for n in values["labels"]]
    output.table(["class", *columns], rows, numbers=columns)
    if values["absent"]:
        output.note(f"No sample shows {', '.join(values['absent'])}: how well they are told apart is not known.")


def _show_worst(worst: Sequence[dict[str, Any]]) -> None:
    if not worst:
        return
    output.heading("Worst samples")
    for one in worst[:_SHOWN]:
        if "mean_iou" in one:
            typer.echo(f"  {one['sample']}: mean IoU {one['mean_iou']:.3f}")
        else:
            typer.echo(f"  {one['sample']}: labelled {_likely(one['meant'])}, said {_likely(one['said'])}")
    if len(worst) > _SHOWN:
        typer.echo(f"  and {len(worst) - _SHOWN:,} more (--json and --out have all)")


def _likely(labels: Mapping[str, float]) -> str:
    return ", ".join(f"{name} ({share:.0%})" for name, share in labels.items()) or "nothing"


def _tell_skipped(found: Evaluation, count: int) -> None:
    if not found.skipped:
        return
    lines = [f"  - {error}" for _, error in found.skipped[:_SHOWN]]
    lines += [f"  - and {len(found.skipped) - _SHOWN:,} more"] * (len(found.skipped) > _SHOWN)
    output.note(
        "\n".join([f"{len(found.skipped):,} of {count:,} pictures cannot be used; they were left out.", *lines])
    )
