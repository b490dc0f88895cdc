"""The running plugin: listens, and says where it cannot."""

from __future__ import annotations

import asyncio
import errno

from aiohttp import web

from attpc_ioc.log import get_logger
from attpc_ioc.plugin import PluginContext

from .app import WebApp
from .door import Door
from .settings import WebSettings
from .tokens import Tokens

log = get_logger(__name__)

AGAIN_S = 5.0
"""How often it tries again to listen where that failed."""

BACKLOG = 128
REST_S = 30.0
"""A connection without a request is closed after this time."""


class Service:
    """The page and the API of one IOC."""

    def __init__(self, ctx: PluginContext, settings: WebSettings, tokens: Tokens) -> None:
        self._ctx = ctx
        self._settings = settings
        self._web = WebApp(ctx, settings, tokens)
        self._runner = web.AppRunner(
            self._web.application(),
            access_log=None,
            handle_signals=False,
            keepalive_timeout=REST_S,
            shutdown_timeout=0.1,
        )
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; where that fails, say why and go on trying."""
        await self._runner.setup()
        assert self._runner.server is not None
        self._door = Door(self._runner.server, self._settings.max_connections)
        self._ctx.spawn(self._web.plots.run(), restart=self._web.plots.run)
        if not await self._listen():
            self._ctx.spawn(self._try_again())

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
        await self._web.close()
        await self._runner.cleanup()

    async def _listen(self) -> bool:
        """Tell whether it listens now."""
        settings = self._settings
        try:
            self._server = await asyncio.get_running_loop().create_server(
                self._door, settings.address, settings.port, backlog=BACKLOG
            )
        except OSError as error:
            why = "another program uses it" if error.errno == errno.EADDRINUSE else error.strerror
            place = f"port {settings.port} of {settings.address}"
            self._ctx.status(
                f"cannot listen at {place}: {why}; port in [plugins.web] can be another", degraded=True
            )
            return False
        self._ctx.status(f"at {settings.url}")
        log.info("page", url=settings.url)
        return True

    async def _try_again(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_S)
            if await self._listen():
                return
