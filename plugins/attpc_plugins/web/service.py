"""The running plugin: listens, and says where it cannot."""

from __future__ import annotations

import asyncio

from aiohttp import web

from attpc_ioc.log import get_logger
from attpc_ioc.plugin import PluginContext

from .app import WebApp
from .door import Door
from .listening import CannotListen, Listening
from .settings import WebSettings
from .tokens import Tokens

log = get_logger(__name__)

AGAIN_S = 5.0
"""How often it tries again to listen where that failed."""

CERTIFICATE_S = 60.0
"""How often it looks whether the certificate was renewed."""

REST_OF_BODY_S = 1.0
"""After an answer the rest of the request's body is read, and thrown away, for so long."""

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
            lingering_time=REST_OF_BODY_S,
            auto_decompress=False,
            shutdown_timeout=0.1,
        )
        self._listening: Listening | None = None

    async def start(self) -> None:
        """Listen; where that fails, say why and go on trying."""
        await self._runner.setup()
        assert self._runner.server is not None
        self._door = Door(self._runner.server, self._settings.max_connections)
        self._ctx.spawn(self._web.plots.run(), restart=self._web.plots.run)
        self._listening = Listening(self._settings, self._door)
        listens = await self._listen(self._listening)
        self._ctx.spawn(self._keep_listening(self._listening, listens))

    async def close(self) -> None:
        """Close the port and every connection."""
        if self._listening is not None:
            await self._listening.close()
        await self._web.close()
        await self._runner.cleanup()

    async def _listen(self, listening: Listening) -> bool:
        """Tell whether it listens everywhere now."""
        try:
            await listening.open()
        except CannotListen as error:
            self._ctx.status(str(error), degraded=True)
            return False
        self._ctx.status(f"at {self._settings.url}")
        log.info("page", url=self._settings.url)
        return True

    async def _keep_listening(self, listening: Listening, listens: bool) -> None:
        while not listens:
            await asyncio.sleep(AGAIN_S)
            listens = await self._listen(listening)
        while self._settings.tls:
            await asyncio.sleep(CERTIFICATE_S)
            try:
                await listening.read_certificate()
            except CannotListen as error:
                self._ctx.status(f"{error}; the earlier certificate is in use", degraded=True)
            else:
                self._ctx.status(f"at {self._settings.url}")
