"""`lumora inspect`: what could be adapted in a model, or what an adapter or a bundle holds."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lumora.cli import inspect_bundle, options, output

if TYPE_CHECKING:
    from lumora.models.adapters import AdapterSurvey
    from lumora.models.facts import Facts
    from lumora.models.survey import LoraCost, ModelSurvey, ModuleGroup

Name = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE|ADAPTER|MODEL",
        help="A repository on the Hub or a local folder, timm/NAME, torchvision/NAME, smp/NAME, "
        "python:package.module:function, lumora/efficientnet-lite0.",
        show_default=False,
    ),
]
Rank = Annotated[
    int, typer.Option("--rank", metavar="N", min=1, max=65536, help="The rank at which a model's cost is counted.")
]


def command(
    name: Name,
    rank: Rank = 8,
    revision: options.Revision = None,
    json: Annotated[bool, typer.Option("--json", help="Write JSON, for machines.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Show what a bundle or an adapter holds, or what LoRA can adapt in a model.

    The files of a bundle that lies here are checked; a damaged one ends with 1. No weights of models are downloaded,
    and no pickle is opened. The fingerprint of a model's weights is shown when they are here already.
    """
    from lumora import models
    from lumora.bundle.names import ABOUT
    from lumora.models import adapters, facts, libraries, places, survey

    library = models.parse(name).library
    kind = ""
    if library == "transformers":
        kind = places.find(name, ABOUT, places.ADAPTER_CONFIG, places.MODEL_CONFIG).name
    if kind == ABOUT:
        inspect_bundle.show(name, revision=revision, json=json)
        return
    if revision is not None:
        raise typer.BadParameter(f"{name} is no bundle; revisions are of bundles.", param_hint="--revision")
    if kind == places.ADAPTER_CONFIG:
        found = adapters.survey(name)
        output.json({"adapter": name, **dataclasses.asdict(found)}) if json else _show_adapter(name, found)
        return
    if library == "python":
        sys.path.append(str(Path.cwd()))  # like `python -m`, but what is installed comes first
    seen = survey.survey(models.build(name, meta=True), rank)
    known = facts.facts(name)
    here = libraries.weights_are_here(models.parse(name))
    fingerprint = models.load_base(name, preprocessing=known.preprocessing).fingerprint if here else None
    if json:
        about = {"fingerprint": fingerprint, **dataclasses.asdict(known)}
        output.json({"model": name, **dataclasses.asdict(seen), **about})
    else:
        _show_model(name, seen, known, fingerprint)


def _show_model(name: str, survey: ModelSurvey, known: Facts, fingerprint: str | None) -> None:
    output.facts({"model": name, "architecture": survey.architecture, "parameters": f"{survey.parameters:,}"})
    output.facts({"preprocessing": f"{known.preprocessing} ({known.preprocessing.origin})"})
    about = {"licence": known.licence, "source": known.source, "fingerprint": fingerprint}
    output.facts({key: value for key, value in about.items() if value})
    output.table(
        ["module", "kind", "weight", "count", "parameters", "adapted"],
        [_module_row(group) for group in survey.groups],
        numbers=("count", "parameters"),
    )
    if survey.lora is None:
        output.note(survey.problem or "Nothing in this model can be adapted.")
    else:
        _show_cost(survey.lora)


def _module_row(group: ModuleGroup) -> list[str]:
    shapes = [" × ".join(map(str, shape)) for shape in group.shapes]
    weight = shapes[0] if len(shapes) == 1 else f"{shapes[0]} … {shapes[-1]}"
    some = "yes" if group.targeted == group.count else f"{group.targeted} of {group.count}"
    return [group.path, group.kind, weight, f"{group.count}", f"{group.parameters:,}", some if group.targeted else ""]


def _show_cost(cost: LoraCost) -> None:
    targets = cost.target_modules
    named = targets if isinstance(targets, str) else ", ".join(targets)
    origin = "usual for this architecture" if cost.usual else "no usual targets are known for this architecture"
    output.facts(
        {
            "target_modules": f"{named} ({origin})",
            f"LoRA of rank {cost.rank}": f"{cost.targets} module{'s' * (cost.targets != 1)} adapted",
            "trainable": f"{cost.trainable:,} parameters ({cost.percent:.4g} %)",
            "adapter file": output.size(cost.file_bytes),
        }
    )
    for note in cost.notes:
        output.note(note)


def _show_adapter(name: str, survey: AdapterSurvey) -> None:
    output.facts({"adapter": name, "base model": survey.base or "not recorded"})
    output.facts({key: _value(value) for key, value in survey.config.items()})
    if survey.groups:
        output.table(
            ["module", "kind", "rank", "count", "parameters", "size"],
            [
                [g.path, g.kind, f"{g.rank or ''}", f"{g.count}", f"{g.parameters:,}", output.size(g.bytes)]
                for g in survey.groups
            ],
            numbers=("rank", "count", "parameters", "size"),
        )
        output.facts({"parameters": f"{survey.parameters:,}"})
    output.facts({"size on disk": output.size(survey.bytes)})
    if survey.note:
        output.note(survey.note)


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
