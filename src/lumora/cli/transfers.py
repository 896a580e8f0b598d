"""What is shown of transfers from and to the Hub."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer


@contextmanager
def transfers(what: str, *, hidden: bool) -> Generator[None]:
    """Say what is done, and let the Hub's client show its bars, where a person looks; nothing elsewhere."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() and not hidden:
        typer.echo(f"{what} …", err=True)
        yield
        return
    were_shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if were_shown:
            enable_progress_bars()
