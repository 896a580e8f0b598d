"""The kinds of values in a recipe. Each says in words what it takes, for messages and for the documentation."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator

from lumora.training.schema.quantities import bytes_of, seconds_of, size_text

LARGEST_RANK = 100_000


@dataclass(frozen=True)
class Words:
    """What a kind takes, in words: "it must be …"."""

    text: str


@dataclass(frozen=True)
class Null:
    """Marks a key for which null is a choice of its own, and what it chooses. Elsewhere null means "choose for me"."""

    means: str


def words_of(annotation: Any) -> str:
    """What values of an annotation may be, in words.

    >>> words_of(Annotated[int, Ge(1)] | None), words_of(Literal["cosine", "linear"])
    ('a whole number of 1 or more', '"cosine" or "linear"')
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        kind, *metadata = get_args(annotation)
        said = next((mark.text for mark in metadata if isinstance(mark, Words)), None)
        return said or words_of(kind) + _range(metadata)
    if origin in (Union, types.UnionType):
        return _either([words_of(part) for part in get_args(annotation) if part is not type(None)])
    if origin is Literal:
        return _either([f'"{choice}"' for choice in get_args(annotation)])
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(annotation, "a text")


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The texts among which values of an annotation are chosen; empty where there are other values, too many to list.

    >>> choices_of(bool | None), choices_of(Literal["cosine", "linear"] | None), choices_of(int)
    (('true', 'false'), ('cosine', 'linear'), ())
    """
    if annotation is bool:
        return "true", "false"
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) is Annotated:
        return choices_of(get_args(annotation)[0])
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return choices_of(parts[0]) if len(parts) == 1 and get_origin(annotation) is not tuple else ()


def takes_list(annotation: Any) -> bool:
    """Whether values of an annotation may be lists.

    >>> takes_list(Names | None), takes_list(Rank)
    (True, False)
    """
    return get_origin(annotation) is tuple or any(takes_list(part) for part in get_args(annotation))


def _either(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" or {parts[-1]}"


def _range(metadata: Sequence[Any]) -> str:
    low = next((m for m in metadata if isinstance(m, Ge | Gt)), None)
    high = next((m for m in metadata if isinstance(m, Le | Lt)), None)
    if isinstance(low, Ge) and isinstance(high, Le):
        return f" from {_number(low.ge)} to {_number(high.le)}"
    if isinstance(low, Ge) and high is None:
        return f" of {_number(low.ge)} or more"
    parts: list[str] = []
    if low is not None:
        parts.append(f" of at least {_number(low.ge)}" if isinstance(low, Ge) else f" above {_number(low.gt)}")
    if high is not None:
        parts.append(f" at most {_number(high.le)}" if isinstance(high, Le) else f" below {_number(high.lt)}")
    return " and".join(parts)


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# --- what is done to values before and after their types are checked --------------------------------------------------


def _listed(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _one_or_several(value: Any) -> Any:
    return (value,) if isinstance(value, int) else _listed(value)


def _both_sides(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else _listed(value)


def _plain_path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _in_seconds(value: Any) -> Any:
    return seconds_of(value) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    if isinstance(value, bool):  # `off` in the YAML of other programs
        return value or "off"
    if isinstance(value, int) and value >= 0:
        return size_text(value)
    return size_text(bytes_of(value)) if isinstance(value, str) else value


def _writable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("it has characters that cannot be written to a file") from error
    if not text.strip():
        raise ValueError("it is empty")
    return text


def _names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("it is empty")
    return names


def _without_repeats(names: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(names)) < len(names):
        raise ValueError("something is there twice")
    return names


def _bare_name(value: Any) -> Any:
    """A list of one for a name: as a regular expression it would match the whole path only."""
    if isinstance(value, str) and value not in ("all", "usual") and re.fullmatch(r"[\w.]+", value):
        return (value,)
    return value


def _pattern(text: str) -> str:
    try:
        re.compile(rf"({text})")  # a closed group, since patterns are put into larger ones
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"it is no regular expression: {error}") from error
    return text


def _pattern_keys(patterns: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in patterns:
        try:
            _pattern(key)
        except ValueError as error:
            raise ValueError(f"{key!r}: {error}") from error
    return patterns


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError("the first number must be above 0 and not above the second")
    return pair


def _share(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError("no part is larger than the picture: at most 1")
    return pair


def _sides(pair: tuple[int, int]) -> tuple[int, int]:
    if not all(8 <= side <= 8192 for side in pair):
        raise ValueError("sides are 8 to 8,192 pixels")
    return pair


def _start(value: bool | str) -> bool | str:
    named = value in ("gaussian", "orthogonal", "pissa", "olora", "eva")
    if isinstance(value, str) and not named and re.fullmatch(r"pissa_niter_[0-9]{1,3}", value) is None:
        raise ValueError("there is no such start")
    return value


def _weights(value: Any) -> Any:
    if isinstance(value, tuple) and not (value and all(w >= 0 for w in value) and any(value)):  # type: ignore[operator]
        raise ValueError("weights are 0 or more, and not all 0")
    return value


_ListFirst = BeforeValidator(_listed)


def _kind(check: Callable[[Any], Any]) -> AfterValidator:
    return AfterValidator(check)


# --- the kinds --------------------------------------------------------------------------------------------------------

Text = Annotated[str, _kind(_writable), Words("a text")]
PathText = Annotated[str, BeforeValidator(_plain_path), _kind(_writable), Words("a path or a name")]
Names = Annotated[tuple[Text, ...], _ListFirst, _kind(_names), Words("a list of names")]
Pattern = Annotated[str, _kind(_writable), _kind(_pattern), Words("a regular expression")]
Targets = Annotated[
    Pattern | Names, BeforeValidator(_bare_name), Words('"all", "usual", a list of names or a regular expression')
]
Modules = Annotated[Pattern | Names, BeforeValidator(_bare_name), Words("a list of names or a regular expression")]
Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
Share = Annotated[float, Ge(0), Lt(1)]
Probability = Annotated[float, Ge(0), Le(1)]
Rate = Annotated[float, Gt(0), Le(1)]
Rank = Annotated[int, Ge(1), Le(LARGEST_RANK)]
Positive = Annotated[float, Gt(0)]
Seconds = Annotated[
    float, BeforeValidator(_in_seconds), Gt(0), Words('seconds above 0, or a text such as "90s", "20m" or "1h30m"')
]
SizeText = Annotated[str, BeforeValidator(_size), Words('a size such as "2GB" or "500MB", or "off"')]
Sides = Annotated[
    tuple[int, int], BeforeValidator(_both_sides), _kind(_sides), Words("pixels of both sides, or [height, width]")
]
Range = Annotated[tuple[float, float], _ListFirst, _kind(_rising), Words("[smallest, largest], above 0")]
AreaRange = Annotated[
    tuple[float, float], _ListFirst, _kind(_rising), _kind(_share), Words("[smallest, largest], above 0 and at most 1")
]
Numbers = Annotated[
    tuple[int, ...],
    BeforeValidator(_one_or_several),
    _kind(_without_repeats),
    Words("a list of whole numbers, or one"),
]
Ranks = Annotated[dict[Text, Rank], _kind(_pattern_keys), Words("{pattern: rank}, for patterns of paths")]
Alphas = Annotated[dict[Text, Positive], _kind(_pattern_keys), Words("{pattern: alpha}, for patterns of paths")]
Start = Annotated[
    bool | str,
    _kind(_start),
    Words('true, false, "gaussian", "orthogonal", "pissa", "pissa_niter_<number>", "olora" or "eva"'),
]
LabelNames = Annotated[
    PathText | Names | dict[int, Text],
    Words('a list of names, {number: name}, a file that lists them, "voc" or "ade20k"'),
]
Columns = Annotated[
    dict[Literal["picture", "label", "mask", "split"], Text | Names],
    Words("{role: heading}, with the roles picture, label, mask and split"),
]
ClassWeights = Annotated[
    Literal["none", "balanced"] | Annotated[tuple[float, ...], _ListFirst],
    _kind(_weights),
    Words('"none", "balanced" or a list with a number for each class'),
]
Trackers = Annotated[
    tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...],
    _ListFirst,
    _kind(_without_repeats),
    Words("a list of tensorboard, wandb, trackio and mlflow"),
]
