"""From what somebody typed or wrote to the values of keys, and to sentences about what cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from pydantic import ValidationError

from lumora.errors import RecipeError
from lumora.training.schema import yaml_files
from lumora.training.schema.keys import SECTIONS, Key, keys
from lumora.training.schema.similar import unknown_key
from lumora.training.schema.telling import raise_all, told

AUTO = "auto"
"""As the value of any key: choose for me."""
_WORD = r"[\w.+-]+"
_NULLS = ("null", "~")
_LIST = re.compile(rf"\s*{_WORD}(\s*,\s*{_WORD})+\s*")
_AUTO_IS_ITS_OWN = ("base.head",)


class Unasked:
    """Says that a key is to be chosen, whatever was asked before."""


UNASKED = Unasked()
Values = dict[str, Any]


def checked(given: Mapping[Any, Any], *, texts: bool) -> tuple[Values, list[str]]:
    """The values of dotted keys or whole sections, and a sentence for each that cannot be.

    Args:
        given: `{"lora.r": "8"}` or `{"lora": {"r": 8}}`.
        texts: whether texts are to be read as what somebody typed ("8" is the number); in a file they are texts.
    """
    values: Values = {}
    problems: list[str] = []
    for name, value in _dotted(given, problems):
        if (key := keys().get(name)) is None:
            problems.append(unknown_key(name))
        elif name in values:
            problems.append(f"{name} is there twice")
        else:
            values[name] = _value(key, value, texts, problems)
    return values, problems


def split_settings(settings: Sequence[str]) -> dict[str, str]:
    """Keys and texts of what was given as `key=value`.

    >>> split_settings(["lora.r=8", "lora.targets=.*=x"])
    {'lora.r': '8', 'lora.targets': '.*=x'}
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            problems.append(f"{setting!r} has no key and value; write key=value, as in lora.r=8")
        elif key in found:
            problems.append(f"{key} is set twice, to {found[key]!r} and {value!r}")
        else:
            found[key] = value
    raise_all(problems, "settings")
    return found


def _dotted(given: Mapping[Any, Any], problems: list[str]) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if not isinstance(name, str):
            problems.append(f"{told(name)} is no key; keys are texts such as lora.r")
        elif name not in SECTIONS:
            yield name, value
        elif isinstance(value, Mapping):
            for field, inner in cast("Mapping[Any, Any]", value).items():
                yield f"{name}.{field}", inner
        elif value is not None:
            problems.append(f"{name} is {told(value)}; it must hold keys: {', '.join(SECTIONS[name].model_fields)}")


def _value(key: Key, given: Any, texts: bool, problems: list[str]) -> Any:
    """What a key's section makes of a value; a problem where it refuses."""
    if isinstance(given, str) and given.strip().lower() == AUTO and key.name not in _AUTO_IS_ITS_OWN:
        return UNASKED
    candidates = list(_readings(key, given)) if texts and isinstance(given, str) else [given]
    refusals: list[ValidationError] = []
    for candidate in candidates:
        if candidate is None:
            return UNASKED if key.null is None else None
        try:
            section = SECTIONS[key.section].model_validate({key.field: candidate})
        except ValidationError as error:
            refusals.append(error)
        else:
            return getattr(section, key.field)
    problems.append(f"{key.name} is {told(candidates[0])}; it must be {key.words}{_reason(refusals[0])}")
    return UNASKED


def _readings(key: Key, text: str) -> Iterator[Any]:
    """What a typed text may be, the likeliest first."""
    if key.takes_list and _LIST.fullmatch(text):  # `query,value` for [query, value]
        yield [yaml_files.parsed(part) for part in text.split(",")]
    try:
        meant = yaml_files.parsed(text) if text.strip() else text
    except RecipeError:
        meant = text
    if meant is None and text.strip().lower() not in _NULLS:  # nothing but a comment
        meant = text
    if not isinstance(meant, str):
        yield meant
        if text.lstrip().startswith(("[", "{")):
            return
    yield text
    if key.takes_list and re.fullmatch(_WORD, text):
        yield [text]


def _reason(error: ValidationError) -> str:
    """What one of our own checks said, if one did."""
    for problem in error.errors():
        if problem["type"] == "value_error":
            reason = str(problem.get("ctx", {}).get("error", ""))
            return f" ({reason})"
    return ""
