"""YAML as a recipe uses it: the plain values of YAML 1.2, no anchors, no key twice, the same text every time.

PyYAML follows YAML 1.1, where `1e-3` is a text, `010` is 8, and `off` and `no` are false.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import yaml
import yaml.composer
import yaml.constructor
import yaml.emitter
import yaml.parser
import yaml.reader
import yaml.representer
import yaml.scanner
import yaml.serializer
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import BaseResolver

from lumora.errors import RecipeError

_NULL = "tag:yaml.org,2002:null"
_BOOL = "tag:yaml.org,2002:bool"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_TEXT = "tag:yaml.org,2002:str"
_BREAKS = re.compile("[\n\r\x85\u2028\u2029]")


class _Resolver(BaseResolver):
    """Which plain words are no texts."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way


_RESOLVED = (
    (_NULL, r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+", list("-+0123456789")),
    (_FLOAT, r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
)
for _tag, _pattern, _first in _RESOLVED:
    _Resolver.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class _Loader(
    yaml.reader.Reader,
    yaml.scanner.Scanner,
    yaml.parser.Parser,
    yaml.composer.Composer,
    yaml.constructor.SafeConstructor,
    _Resolver,
):
    """Reads plain values only."""

    def __init__(self, stream: str) -> None:
        yaml.reader.Reader.__init__(self, stream)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        yaml.constructor.SafeConstructor.__init__(self)
        _Resolver.__init__(self)

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse references: a few lines of them can stand for more than a memory holds."""
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            raise ConstructorError(None, None, "references (&name, *name) are not used here", event.start_mark)
        return super().compose_node(parent, index)


def _mapping(loader: _Loader, node: MappingNode) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = cast("Any", loader.construct_object(key_node, deep=True))  # type: ignore[no-untyped-call]
        if not isinstance(key, str | int | float | None):
            raise ConstructorError(None, None, "a key must be a word or a number", key_node.start_mark)
        if key in found:
            raise ConstructorError(None, None, f"{key!r} is there twice", key_node.start_mark)
        found[key] = loader.construct_object(value_node, deep=True)  # type: ignore[no-untyped-call]
    return found


def _list(loader: _Loader, node: SequenceNode) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


def _whole(loader: _Loader, node: ScalarNode) -> int:
    try:
        return int(node.value)
    except ValueError as error:  # thousands of digits
        raise ConstructorError(None, None, "a number is too long", node.start_mark) from error


def _refused(loader: _Loader, node: Node) -> Any:
    raise ConstructorError(None, None, f"{node.tag} is not used here; plain values only", node.start_mark)


def _scalar(meaning: Callable[[str], Any]) -> Callable[[_Loader, ScalarNode], Any]:
    return lambda loader, node: meaning(node.value)


_Loader.yaml_constructors = {
    _NULL: _scalar(lambda text: None),
    _BOOL: _scalar(lambda text: text.lower() == "true"),
    _INT: _whole,
    _FLOAT: _scalar(float),
    _TEXT: _scalar(str),
    "tag:yaml.org,2002:seq": _list,
    "tag:yaml.org,2002:map": _mapping,
    None: _refused,  # whatever has none of its own
}


class _Dumper(yaml.emitter.Emitter, yaml.serializer.Serializer, yaml.representer.SafeRepresenter, _Resolver):
    """Writes plain values so that `_Loader` reads the same."""

    def __init__(self, stream: Any, **options: Any) -> None:
        emitting = {name: options.get(name) for name in ("canonical", "indent", "width", "allow_unicode", "line_break")}
        yaml.emitter.Emitter.__init__(self, stream, **emitting)
        yaml.serializer.Serializer.__init__(self, explicit_start=False, explicit_end=False)
        yaml.representer.SafeRepresenter.__init__(self, default_flow_style=True, sort_keys=False)
        _Resolver.__init__(self)

    def ignore_aliases(self, data: Any) -> bool:
        """Write the same value as often as it is there."""
        return True


def _text_node(dumper: _Dumper, text: str) -> ScalarNode:
    return dumper.represent_scalar(_TEXT, text, style='"' if _BREAKS.search(text) else None)


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(float, lambda dumper, value: dumper.represent_scalar(_FLOAT, repr(value)))


def parsed(text: str) -> Any:
    """The plain values that a YAML text stands for; the error says where it goes wrong.

    >>> parsed("1e-3"), parsed("[query, value]"), parsed("off"), parsed("010")
    (0.001, ['query', 'value'], 'off', 10)
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise RecipeError(f"This is no YAML: {where}{getattr(error, 'problem', None) or error}.") from error
    except RecursionError as error:
        raise RecipeError("This is no YAML: it is nested too deeply.") from error
    finally:
        if loader is not None:
            loader.dispose()


def written(value: Any) -> str:
    """One line of YAML for a plain value.

    >>> written(1e-05), written("8"), written(["a", 2]), written({"x": None})
    ('1e-05', "'8'", '[a, 2]', '{x: null}')
    """
    text: str = yaml.dump(value, Dumper=cast("Any", _Dumper), width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").removesuffix("\n")


def document(parts: Mapping[str, Mapping[str, Mapping[str, Any]]], heading: str) -> str:
    """A text of sections, `{comment: {section: {key: value}}}`, each with its comment above."""
    lines = [f"# {heading}"]
    for comment, sections in parts.items():
        for name, values in sections.items():
            lines += ["", f"# {comment}", f"{name}:", *(f"  {key}: {written(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"


def plain(value: Any) -> Any:
    """A value with lists for tuples.

    >>> plain({"a": (1, ("b",))})
    {'a': [1, ['b']]}
    """
    if isinstance(value, tuple | list):
        return [plain(one) for one in cast("list[Any]", value)]
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in cast("Mapping[Any, Any]", value).items()}
    return value
