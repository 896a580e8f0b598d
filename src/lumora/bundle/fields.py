"""Values of a JSON object that anybody may have written, each asked for by its name and type."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from lumora.errors import BundleError

_SHOWN = 60


class Fields:
    """A JSON object; what is missing or of another type is an error that names it.

    >>> fields = Fields({"width": 128, "size": [224, "224"]}, "lumora.json")
    >>> fields.whole("width")
    128
    >>> fields.sides("size")
    Traceback (most recent call last):
    lumora.errors.BundleError: lumora.json: "size" should be a height and a width, but is [224, "224"].
    """

    def __init__(self, values: Any, where: str, path: str = "") -> None:
        self._where = where
        self._path = path
        if not isinstance(values, Mapping):
            what = f'"{path}"' if path else "it"
            raise BundleError(f"{where}: {what} should be an object, but is {_shown(values)}.")
        self.values: Mapping[str, Any] = values

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def section(self, name: str) -> Fields:
        """An object inside."""
        return Fields(self.any(name), self._where, self._inside(name))

    def any(self, name: str) -> Any:
        """A value of any type; it must be there."""
        if name not in self.values:
            raise BundleError(f'{self._where}: "{self._inside(name)}" is missing.')
        return self.values[name]

    def text(self, name: str) -> str:
        """A text."""
        value = self.any(name)
        return value if isinstance(value, str) else self._refuse(name, "a text")

    def choice(self, name: str, allowed: Collection[str]) -> Any:
        """One of these texts."""
        value = self.any(name)
        return value if value in allowed else self._refuse(name, f"one of {', '.join(allowed)}")

    def whole(self, name: str) -> int:
        """A whole number above 0."""
        value = self.any(name)
        return value if _is_whole(value) and value > 0 else self._refuse(name, "a whole number above 0")

    def number(self, name: str) -> float:
        """A number."""
        value = self.any(name)
        return float(value) if _is_number(value) else self._refuse(name, "a number")

    def yes_or_no(self, name: str) -> bool:
        """True or false."""
        value = self.any(name)
        return value if isinstance(value, bool) else self._refuse(name, "true or false")

    def sides(self, name: str) -> tuple[int, int]:
        """A height and a width."""
        value = self.any(name)
        fits = isinstance(value, list) and len(value) == 2 and all(_is_whole(v) and v > 0 for v in value)
        return (value[0], value[1]) if fits else self._refuse(name, "a height and a width")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.any(name)
        fits = isinstance(value, list) and all(isinstance(v, str) for v in value)
        return tuple(value) if fits else self._refuse(name, "a list of texts")

    def three(self, name: str) -> tuple[float, ...]:
        """Three numbers, one for each colour."""
        value = self.any(name)
        fits = isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))
        return tuple(float(v) for v in value) if fits else self._refuse(name, "three numbers")

    def colours(self, name: str) -> tuple[tuple[int, int, int], ...]:
        """A list of colours."""
        value = self.any(name)
        fits = isinstance(value, list) and all(
            isinstance(v, list) and len(v) == 3 and all(map(_is_whole, v)) for v in value
        )
        return tuple((v[0], v[1], v[2]) for v in value) if fits else self._refuse(name, "a list of [red, green, blue]")

    def numbers(self, name: str) -> dict[str, float]:
        """Numbers by name; null stands for "not a number", which JSON does not have."""
        value = self.any(name)
        if not isinstance(value, dict) or not all(v is None or _is_number(v) for v in value.values()):
            self._refuse(name, "numbers by name")
        return {key: math.nan if v is None else float(v) for key, v in value.items()}

    def words(self, name: str) -> dict[str, str]:
        """Texts by name."""
        value = self.any(name)
        fits = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        return dict(value) if fits else self._refuse(name, "texts by name")

    def _inside(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def _refuse(self, name: str, expected: str) -> Any:
        found = _shown(self.values[name])
        raise BundleError(f'{self._where}: "{self._inside(name)}" should be {expected}, but is {found}.')


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
