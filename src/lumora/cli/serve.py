"""`lumora serve`: bundles over HTTP."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lumora.cli import options, output
from lumora.cli.loading import place
from lumora.errors import ConfigError, LumoraError

if TYPE_CHECKING:
    from lumora.serve.http.settings import Settings

_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
_TOKENS, _ADMIN_TOKENS = "LUMORA_TOKENS", "LUMORA_ADMIN_TOKENS"
_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}

Given = Annotated[
    list[str],
    typer.Argument(
        metavar="BUNDLE…",
        help="Bundles, folders full of bundles, repositories on the Hub; cats=runs/7/bundle gives one a name.",
        show_default=False,
    ),
]
Host = Annotated[str, typer.Option("--host", metavar="NAME", help="Beyond this machine only with tokens.")]
Port = Annotated[int, typer.Option("--port", metavar="N", min=0, max=65535, help="0 takes any that is free.")]
MaxBatch = Annotated[int, typer.Option("--max-batch", metavar="N", min=1, help="The most pictures in a batch.")]
MaxWait = Annotated[float, typer.Option("--max-wait", metavar="MS", min=0, help="How long a batch waits for others.")]
Queue = Annotated[int, typer.Option("--queue", metavar="N", min=1, help="Pictures that wait at most; then 429.")]
Deadline = Annotated[float, typer.Option("--deadline", metavar="SECONDS", help="When a request is given up: 504.")]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="For loaded bundles, such as 2GB; those not used are forgotten."),
]
MaxBody = Annotated[str, typer.Option("--max-body", metavar="SIZE", help="Larger bodies are refused: 413.")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", metavar="N", min=1, help="Larger pictures are refused: 413.")]
Formats = Annotated[str, typer.Option("--formats", metavar="NAMES", help="Kinds of pictures that are taken.")]
Decoders = Annotated[int, typer.Option("--decoders", metavar="N", min=1, help="Processes that decode pictures.")]
DecodeTime = Annotated[float, typer.Option("--decode-time", metavar="SECONDS", help="For decoding one picture.")]
DrainDelay = Annotated[
    float, typer.Option("--drain-delay", metavar="SECONDS", min=0, help="Goes on so long when told to end.")
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help=f"A token on each line; or {_TOKENS}.")
]
AdminTokenFile = Annotated[
    Path | None,
    typer.Option("--admin-token-file", metavar="FILE", help=f"For adding and removing bundles; or {_ADMIN_TOKENS}."),
]
Hub = Annotated[bool, typer.Option("--hub", help="Let bundles be added from the Hub.")]
Preload = Annotated[bool, typer.Option("--preload/--no-preload", help="Load all bundles before taking requests.")]


def command(
    bundles: Given,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    device: options.Device = None,
    max_batch: MaxBatch = 32,
    max_wait: MaxWait = 5.0,
    queue: Queue = 256,
    deadline: Deadline = 30.0,
    memory: Memory = None,
    max_body: MaxBody = "20MB",
    max_pixels: MaxPixels = 50_000_000,
    formats: Formats = "jpeg,png,webp",
    decoders: Decoders = 2,
    decode_time: DecodeTime = 10.0,
    drain_delay: DrainDelay = 0.5,
    token_file: TokenFile = None,
    admin_token_file: AdminTokenFile = None,
    hub: Hub = False,
    preload: Preload = True,
    base: options.Base = None,
    allow_other_base: options.AllowOtherBase = False,
    json: options.JsonAddress = False,
    debug: options.Debug = False,
) -> None:
    """Answer over HTTP what pictures show, with many bundles over one base.

    Open http://127.0.0.1:8000/playground to try it, and /docs for the interface. Ends with 0 when it was told to
    (Ctrl-C, SIGTERM) and has answered all that it had accepted.
    """
    _check_installed()
    from lumora.serve.http.settings import Settings

    try:
        settings = Settings(
            host=host,
            port=port,
            max_batch=max_batch,
            max_wait=max_wait / 1000,
            queue=queue,
            deadline=deadline,
            max_body=_bytes(max_body, "--max-body"),
            max_pixels=max_pixels,
            formats=tuple(name.strip() for name in formats.split(",")),
            decoders=decoders,
            decode_time=decode_time,
            drain_delay=drain_delay,
            tokens=_tokens(token_file, _TOKENS, "--token-file"),
            admin_tokens=_tokens(admin_token_file, _ADMIN_TOKENS, "--admin-token-file"),
            hub=hub,
        )
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    _run(
        bundles,
        settings,
        device,
        None if memory is None else _bytes(memory, "--memory"),
        base,
        allow_other_base,
        preload,
        json,
    )


def _run(
    bundles: list[str],
    settings: Settings,
    device: str | None,
    memory: int | None,
    base: str | None,
    allow_other_base: bool,
    preload: bool,
    json: bool,
) -> None:
    from lumora.serve import Pool
    from lumora.serve.http import logs
    from lumora.serve.http.running import leave, serve

    logs.set_up()
    pool = Pool(bundles, device=place(device), memory=memory, base=base, allow_other_base=allow_other_base)

    def told(address: str) -> None:
        if json:
            output.json({"address": address, "bundles": pool.names}, on_one_line=True)

    serve(pool, settings, preload=preload, told=told)
    leave(pool)


def _check_installed() -> None:
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise LumoraError(f"Serving needs {', '.join(missing)}: pip install 'lumora[serve]'")


def _tokens(file: Path | None, variable: str, option: str) -> tuple[str, ...]:
    """The tokens in a file, one on a line, or in a variable, with commas between them."""
    if file is None:
        return tuple(token.strip() for token in os.environ.get(variable, "").split(",") if token.strip())
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint=option) from error
    found = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    if not found:
        raise typer.BadParameter(f"There is no token in {file}; write one on a line.", param_hint=option)
    return found


def _bytes(text: str, option: str) -> int:
    """A size in bytes.

    >>> _bytes("2GB", "--memory"), _bytes("1.5 MB", "--memory")
    (2000000000, 1500000)
    """
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        size = int(float(text.removesuffix(unit)) * _UNITS.get(unit, 1))
    except (ValueError, OverflowError):
        size = 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no size; write 500MB or 2GB, say.", param_hint=option)
    return size
