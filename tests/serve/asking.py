"""A server without a process: its application is asked as it is."""

import asyncio
import contextlib

import httpx


def asked(gate, ask, *, with_decoders=False):
    """What a coroutine gives that asks a server through a client; pictures want decoders, which are processes."""

    async def run():
        lifespan = gate._app.router.lifespan_context(gate._app) if with_decoders else contextlib.nullcontext()
        transport = httpx.ASGITransport(app=gate)
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=300)
        async with lifespan, client:
            return await ask(client)

    return asyncio.run(run())
