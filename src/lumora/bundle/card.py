"""The `README.md` of a bundle: what the model says, how well, and how to use it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lumora.bundle.about import About
from lumora.bundle.names import THUMBNAIL

PLACE = "path/or/repository"
"""What stands in the snippets until it is known where the bundle will lie."""

_MANY_CLASSES = 20
METHODS = {
    "lora": "LoRA adapters and a head",
    "head": "the head alone, on a frozen base",
    "full": "all weights, starting from the base's",
}
KINDS = {
    "classification": ("Image classification", "image-classification"),
    "multilabel": ("Image classification with any number of labels to a picture", "image-classification"),
    "segmentation": ("Semantic segmentation", "image-segmentation"),
}


def card(about: About, *, parameters: int, thumbnail: bool = False, place: str = PLACE) -> str:
    """The card's text; `parameters` is how many numbers the bundle holds beside the base's own."""
    title = f"{KINDS[about.task][0]} on {shown_name(about)}"
    return joined(
        front_matter(about, library="lumora", tags=["lora"] if about.method == "lora" else []),
        f"# {title}",
        f"![pictures with what the model says of them]({THUMBNAIL})" if thumbnail else "",
        summary(about, f"{METHODS[about.method]}; {parameters:,} numbers are kept here"),
        f"## Use it\n\n```python\n{snippet(about, place)}```",
        results(about),
        labels(about),
        training(about),
        _peft(about, place) if about.method == "lora" and about.base.library != "keras" else "",
    )


def joined(*parts: str) -> str:
    """The parts of a card that are not empty, one below the other."""
    return "\n\n".join(part for part in parts if part) + "\n"


# --- what machines read -----------------------------------------------------------------------------------------------


def front_matter(about: About, *, library: str, tags: Sequence[str]) -> str:
    """What the Hub reads: base, library, pipeline, licence, tags."""
    import yaml

    values: dict[str, Any] = {}
    if repository := _repository(about):
        values["base_model"] = repository
    values["library_name"] = library
    values["pipeline_tag"] = KINDS[about.task][1]
    if about.base.licence and re.fullmatch(r"[\w.-]+", about.base.licence):
        values["license"] = about.base.licence
    values["tags"] = ["lumora", *tags, about.task]
    return f"---\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}---"


def _repository(about: About) -> str | None:
    """The base's repository on the Hub, which refuses cards that name anything else."""
    base = about.base
    if base.library not in ("transformers", "timm") or not re.fullmatch(r"[\w.-]+/[\w.-]+", base.name):
        return None
    return None if Path(base.name).exists() else base.name


# --- what people read -------------------------------------------------------------------------------------------------


def shown_name(about: About) -> str:
    """The base's name; of a folder its last part, since nobody else has the others."""
    name = about.base.name
    return Path(name).name if Path(name).is_absolute() else name


def summary(about: About, trained: str) -> str:
    """Base, licence, what was trained, and what the model sees."""
    height, width = about.size
    lines = [
        f"- base: `{shown_name(about)}`" + (f" from {about.base.source}" if _is_address(about.base.source) else ""),
        f"- licence of the base: {about.base.licence or 'not known; look it up before you share this'}",
        f"- trained: {trained}",
        f"- pictures: {about.at_size}, seen as {height} × {width}",
    ]
    if about.threshold is not None:
        lines.append(f"- a label is said from a probability of {about.threshold:g}")
    return "\n".join(lines)


def _is_address(source: str | None) -> bool:
    return source is not None and source.startswith(("https://", "http://"))


def snippet(about: About, place: str) -> str:
    """The code that loads a bundle and predicts a picture."""
    lines = ["import lumora", ""]
    if about.base.is_nameless:
        lines += [f"base = ...  # the {about.base.name} as it was before training"]
        lines += [f'model = lumora.load("{place}", base=base)']
    elif about.base.library == "python":
        lines += [f'model = lumora.load("{place}", base="{about.base.name}")']
    else:
        lines += [f'model = lumora.load("{place}")']
    lines += ['prediction = model.predict("picture.jpg")']
    if about.task == "segmentation":
        lines += ["print(prediction.mask.shape)  # a class id for every pixel"]
    else:
        lines += ["for label in prediction.chosen:"]
        lines += ['    print(model.labels.names[label], f"{prediction.probabilities[label]:.0%}")']
    return "\n".join(lines) + "\n"


def results(about: About) -> str:
    """The metrics of the training, as a table."""
    if not about.metrics:
        return ""
    lines = [
        "## Results",
        "",
        *_table(("metric", "value"), [(_words(n), _number(v)) for n, v in about.metrics.items()]),
    ]
    return "\n".join(lines)


def labels(about: About) -> str:
    """The labels, with each one's own measures."""
    names = about.labels.names
    columns = list(dict.fromkeys(column for numbers in about.per_class.values() for column in numbers))
    if not columns:
        return f"## Labels\n\n{', '.join(_cell(name) for name in names)}"
    rows = [(_cell(n), *(_number(about.per_class.get(n, {}).get(c, math.nan)) for c in columns)) for n in names]
    table = "\n".join(_table(("label", *map(_words, columns)), rows))
    if len(names) > _MANY_CLASSES:
        table = f"<details><summary>{len(names)} labels</summary>\n\n{table}\n\n</details>"
    return f"## Labels\n\n{table}"


def training(about: About) -> str:
    """The recipe."""
    import yaml

    parts = ["## How it was trained"]
    if about.recipe:
        recipe = yaml.safe_dump(_without_places(about.recipe), sort_keys=False, allow_unicode=True)
        parts.append(f"<details><summary>The whole recipe</summary>\n\n```yaml\n{recipe}```\n\n</details>")
    if about.recipe_hash:
        parts.append(f"Recipe `{about.recipe_hash}`.")
    if about.versions:
        parts.append("With " + ", ".join(f"{name} {version}" for name, version in about.versions.items()) + ".")
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _without_places(value: Any) -> Any:
    """The same without the places of folders on somebody's disk."""
    if isinstance(value, dict):
        return {key: _without_places(inside) for key, inside in value.items()}
    if isinstance(value, list):
        return [_without_places(inside) for inside in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _peft(about: About, place: str) -> str:
    wish = f"task={about.task!r}, labels={list(about.labels.names)!r}"
    if about.base.head != "auto":
        wish += f", head={about.base.head!r}"
    base = (
        "base = ...  # the model before training"
        if about.base.library == "module"
        else (f"base = load_base({shown_name(about)!r}, {wish}).module")
    )
    return (
        "## With PEFT\n\n`adapter_config.json` and `adapter_model.safetensors` are an adapter as PEFT writes it.\n\n"
        f"```python\nfrom lumora.models import load_base\nfrom peft import PeftModel\n\n{base}\n"
        f'model = PeftModel.from_pretrained(base, "{place}")\n```'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _words(name: str) -> str:
    return _cell(name.replace("_", " "))


def _cell(text: str) -> str:
    """Text that stays in its cell and is no markup."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(text.split()))


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
