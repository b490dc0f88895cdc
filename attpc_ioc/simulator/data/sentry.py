"""A simulated `attpc_sentry`: the HTTP server on a data host that shows its state and moves a run's files.

Paths, fields and texts are those of the public `attpc_sentry`, which is an axum server. What it does:
- `GET /status` fails with HTTP 500 if the router's process does not exist.
- `POST /catalog` waits first and lists the files then; a client that disconnects in between stops it.
- It moves the files one by one, even if they still grow, and then answers like `/status`:
  if the router's process is gone, the files are moved and the answer is still HTTP 500.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from .host import DataHost

DISK = "Macintosh HD"


class SentryParameters(BaseModel):
    """The body of `POST /catalog`."""

    model_config = ConfigDict(strict=True)

    experiment: str
    run_number: int


class SentryStatus(BaseModel):
    """The answer to both requests; 1 GB is 1e9 bytes, the files are the `*.graw` of `data_path`."""

    disk: str
    process: str
    data_path: str
    data_path_files: int
    data_written_gb: float
    disk_avail_gb: float
    disk_total_gb: float


class SentryFault(Exception):
    """The sentry failed; the text is the body of its HTTP 500."""


class Sentry:
    """The sentry of one data host, on a free loopback port for the host's gate only."""

    def __init__(self, host: DataHost, catalog_wait_s: float) -> None:
        self._host = host
        self._wait_s = catalog_wait_s
        app = web.Application()
        app.router.add_get("/status", self._status)
        app.router.add_post("/catalog", self._catalog)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=0.1, handler_cancellation=True
        )

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address and port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        return host, port

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _status(self, _request: web.Request) -> web.Response:
        return await self._answer()

    async def _catalog(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415, text="Expected request with `Content-Type: application/json`")
        try:
            order = SentryParameters.model_validate_json(await request.read())
        except ValidationError as fault:
            code = 400 if fault.errors()[0]["type"] == "json_invalid" else 422
            return web.Response(status=code, text=f"Failed to deserialize the JSON body: {fault}")
        await asyncio.sleep(self._wait_s)
        try:
            await asyncio.to_thread(self._move, order)
        except SentryFault as fault:
            return web.Response(status=500, text=str(fault))
        except OSError as fault:
            return web.Response(status=500, text=_io(fault))
        return await self._answer()

    async def _answer(self) -> web.Response:
        try:
            status = await asyncio.to_thread(self._look)
        except SentryFault as fault:
            return web.Response(status=500, text=str(fault))
        except OSError as fault:
            return web.Response(status=500, text=_io(fault))
        return web.Response(text=status.model_dump_json(), content_type="application/json")

    def _look(self) -> SentryStatus:
        host = self._host
        if not host.process_runs:
            raise SentryFault(f"Sentry could not find a process with name {host.options.process}")
        if not host.staging.is_dir():
            raise SentryFault(
                f'Sentry was given a non-directory path ("{host.staging}") to check the status of'
            )
        sizes = [path.stat().st_size for path in host.files()]
        return SentryStatus(
            disk=DISK,
            process=host.options.process,
            data_path=str(host.staging),
            data_path_files=len(sizes),
            data_written_gb=sum(sizes) * 1e-9,
            disk_avail_gb=host.disk_free_bytes * 1e-9,
            disk_total_gb=host.disk_total_bytes * 1e-9,
        )

    def _move(self, order: SentryParameters) -> None:
        staging = self._host.staging
        folder = Path(os.path.normpath(staging / order.experiment / f"run_{order.run_number:04d}"))
        if not folder.is_relative_to(staging):
            raise SentryFault(f'this simulated sentry moves nothing out of its folder, not to "{folder}"')
        if folder.exists():
            raise SentryFault(
                f'Sentry tried to catalog run {order.run_number} but directory "{folder}" already exists'
            )
        if self._host.faults.disk_full:
            raise OSError(28, "No space left on device")
        folder.mkdir(parents=True)
        for path in self._host.files():
            path.rename(folder / path.name)


def _io(fault: OSError) -> str:
    reason = f"{fault.strerror or fault} (os error {fault.errno})"
    return f"Sentry was not able to communicate with the disk: {reason}"
