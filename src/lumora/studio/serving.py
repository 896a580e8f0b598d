"""The page's server: on this machine, for this machine, without a network."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lumora.errors import LumoraError, OutputError
from lumora.studio.workshop import Workshop

HOST = "127.0.0.1"
USUAL_PORT = 7860
_TRIED = 20
_LARGEST_UPLOAD = "500mb"
_SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_SSR_MODE": "False"}
"""What keeps Gradio from speaking with anybody; set before it is imported."""


@dataclass(frozen=True)
class Served:
    """Where the page is."""

    address: str
    runs: Path


def serve(
    runs: str | Path = "runs",
    data: str | None = None,
    *,
    port: int | None = None,
    told: Callable[[Served], None] = lambda served: None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM. Trainings that it has started go on.

    Args:
        runs: the folder in which trainings lie, and new ones are put.
        data: what is opened at first.
        port: where to listen on 127.0.0.1; 7860 or the next one that is free if not said, and any free one for 0.
        told: hears where the page is, once it can be opened.
    """
    if problem := lacking():
        raise LumoraError(problem)
    os.environ.update(_SILENT)
    scratch = tempfile.TemporaryDirectory(prefix="lumora-studio-", ignore_cleanup_errors=True)
    with scratch as place, closing(_listening(port)) as listener:
        os.environ["GRADIO_TEMP_DIR"] = place  # what is shown and uploaded goes when the page does
        address = f"http://{HOST}:{listener.getsockname()[1]}"
        _run(Workshop(Path(runs), Path(place)), data, listener, lambda: told(Served(address, Path(runs))))


def lacking() -> str | None:
    """What is to be installed before the page can be served; None if nothing is."""
    from importlib.util import find_spec

    if all(find_spec(name) for name in ("gradio", "fastapi", "uvicorn")):
        return None
    return "The studio needs Gradio, which is not installed: pip install 'lumora[studio]'"


def _run(workshop: Workshop, data: str | None, listener: socket.socket, ready: Callable[[], None]) -> None:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from lumora.studio import look, page
    from lumora.studio.guarding import LocalOnly

    port = listener.getsockname()[1]
    app = FastAPI(openapi_url=None)
    app.add_middleware(LocalOnly, port=port)
    gr.mount_gradio_app(
        app,
        page.made(workshop, data),
        path="/",
        server_name=HOST,
        server_port=port,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=_LARGEST_UPLOAD,
        theme=look.theme(),
        css=look.css(),
        head=look.head(),
        favicon_path=str(look.ICON),
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            # Here and not only where the folder was made: after this, SIGTERM ends the process at once.
            shutil.rmtree(workshop.scratch, ignore_errors=True)

    Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).run([listener])


def _listening(port: int | None) -> socket.socket:
    """A socket that listens on this machine."""
    ports = range(USUAL_PORT, USUAL_PORT + _TRIED) if port is None else (port,)
    for number in ports:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name != "nt":  # there it would let two programs have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, number))
        except OSError:
            listener.close()
            continue
        listener.listen(128)
        return listener
    which = f"port {ports[0]} is" if len(ports) == 1 else f"the ports {ports[0]} to {ports[-1]} are"
    raise OutputError(f"The page cannot be served: {which} taken on {HOST}. Choose another one with --port.")
