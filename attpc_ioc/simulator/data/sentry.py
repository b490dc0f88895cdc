"""A simulated `attpc_sentry`: the HTTP server on a data host that shows its state and moves a run's files.

Paths, fields and texts are those of the public `attpc_sentry`, which is an axum server. What it does:
- `GET /status` fails with HTTP 500 if the router's process does not exist.
- `POST /catalog` waits first and lists the files then; a client that disconnects stops it where it is.
- It moves the files one by one in no order, even if they still grow, to any path that it is given, and then
  answers like `/status`: without the router's process the files are moved, and it is HTTP 500.
"""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .host import DataHost

DISK = "Macintosh HD"
WRONG_DISK = "Macintosh SSD"

_REPLY_S = 2.0
"""How long a last reply may take to its caller."""


class SentryParameters(BaseModel):
    """The body of `POST /catalog`."""

    model_config = ConfigDict(strict=True)

    experiment: str
    run_number: Annotated[int, Field(ge=-(2**31), lt=2**31)]


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


class SentryKilled(Exception):
    """The sentry was killed while it moved files."""


class Sentry:
    """The sentry of one data host, on a free loopback port for the host's gate only."""

    def __init__(self, host: DataHost, catalog_wait_s: float) -> None:
        self._host = host
        self._state = host.sentry
        self._state.switch = self.switch
        self._wait_s = catalog_wait_s
        self._idle = asyncio.Event()
        self._idle.set()
        self._ending: asyncio.Task[None] | None = None
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
        await self._end_ending()
        await self._runner.cleanup()

    async def switch(self, field: str, on: bool) -> None:
        """Switch the fault with this name in `SentryFaults`; a sentry that has ended starts again."""
        setattr(self._state.faults, field, on)
        if self._host.gate is None:
            return
        if self._state.faults.term and not self._state.gone:
            self._state.gone = True
            self._ending = asyncio.get_running_loop().create_task(self._terminate())
        elif self._state.gone and not (self._state.faults.term or self._state.faults.kill):
            await self._end_ending()
            self._state.gone = False
            await self._host.gate.open()

    async def _end_ending(self) -> None:
        task, self._ending = self._ending, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def _terminate(self) -> None:
        gate = self._host.gate
        assert gate is not None
        if self._state.catalogs:
            gate.refuse()
            await self._idle.wait()
            await gate.until_left(_REPLY_S)
        await gate.close()

    async def _die(self) -> None:
        assert self._host.gate is not None
        await self._host.gate.close()

    async def _status(self, _request: web.Request) -> web.Response:
        if self._state.faults.deaf:
            await self._idle.wait()
        return await self._answer()

    async def _catalog(self, request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415, text="Expected request with `Content-Type: application/json`")
        try:
            order = SentryParameters.model_validate_json(await request.read())
        except ValidationError as fault:
            code = 400 if fault.errors()[0]["type"] == "json_invalid" else 422
            return web.Response(status=code, text=f"Failed to deserialize the JSON body: {fault}")
        self._state.catalogs += 1
        self._idle.clear()
        try:
            answer = await self._catalogued(order)
        finally:
            self._state.catalogs -= 1
            if not self._state.catalogs:
                self._idle.set()
        if self._state.gone:
            answer.force_close()
        return answer

    async def _catalogued(self, order: SentryParameters) -> web.Response:
        await asyncio.sleep(self._wait_s)
        try:
            folder, paths = await asyncio.to_thread(self._prepare, order)
            for number, path in enumerate(paths):
                if self._state.faults.kill and 2 * number >= len(paths):
                    break
                await asyncio.to_thread(path.rename, folder / path.name)
            if self._state.faults.kill:
                raise SentryKilled
        except SentryFault as fault:
            return web.Response(status=500, text=str(fault))
        except SentryKilled:
            self._state.gone = True
            self._ending = asyncio.get_running_loop().create_task(self._die())
            return web.Response(status=500)  # reaches nobody
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
        entries = [Path(entry.path) for entry in os.scandir(host.staging) if not entry.is_dir()]
        files = entries if self._state.faults.old else [path for path in entries if path.suffix == ".graw"]
        written = host.process_bytes if self._state.faults.old else sum(path.stat().st_size for path in files)
        known = not self._state.faults.wrong_disk
        return SentryStatus(
            disk=DISK if known else WRONG_DISK,
            process=host.options.process,
            data_path=str(host.staging),
            data_path_files=len(files),
            data_written_gb=written * 1e-9,
            disk_avail_gb=known * host.disk_free_bytes * 1e-9,
            disk_total_gb=known * host.disk_total_bytes * 1e-9,
        )

    def _prepare(self, order: SentryParameters) -> tuple[Path, list[Path]]:
        """Make the run's folder; returns it, and the files that are to be moved to it."""
        staging = self._host.staging
        folder = staging / f"{order.experiment}/run_{order.run_number:04d}"
        if folder.exists():
            raise SentryFault(
                f'Sentry tried to catalog run {order.run_number} but directory "{folder}" already exists'
            )
        if self._host.faults.disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            folder.mkdir(parents=True)
        except ValueError as fault:
            raise OSError(errno.EINVAL, str(fault)) from fault
        paths = [Path(entry.path) for entry in os.scandir(staging) if entry.is_file()]
        return folder, [path for path in paths if path.suffix == ".graw"]


def _io(fault: OSError) -> str:
    reason = f"{fault.strerror or fault} (os error {fault.errno})"
    return f"Sentry was not able to communicate with the disk: {reason}"
