"""What `lumora inspect` shows of a bundle."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from lumora.cli import output
from lumora.errors import BundleError

if TYPE_CHECKING:
    from lumora.bundle import About
    from lumora.bundle.survey import BundleSurvey
    from lumora.models.adapters import TensorGroup

_LABELS = 12
_METHODS = {"lora": "adapters and the head", "head": "the head alone", "full": "all weights"}


def show(name: str, *, revision: str | None, json: bool) -> None:
    """Show a bundle; a damaged one is an error, after all that is known of it."""
    from lumora.bundle.survey import survey

    found = survey(name, revision=revision)
    if json:
        output.json(_as_dict(name, found))
    else:
        _show(name, found)
    if found.problems:
        lines = "\n".join(f"  - {problem}" for problem in found.problems)
        raise BundleError(f"The bundle {name} is not as it was written. Copy or download it again.\n{lines}")


def _as_dict(name: str, found: BundleSurvey) -> dict[str, Any]:
    about = found.about
    return {
        "bundle": name,
        "format": about.format,
        "task": about.task,
        "labels": list(about.labels.names),
        "colours": about.labels.colours,
        "threshold": about.threshold,
        "size": list(about.size),
        "preprocessing": about.at_size.to_dict(),
        "base": dataclasses.asdict(about.base),
        "method": about.method,
        "metrics": output.numbers(about.metrics),
        "per_class": {label: output.numbers(row) for label, row in about.per_class.items()},
        "recipe": about.recipe,
        "recipe_hash": about.recipe_hash,
        "adapter": found.config,
        "groups": [dataclasses.asdict(group) for group in found.groups],
        "parameters": _parameters(found),
        "files": found.files,
        "bytes": sum(found.files.values()),
        "versions": about.versions,
        "other_versions": {library: list(both) for library, both in found.other_versions.items()},
        "whole": None if found.problems is None else not found.problems,
        "problems": list(found.problems or ()),
    }


def _show(name: str, found: BundleSurvey) -> None:
    about = found.about
    output.facts({"bundle": name, "task": about.task, "labels": _labels(about)})
    if about.threshold is not None:
        output.facts({"threshold": f"{about.threshold:g}"})
    height, width = about.size
    output.facts({"preprocessing": f"{about.at_size}, seen as {height} × {width}", **_base(about)})
    output.facts({"method": f"{about.method}: {_METHODS[about.method]}"})
    output.facts({key: _words(value) for key, value in found.config.items()})
    if about.metrics:
        output.table(["score", "value"], [[n, output.number(v)] for n, v in about.metrics.items()], ("value",))
    if found.groups:
        columns = ["module", "kind", "rank", "count", "parameters", "size"]
        output.table(columns, [_row(group) for group in found.groups], numbers=columns[2:])
    output.facts(_sizes(found))
    for library, (was, installed) in found.other_versions.items():
        output.note(f"It was written with {library} {was}; {installed} is installed here.")


def _labels(about: About) -> str:
    shown = ", ".join(about.labels.names[:_LABELS])
    left = len(about.labels) - _LABELS
    return f"{len(about.labels):,}: {shown}" + (f" and {left:,} more" if left > 0 else "")


def _base(about: About) -> dict[str, str]:
    base = about.base
    facts = {"base": f"{base.name} ({base.library}), its head: {', '.join(base.heads) or 'none'}"}
    rest = {"fingerprint": base.fingerprint, "licence": base.licence, "source": base.source}
    return {**facts, **{name: value for name, value in rest.items() if value}}


def _row(group: TensorGroup) -> list[str]:
    numbers = [f"{group.rank or ''}", f"{group.count}", f"{group.parameters:,}", output.size(group.bytes)]
    return [group.path, group.kind, *numbers]


def _sizes(found: BundleSurvey) -> dict[str, str]:
    facts = {"parameters": f"{_parameters(found):,}"} if found.groups else {}
    facts["size on disk"] = f"{output.size(sum(found.files.values()))} in {len(found.files)} files"
    versions = ", ".join(f"{library} {version}" for library, version in found.about.versions.items())
    facts |= {"written with": versions} if versions else {}
    facts |= {"recipe": found.about.recipe_hash[:12]} if found.about.recipe_hash else {}
    if found.problems is None:
        facts["integrity"] = "not checked: it is on the Hub; lumora pull fetches and checks it"
    else:
        facts["integrity"] = "damaged" if found.problems else "whole: every file is as it was written"
    return facts


def _parameters(found: BundleSurvey) -> int:
    return sum(group.parameters for group in found.groups)


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)  # pyright: ignore[reportUnknownVariableType]
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)
