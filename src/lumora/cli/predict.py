"""`lumora predict`: labels or masks of pictures, as files."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lumora.cli import given_pictures, loading, options, output, predict_options, stopping
from lumora.errors import DataError, OutputError

if TYPE_CHECKING:
    from lumora.predict import Predictor, Settings
    from lumora.predict.comparing import Compared
    from lumora.predict.files import PredictionFiles
    from lumora.predict.pictures import Picture
    from lumora.predict.tally import Tally
    from lumora.predict.to_files import ToFiles

_SHOWN = 5


def command(
    bundle: options.Bundle,
    given: predict_options.Given,
    out: predict_options.Out,
    resume: predict_options.Resume = False,
    palette: predict_options.Palette = None,
    tile: predict_options.Tile = None,
    overlap: predict_options.Overlap = None,
    strength: predict_options.Strength = 1.0,
    flip: predict_options.Flip = False,
    compare: predict_options.Compare = False,
    batch_size: predict_options.BatchSize = 8,
    skip_bad: predict_options.SkipBad = False,
    no_overlays: predict_options.NoOverlays = False,
    device: options.Device = None,
    base: options.Base = None,
    revision: options.Revision = None,
    max_pixels: options.MaxPixels = None,
    quiet: options.Quiet = False,
    json: Annotated[bool, typer.Option("--json", help="Write the summary as JSON, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Say what pictures show: labels, or a mask of each picture.

    Writes a line for each picture into predictions.jsonl, masks as PNG with the classes' colours, and overlays.

    Ends with 1 if pictures could not be read; all others are done then.
    """
    from lumora.data import Limits
    from lumora.predict import Settings
    from lumora.predict.comparing import Compared, named
    from lumora.predict.files import PredictionFiles
    from lumora.predict.tally import Tally
    from lumora.predict.to_files import ToFiles

    limits = Limits() if max_pixels is None else Limits(max_pixels)
    bundles, given = _bundles(bundle, given, compare)
    found = given_pictures.find(given, limits)
    _check_place(out, found, resume)
    settings = Settings(palette=_palette(palette), strength=strength, flip=flip, tile=_tile(tile), overlap=overlap)
    if len(bundles) == 1:
        predictors = [loading.predictor(bundle, device, base, limits, revision, settings=settings)]
    else:
        predictors = loading.predictors(bundles, device, base, limits, revision, settings)
    tally, names = Tally(), named(bundles)
    with loading.misuses():
        compared = Compared(dict(zip(names, predictors, strict=True)), not no_overlays) if compare else None
    about = _made_by(bundles, revision, predictors, settings, names if compare else (), overlays=not no_overlays)
    files = _open(PredictionFiles, out, about, resume, tally)
    work = compared or ToFiles(predictors[0], files, not no_overlays)
    left = [picture for picture in found.pictures if not files.has(picture.key)]
    how = _How(batch_size, quiet, len(found.pictures) - len(left))
    try:
        with stopping.ending_tidily(lambda: _how_to_go_on(how)):
            bad = _all(work, files, tally, left, how)
    finally:
        files.close()
    summary = {
        "bundle": ", ".join(bundles),
        "task": predictors[0].task,
        "out": str(out),
        "pictures": len(found.pictures) - len(bad),
        **({"done before": how.before} if how.before else {}),
    }
    _tell(summary, tally.summary(predictors[0].labels), bad, quiet, json)
    _end(bad, len(found.pictures), skip_bad)


# --- what is asked ----------------------------------------------------------------------------------------------------


def _check_place(out: Path, found: given_pictures.Given, resume: bool) -> None:
    from lumora.predict.files import check_place

    try:
        check_place(out, found.folders, found.pictures, resume=resume)
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error


def _palette(given: str | None) -> str | None:
    """The palette; one that cannot be read is a misuse."""
    from lumora.data.palettes import PALETTES, read_palette

    if given is not None and given.lower() not in PALETTES:
        try:
            read_palette(Path(given))
        except DataError as error:
            raise typer.BadParameter(str(error), param_hint="--palette") from error
    return given


def _tile(given: str | None) -> int | Literal["auto"] | None:
    if given is None:
        return None
    if given == "auto":
        return "auto"
    if given.isdecimal() and int(given):
        return int(given)
    raise typer.BadParameter(f"{given!r} is neither a number of pixels nor auto.", param_hint="--tile")


def _bundles(first: str, given: Sequence[str], compare: bool) -> tuple[list[str], list[str]]:
    """The bundles, and what is left: the first that neither holds a bundle nor could be the name of a repository."""
    if not compare:
        return [first], list(given)
    more = list(itertools.takewhile(_is_bundle, given))
    if not more or len(more) == len(given):
        raise typer.BadParameter(
            "To compare, name at least two bundles and then pictures: lumora predict A B pictures/ --compare",
            param_hint="--compare",
        )
    return [first, *more], list(given[len(more) :])


def _is_bundle(name: str) -> bool:
    from lumora.bundle.names import ABOUT
    from lumora.data.listing import PICTURES
    from lumora.predict.pictures import at_home

    path = at_home(name)
    # A repository may end as pictures do, but a mistyped picture is likelier.
    if os.path.lexists(path) or path.suffix.lower() in PICTURES:
        return os.path.lexists(path / ABOUT)
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None


def _made_by(
    bundles: Sequence[str],
    revision: str | None,
    predictors: Sequence[Predictor],
    settings: Settings,
    names: Sequence[str],
    *,
    overlays: bool,
) -> dict[str, Any]:
    """What makes the predictions; to go on with them, all but the bundles' places must be the same."""
    from lumora.bundle.identity import identity
    from lumora.bundle.locating import bundle_folder
    from lumora.lora.hub import HubOptions

    ids = [identity(bundle_folder(bundle, HubOptions(revision))) for bundle in bundles]
    labels, task = predictors[0].labels, predictors[0].task
    return {
        "bundle": list(bundles) if names else bundles[0],
        "identity": dict(zip(names, ids, strict=True)) if names else ids[0],
        "task": task,
        "labels": labels.names,
        **({"colours": labels.palette()} if task == "segmentation" else {}),
        **{key: value for key, value in dataclasses.asdict(settings).items() if key != "palette"},
        "overlays": overlays,
    }


def _open(kind: type[PredictionFiles], out: Path, about: dict[str, Any], resume: bool, tally: Tally) -> PredictionFiles:
    try:
        return kind(out, about, resume=resume, take=tally.add)
    except OutputError as error:
        raise typer.BadParameter(str(error), param_hint="--resume" if resume else "--out") from error


# --- the work ---------------------------------------------------------------------------------------------------------


def _all(
    work: ToFiles | Compared, files: PredictionFiles, tally: Tally, pictures: Sequence[Picture], how: _How
) -> list[tuple[str, str]]:
    """Do the pictures; those that cannot be used, and why."""
    bad: list[tuple[str, str]] = []
    with output.progress("predicting", len(pictures) + how.before, hidden=how.quiet) as show:
        for picture, content in work.contents(pictures, how.batch_size):
            files.add(content, getattr(picture, "inside", picture.key))
            tally.add(content.line)
            how.done += 1
            if "error" in content.line:
                bad.append((picture.key, content.line["error"]))
            show(how.before + how.done)
    return bad


@dataclass
class _How:
    """How pictures are done, and how many are."""

    batch_size: int
    quiet: bool
    before: int
    done: int = 0


def _how_to_go_on(how: _How) -> str:
    return f"{how.done + how.before:,} pictures are done; the same command with --resume goes on with the others."


# --- what is told -----------------------------------------------------------------------------------------------------


def _tell(
    summary: dict[str, Any],
    counts: dict[str, Any],
    bad: Sequence[tuple[str, str]],
    quiet: bool,
    json: bool,
) -> None:
    if json:
        before = {"done_before": summary.pop("done before", 0)}
        output.json({**summary, **before, **counts, "skipped": [{"picture": k, "error": e} for k, e in bad]})
    elif quiet:
        typer.echo(summary["out"])
    else:
        output.facts({name: f"{value:,}" if isinstance(value, int) else value for name, value in summary.items()})
        _show(counts)


def _show(counts: dict[str, Any]) -> None:
    if "disagreement" in counts:
        output.facts({"disagreement": f"{counts['disagreement']:.1%}", "most in": counts["most_in"] or "–"})
    pictures, pixels = counts["labels"], counts.get("pixels", {})
    if not pictures:
        return
    whole = sum(pixels.values())
    rows = [[name, f"{n:,}", *([f"{pixels[name] / whole:.1%}"] if pixels else [])] for name, n in pictures.items()]
    output.table(["label", "pictures", *(["area"] if pixels else [])], rows, numbers=("pictures", "area"))


def _end(bad: Sequence[tuple[str, str]], count: int, skip_bad: bool) -> None:
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
