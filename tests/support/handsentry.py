"""An `attpc_sentry` that a test leads by the hand: it waits until it is let go on, and can lose its router.

It is a real HTTP server over a real folder. Unlike the simulated one it can be of the old kind, which counts
files of any name, and what the router has written since it was started.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web


@dataclass
class HandSentry:
    """A sentry over a staging folder, on a free port."""

    staging: Path
    old: bool = False
    router_runs: bool = True
    disk_gb: float = 1000.0
    written: int = 0
    """Of an old one: bytes that the router has written since it was started."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether it goes on to move files."""
    waiting: int = 0
    """Requests that wait."""
    after_move: Callable[[], object] = lambda: None
    """What happens between the last move and the answer."""
    port: int = 0

    def files(self) -> list[Path]:
        return [
            path for path in self.staging.iterdir() if path.is_file() and (self.old or path.suffix == ".graw")
        ]

    async def status(self, _request: web.Request) -> web.Response:
        if self.waiting:  # it answers nothing else meanwhile
            await self.go.wait()
        return self._answer()

    def _answer(self) -> web.Response:
        if not self.router_runs:
            return web.Response(status=500, text="Sentry could not find a process with name dataRouter")
        sizes = [path.stat().st_size for path in self.files()]
        return web.json_response(
            {
                "disk": "Macintosh HD",
                "process": "dataRouter",
                "data_path": str(self.staging),
                "data_written_gb": (self.written if self.old else sum(sizes)) * 1e-9,
                "data_path_files": len(sizes),
                "disk_avail_gb": self.disk_gb / 2,
                "disk_total_gb": self.disk_gb,
            }
        )

    async def catalog(self, request: web.Request) -> web.Response:
        order = await request.json()
        self.waiting += 1
        try:
            await self.go.wait()
        finally:
            self.waiting -= 1
        folder = self.staging / order["experiment"] / f"run_{order['run_number']:04d}"
        if folder.exists():
            return web.Response(status=500, text=f'directory "{folder}" already exists')
        folder.mkdir(parents=True)
        for path in self.staging.glob("*.graw"):
            path.rename(folder / path.name)
        self.after_move()
        return self._answer()


@contextlib.asynccontextmanager
async def hand_sentry(staging: Path, **options: object) -> AsyncIterator[HandSentry]:
    """Serve a sentry for the length of a block; it moves files at once until `go` is cleared."""
    made = HandSentry(staging, **options)  # type: ignore[arg-type]
    made.go.set()
    app = web.Application()
    app.router.add_get("/status", made.status)
    app.router.add_post("/catalog", made.catalog)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.go.set()
        await runner.cleanup()
