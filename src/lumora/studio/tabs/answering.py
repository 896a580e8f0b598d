"""How the page answers: what cannot be done is told in words where it was asked for."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable
from typing import Any

from lumora.errors import LumoraError
from lumora.studio.html import notice

Starter = Callable[[Any], object]
"""Takes an event of Gradio, such as the choice of a tab, and says what is to be done when it comes."""


def counted(progress: Any, what: str) -> Callable[[int, int], None]:
    """What shows on the page how many of how many are done; `progress` is Gradio's."""
    return lambda done, of: progress((done, of), desc=what)


def telling(count: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """For a function whose `count` results go to the page: the same with a notice before them.

    The notice is empty if all went well. On an error it tells that, and all else stays as it is. Of one that nobody has
    foreseen, such as too little memory, the traceback goes to the terminal.
    """

    def wrap(work: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(work)
        def answer(*arguments: Any) -> Any:
            import gradio as gr

            try:
                results = work(*arguments)
            except (LumoraError, OSError) as error:
                told = str(error)
            except Exception as error:
                traceback.print_exc()
                told = f"{type(error).__name__}: {error}. The terminal of the studio has the traceback."
            else:
                return [notice(""), results] if count == 1 else [notice(""), *results]
            return [notice(told, bad=True), *(gr.skip() for _ in range(count))]

        return answer

    return wrap
