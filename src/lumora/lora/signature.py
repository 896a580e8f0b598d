"""A `forward` that says it takes what the base takes: a Trainer drops every column that it does not name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

F = TypeVar("F", bound=Callable[..., Any])


def signature_of_base(forward: F) -> F:
    """Decorate a wrapper's `forward`: on an instance, its signature is that of the wrapped model's own `forward`.

    Nothing is kept on the instance, so copies and pickles know nothing of it; and an instance may still be given a
    `forward` of its own, as some libraries do. Costs one look-up for each call, none in compiled code.
    """
    return _SignatureOfBase(forward)  # type: ignore[return-value]


class _SignatureOfBase:
    def __init__(self, function: Any) -> None:
        self.function = function
        self._signed: WeakKeyDictionary[Callable[..., Any], Callable[..., Any]] = WeakKeyDictionary()
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.function
        if torch.compiler.is_compiling():
            return functools.partial(self.function, instance)
        base = instance.get_base_model().forward
        bound = isinstance(base, MethodType)
        return MethodType(self._with_signature(base.__func__ if bound else base, bound), instance)

    def _with_signature(self, base: Callable[..., Any], bound: bool) -> Callable[..., Any]:
        """Our function with the signature of `base`; made once for each kind of base."""
        try:
            if base not in self._signed:
                self._signed[base] = _copied(self.function, inspect.signature(MethodType(base, 0) if bound else base))
            return self._signed[base]
        except (TypeError, ValueError):  # what cannot be looked into, or not be remembered
            return self.function


def _copied(function: FunctionType, signature: inspect.Signature) -> Callable[..., Any]:
    copied = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copied.__kwdefaults__, copied.__doc__, copied.__qualname__ = (
        function.__kwdefaults__,
        function.__doc__,
        function.__qualname__,
    )
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    copied.__signature__ = signature.replace(parameters=[itself, *parameters])  # type: ignore[attr-defined]
    return copied
