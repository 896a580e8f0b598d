"""`lumora plan`: what a training would do, cost and change, before it is done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumora.cli import asking, data_options, output
from lumora.cli.help_all import HelpAll
from lumora.errors import TrainingError

if TYPE_CHECKING:
    from lumora.training import Plan, Recipe

_LABELS = 8
NoProbe = Annotated[
    bool, typer.Option("--no-probe", help="Answer at once, without trying steps to measure memory and time.")
]


def command(
    data: asking.Data,
    base: asking.Base = None,
    task: asking.Task = None,
    epochs: asking.Epochs = None,
    full: asking.Full = False,
    head_only: asking.HeadOnly = False,
    settings: asking.Settings = None,
    skip_bad: asking.SkipBad = False,
    layout: data_options.Layout = None,
    labels: data_options.LabelNames = None,
    seed: asking.Seed = None,
    no_probe: NoProbe = False,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    _help_all: HelpAll = False,
) -> None:
    """Say what a training would do, cost and change. Nothing is trained.

    A few steps are tried in a process of their own, to measure memory and time; then nothing of them is left.

    Ends with 1 if they cannot be done.
    """
    wished = asking.wishes(
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
    asked = asking.recipe_of(data, wished, settings or ())
    found = _plan(asked, data, probe=not no_probe)
    if json:
        output.json(found.as_dict())
    else:
        _show(found)
    if found.failed is not None:
        raise TrainingError(found.failed)


def _plan(asked: Recipe, data: str, *, probe: bool) -> Plan:
    from lumora.cli.stopping import telling_how_to_go_on
    from lumora.training import plan

    # A signal, too, is to leave nothing of the steps behind that are tried.
    with telling_how_to_go_on(lambda: None), asking.misuses(data), output.progress("planning", 1):
        return plan(recipe=asked, probe=probe)


# --- for people -------------------------------------------------------------------------------------------------------


def _show(plan: Plan) -> None:
    _show_data(plan)
    _show_changes(plan)
    _show_cost(plan)
    _show_recipe(plan)
    for note in (*plan.data.notes, *plan.base.notes, *plan.changes.notes, *plan.notes):
        output.note(note)
    for warning in plan.warnings:
        typer.echo(f"warning: {warning}", err=True)


def _show_data(plan: Plan) -> None:
    data, base = plan.data, plan.base
    names = list(data.labels[:_LABELS])
    more = f" and {len(data.labels) - _LABELS:,} more" if len(data.labels) > _LABELS else ""
    height, width = data.picture_size
    output.facts(
        {
            "data": data.path or "at hand",
            "read as": f"{data.task} from {data.layout}",
            "pictures": f"{_counts(data.splits.items())}; typically {width} × {height}",
            "labels": f"{len(data.labels):,}: {', '.join(names)}{more}",
            "base": f"{base.name}, {base.parameters:,} parameters",
        }
    )
    known = {"licence": base.licence, "source": base.source, "fingerprint": base.fingerprint}
    output.facts({name: value for name, value in known.items() if value})


def _counts(parts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in parts)


def _show_changes(plan: Plan) -> None:
    changes, method = plan.changes, plan.recipe.train.method
    output.heading("What is trained and saved")
    output.table(
        ["module", "kind", "rank", "count", "numbers", "size"],
        [
            [g.path, g.kind, f"{g.rank or ''}", f"{g.count}", f"{g.parameters:,}", output.size(g.bytes)]
            for g in changes.groups
        ],
        numbers=("rank", "count", "numbers", "size"),
    )
    output.facts(
        {
            "method": str(method),
            "trained": f"{changes.trained:,} of {changes.parameters:,} parameters ({changes.percent:.4g} %)",
            "adapter" if method == "lora" else "weights": output.size(changes.bundle_bytes),
        }
    )


def _show_cost(plan: Plan) -> None:
    course, disk = plan.course, plan.disk
    output.heading("What it costs")
    output.facts(
        {
            "steps": f"{course.steps:,}: {_number(course.epochs, 'epoch')} of {course.steps_in_epoch:,}, "
            f"{_number(course.batch_size, 'picture')} a step",
            "disk": ", ".join(
                [
                    f"up to {output.size(disk.checkpoints)} of checkpoints",
                    f"{output.size(disk.bundle)} of bundle",
                    *([f"{output.size(disk.pictures)} of decoded pictures"] if disk.pictures else []),
                    *([f"about {output.size(disk.base)} of weights to fetch"] if disk.base else []),
                ]
            )
            + f"; {output.size(disk.free)} are free",
        }
    )
    if plan.memory is not None:
        output.facts({"memory": _memory(plan)})
    if plan.time is not None:
        output.facts({"time": _time(plan)})


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _memory(plan: Plan) -> str:
    """The most that is held at once, and by whom."""
    memory = plan.memory
    assert memory is not None
    parts = {
        "the training itself": memory.process,
        "decoded pictures": memory.pictures,
        "processes that read": memory.readers,
        "the bundle's verification at the end": memory.verifying,
    }
    text = ", ".join(f"{output.size(count)} {name}" for name, count in parts.items() if count)
    gpu = "" if memory.device is None else f"; {output.size(memory.device)} of the GPU's"
    return f"{output.size(memory.whole)} ({text}){gpu}"


def _time(plan: Plan) -> str:
    time, recipe = plan.time, plan.recipe
    assert time is not None
    step = _span(*(_seconds(value) for value in time.step))
    text = f"{_span(_duration(time.least), _duration(time.most))}, from loading the base to the verified bundle"
    text += f" ({step} a step, {_seconds(time.evaluation)} an evaluation)"
    return text + ("; less where the score stops rising" if recipe.train.patience is not None else "")


def _span(least: str, most: str) -> str:
    return f"about {least}" if least == most else f"{least} to {most}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else f"{value:,.0f} s"


def _duration(seconds: float) -> str:
    """A length of time for people.

    >>> _duration(48.2), _duration(130), _duration(4000)
    ('48 s', '2 min 10 s', '1 h 06 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"


def _show_recipe(plan: Plan) -> None:
    from lumora.training import explained

    output.heading("The recipe")
    rows = [[key, _value(value), how, why] for key, value, how, why in explained(plan.chosen)]
    output.table(["key", "value", "from", "why"], rows)


def _value(value: Any) -> str:
    from lumora.training.schema.yaml_files import plain, written

    return written(plain(value))
