"""Giving a module another forward pass, and taking it back.

The module becomes an instance of a subclass of its own class, with the same name. Nothing is added to it: its state
dict, its copies (`copy.deepcopy`, a copy that an adapter trains) and its signature are those of the plain class, and
`isinstance` holds as before. A function put over one module's `forward` would not survive copying and replication.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any

from torch import nn
from torch.nn.modules import module as of_all_modules

Forward = Callable[..., Any]
"""Called with the module, the plain forward pass bound to it, and the arguments."""


def swap(module: nn.Module, forward: Forward, call: Forward | None = None) -> None:
    """Let `forward` (and `call`, around hooks and checkpointing) take the place of the module's own."""
    module.__class__ = _swapped(type(module), forward, call)


def is_swapped(module: nn.Module) -> bool:
    """Whether the module has another forward pass than its own."""
    return "plain_class" in vars(type(module))


def is_covered(module: nn.Module) -> bool:
    """Whether somebody made a class of the one that the module got by `swap`, as sharding does."""
    return hasattr(type(module), "plain_class") and not is_swapped(module)


def swap_back(module: nn.Module) -> None:
    """Give a module its own forward pass again."""
    module.__class__ = plain_class(module)


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The class that the module had, or has; also where sharding has put a class of its own over it."""
    return getattr(type(module), "plain_class", type(module))


@cache
def _swapped(plain: type[nn.Module], forward: Forward, call: Forward | None) -> type[nn.Module]:
    @wraps(plain.forward)
    def swapped_forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return forward(self, partial(plain.forward, self), *args, **kwargs)

    def swapped_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        assert call is not None
        return call(self, partial(plain.__call__, self), *args, **kwargs)

    def reduced(self: nn.Module, protocol: Any) -> Any:
        return _empty, (plain, forward, call), self.__getstate__()

    body: dict[str, Any] = {
        "forward": swapped_forward,
        "plain_class": plain,
        "__reduce_ex__": reduced,
        "__doc__": plain.__doc__,
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
    }
    if call is not None:
        body["__call__"] = swapped_call
    return type(plain.__name__, (plain,), body)


def _empty(plain: type[nn.Module], forward: Forward, call: Forward | None) -> nn.Module:
    """An instance without state, for copies."""
    kind = _swapped(plain, forward, call)
    return kind.__new__(kind)


def has_hooks(module: nn.Module, *, besides: str | None = None) -> bool:
    """Whether someone watches what this module is called with or gives, other than hooks of the library `besides`.

    Hooks on all modules count, too, and so does a function put over this one module's `forward`: weights that are
    fetched only when a layer runs (offloading) are fetched by such a function.
    """
    if of_all_modules._has_any_global_hook():
        return True
    hooks = (
        *module._forward_hooks.values(),
        *module._forward_pre_hooks.values(),
        *module._backward_hooks.values(),
        *module._backward_pre_hooks.values(),
    )
    if "forward" in vars(module):
        return True
    return any(besides is None or getattr(hook, "__module__", None) != besides for hook in hooks)
