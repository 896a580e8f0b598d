"""`lumora predict`: labels or masks of pictures, as files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumora.cli import loading, options, output
from lumora.errors import DataError, OutputError

if TYPE_CHECKING:
    from lumora.predict import Predictor
    from lumora.predict.files import Content
    from lumora.predict.pictures import Picture
    from lumora.predict.predictor import Prediction

_LIKELIEST = 5
"""Labels whose probability is written."""
_SHOWN = 5

Given = Annotated[
    list[Path],
    typer.Argument(metavar="PICTURES", help="Files, or folders with all pictures in them.", show_default=False),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", help="A new folder, or one that this command has written.", show_default=False
    ),
]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Pictures in a batch.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and end with 0.")]
NoOverlays = Annotated[bool, typer.Option("--no-overlays", help="Do not draw predictions on the pictures.")]


def command(
    bundle: options.Bundle,
    given: Given,
    out: Out,
    batch_size: BatchSize = 8,
    skip_bad: SkipBad = False,
    no_overlays: NoOverlays = False,
    device: options.Device = None,
    base: options.Base = None,
    revision: options.Revision = None,
    max_pixels: options.MaxPixels = None,
    json: Annotated[bool, typer.Option("--json", help="Write the summary as JSON, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Say what pictures show: labels, or a mask of each picture.

    Writes a line for each picture into predictions.jsonl, masks as PNG with the classes' colours, and overlays.

    Ends with 1 if pictures could not be read; all others are done then.
    """
    from lumora.data import Limits
    from lumora.predict.files import PredictionFiles, check_place

    limits = Limits() if max_pixels is None else Limits(max_pixels)
    try:
        check_place(out, given)
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    pictures = _pictures(given, limits)
    predictor = loading.predictor(bundle, device, base, limits, revision)
    files = PredictionFiles(out, _made_by(bundle, predictor))
    bad: list[tuple[str, DataError]] = []
    counts: Counter[str] = Counter()
    try:
        with output.progress("predicting", len(pictures)) as show:
            results = _results(predictor, pictures, batch_size, not no_overlays)
            for done, (picture, result, content) in enumerate(results, 1):
                files.add(content, getattr(picture, "inside", picture.key))
                if isinstance(result, DataError):
                    bad.append((picture.key, result))
                else:
                    counts.update(_said(content))
                show(done)
    finally:
        files.close()
    summary = {"bundle": bundle, "task": predictor.task, "out": str(out), "pictures": len(pictures) - len(bad)}
    ordered = {name: counts[name] for name in predictor.labels.names if counts[name]}
    if json:
        output.json({**summary, "labels": ordered, "skipped": [{"picture": k, "error": str(e)} for k, e in bad]})
    else:
        _show(summary, ordered)
    _end(bad, len(pictures), skip_bad)


def _pictures(given: Sequence[Path], limits: Any) -> list[Picture]:
    """All pictures, each once."""
    from lumora.predict.pictures import pictures

    for path in given:
        if not path.expanduser().exists():
            raise typer.BadParameter(f"There is no file or folder {path}.", param_hint="PICTURES")
    try:
        return list({picture.key: picture for picture in pictures(given, limits)}.values())
    except DataError as error:
        raise typer.BadParameter(str(error), param_hint="PICTURES") from error


def _made_by(bundle: str, predictor: Predictor) -> dict[str, Any]:
    colours = {"colours": predictor.labels.palette()} if predictor.task == "segmentation" else {}
    return {"bundle": bundle, "task": predictor.task, "labels": predictor.labels.names, **colours}


def _results(
    predictor: Predictor, pictures: Sequence[Picture], batch_size: int, overlays: bool
) -> Iterator[tuple[Picture, Prediction | DataError, Content]]:
    """Every picture, what is predicted of it, and the content of its files; they are drawn in threads."""
    from lumora.predict import plain
    from lumora.predict.ahead import ahead
    from lumora.predict.files import Content, encoded_drawing, encoded_mask
    from lumora.tasks import MaskPrediction

    def content(pair: tuple[Picture, Prediction | DataError]) -> Content:
        picture, result = pair
        if isinstance(result, DataError):
            return Content({"picture": picture.key, "error": str(result)})
        mask = encoded_mask(result.mask, predictor.labels) if isinstance(result, MaskPrediction) else None
        overlay = encoded_drawing(predictor.draw(picture, result)) if overlays else None
        return Content({"picture": picture.key, **plain(result, predictor.labels, _LIKELIEST)}, mask, overlay)

    for (picture, result), made in ahead(content, predictor.each(pictures, batch_size), batch_size):
        yield picture, result, made


def _said(content: Content) -> list[str]:
    """The labels of a picture, or those in its mask."""
    line = content.line
    return line["labels"] if "labels" in line else [one["label"] for one in line["classes"]]


def _show(summary: dict[str, Any], counts: dict[str, int]) -> None:
    output.facts({name: f"{value:,}" if isinstance(value, int) else value for name, value in summary.items()})
    if counts:
        output.table(["label", "pictures"], [[name, f"{n:,}"] for name, n in counts.items()], numbers=("pictures",))


def _end(bad: Sequence[tuple[str, DataError]], count: int, skip_bad: bool) -> None:
    """Tell what was left out, and end with 1 unless that was agreed to."""
    if not bad:
        return
    lines = [f"  - {error}" for _, error in bad[:_SHOWN]]
    lines += [f"  - and {len(bad) - _SHOWN:,} more (predictions.jsonl has all)"] * (len(bad) > _SHOWN)
    told = f"{len(bad):,} of {count:,} pictures cannot be used"
    if skip_bad:
        output.note("\n".join([f"{told}; they were left out.", *lines]))
    else:
        raise DataError(
            "\n".join([f"{told}; mend them, or leave them out with --skip-bad. The others are done.", *lines])
        )
