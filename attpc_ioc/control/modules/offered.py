"""The configs that one ECC server offers: asked for when it comes, and when somebody wants to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from attpc_ioc.control.state import FleetState
from attpc_ioc.ecc.client import EccClient
from attpc_ioc.errors import EccError
from attpc_ioc.log import get_logger
from attpc_ioc.model.fleet import LISTED_MOST
from attpc_ioc.settings import EccSettings

log = get_logger(__name__)

RETRY_S = 5.0

AT_ONCE = 16
"""So many servers are asked for their configs at a time: each answer can be long, and takes long to read."""


class OfferedConfigs:
    """Puts the configs that a server offers into the module's view."""

    def __init__(
        self,
        ecc: EccSettings,
        client: EccClient,
        state: FleetState,
        asking: asyncio.Semaphore,
        spawn: Callable[[Coroutine[Any, Any, Any], str], asyncio.Task[Any]],
    ) -> None:
        """Take what is asked, and where it is put; `asking` limits how many servers are asked at a time."""
        self._ecc = ecc
        self._client = client
        self._state = state
        self._asking = asking
        self._spawn = spawn
        self._refreshing: asyncio.Task[str] | None = None

    def refresh(self) -> asyncio.Task[str]:
        """Ask the server for its configs; the task's result is empty or says what is wrong."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = self._spawn(self._refresh(), f"refresh {self._ecc.name}")
        return self._refreshing

    @property
    def _unknown(self) -> bool:
        view = self._state.modules[self._ecc.name]
        return view.online and view.offered is None

    async def _refresh(self) -> str:
        name = self._ecc.name
        try:
            async with self._asking:
                configs = await self._client.get_config_ids()
        except EccError as error:
            log.warning("configs not read", module=name, reason=error)
            if self._unknown:
                self._spawn(self._refresh_later(), f"refresh {name} later")
            return str(error)
        offered = tuple(c for c in configs if self._ecc.rule.accepts(c))
        view = self._state.update_module(name, offered=offered)
        if len(offered) > LISTED_MOST:
            text = (
                f"{len(offered)} configs are on offer and Configs_RBV shows the first {LISTED_MOST}; "
                "the others can be selected by their names"
            )
            log.warning("too many configs to be shown", module=name, reason=text)
            self._state.update_module(name, result=view.result.noted(text))
        return ""

    async def _refresh_later(self) -> None:
        await asyncio.sleep(RETRY_S)
        if self._unknown:
            self.refresh()
