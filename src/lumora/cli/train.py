"""`lumora train`: from pictures to a verified bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from lumora.cli import asking, data_options, options, showing
from lumora.cli.help_all import HelpAll, ShortHelp
from lumora.errors import RunError

if TYPE_CHECKING:
    from lumora.training import Recipe, Run
    from lumora.training.events import Listener


class Help(ShortHelp):
    """The usual options of `lumora train` fit on a screen."""

    left_out = frozenset({"layout", "labels", "seed", "track", "debug"})


@showing.told_once()
def command(
    data: asking.Data,
    base: asking.Base = None,
    task: asking.Task = None,
    out: asking.Out = None,
    epochs: asking.Epochs = None,
    max_time: asking.MaxTime = None,
    full: asking.Full = False,
    head_only: asking.HeadOnly = False,
    setting: asking.Settings = None,
    skip_bad: asking.SkipBad = False,
    layout: data_options.Layout = None,
    labels: data_options.LabelNames = None,
    seed: asking.Seed = None,
    track: asking.Track = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
    debug: options.Debug = False,
    _help_all: HelpAll = False,
) -> None:
    """Adapt a model to your pictures; what is not said is chosen."""
    usual = asking.wishes(
        base=base,
        task=task,
        epochs=epochs,
        full=full,
        head_only=head_only,
        skip_bad=skip_bad,
        layout=layout,
        labels=labels,
        seed=seed,
    )
    wished = {**usual, "train.max_time": max_time, "run.track": track or None, "run.out": out}
    asked = asking.recipe_of(data, wished, setting or ())
    _check_place(asked)
    _train(asked, data, quiet=quiet, json=json)


def _train(asked: Recipe, data: str, *, quiet: bool, json: bool) -> None:
    from lumora.training import finetune

    def training(listener: Listener) -> Run:
        with asking.misuses(data):
            return finetune(recipe=asked, listeners=[listener])

    showing.carry_out(training, quiet=quiet, json=json)


def _check_place(asked: Recipe) -> None:
    """Misuse where the folder of the run is taken, or would be among the data."""
    from lumora.paths import at_home
    from lumora.training.folder import RunFolder

    run, data = RunFolder(asked.run.out or "runs"), at_home(asked.data.path or "")
    out = run.path
    try:
        if asked.run.out is not None:
            run.check_new()
    except RunError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    if data.is_dir() and out.resolve().is_relative_to(data.resolve()):
        text = f"The run would lie in {out}, within the data ({data}), and be among them later; name another folder."
        raise typer.BadParameter(text, param_hint="--out")
