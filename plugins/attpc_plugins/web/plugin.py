"""The plugin: its hooks, which call `service` once the IOC has started.

Every shell command makes an object of this class, so imports are delayed until needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attpc_ioc.plugin import hookimpl

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from attpc_ioc.plugin import PluginContext

    from .service import Service
    from .tokens import Tokens


class Web:
    """Serves the page and the HTTP API, if the settings name a port."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self.tokens: Tokens | None = None

    @hookimpl
    def attpc_settings(self) -> type[BaseModel]:
        """Return the model of `[plugins.web]`."""
        from .settings import WebSettings

        return WebSettings

    @hookimpl
    def attpc_cli(self, app: typer.Typer) -> None:
        """Add the shell commands."""
        from .commands import add_commands

        add_commands(app)

    @hookimpl
    async def attpc_startup(self, ctx: PluginContext) -> None:
        """Listen, or go on trying where the port is in use."""
        from .settings import WebSettings
        from .tokens import Tokens

        settings = ctx.settings
        assert isinstance(settings, WebSettings)
        tokens = self.tokens = Tokens(ctx)
        ctx.answer(tokens.answer)
        if not settings.on:
            return
        from .service import Service

        self.service = Service(ctx, settings, tokens)
        await self.service.start()

    @hookimpl
    async def attpc_shutdown(self) -> None:
        """Close every connection."""
        if self.service is not None:
            await self.service.close()
