"""What a plugin that shows and writes PVs for clients of its own gets: every row, its value, and puts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from attpc_ioc.errors import PutFailed
from attpc_ioc.ioc.ca import PV, PutRejected
from attpc_ioc.ioc.publish import Publisher
from attpc_ioc.ioc.puts import Access, BadValue, CommandFailed, NotAllowed, PutHandler
from attpc_ioc.model.command import ResultCode, Who, reason_lines
from attpc_ioc.model.states import Severity, Status
from attpc_ioc.pvs.row import Shown, Value
from attpc_ioc.pvs.table import PvEntry


class Surface:
    """Implements `attpc_ioc.plugin.contract.PvSurface`: a third one beside Channel Access and PVAccess."""

    def __init__(
        self,
        table: Sequence[PvEntry],
        pvs: Mapping[str, PV],
        publisher: Publisher,
        puts: PutHandler,
        access: Access | None,
    ) -> None:
        self.table: Mapping[str, PvEntry] = MappingProxyType({entry.name: entry for entry in table})
        self._pvs = pvs
        self._publisher = publisher
        self._puts = puts
        self._access = access
        self._under_way: set[asyncio.Task[None]] = set()
        self.rules_read = 0
        """How often the access security file was read: with each, rights may have changed."""

    def read(self, name: str) -> Shown:
        """Return what a PV shows now; `KeyError` if there is no PV of this full name."""
        pv = self._pvs[name]
        return Shown(cast(Value, pv.value), Severity(pv.severity), Status(pv.status), pv.stamp)

    def watch(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call `listener` with the full name of each PV that was posted to; returns what ends that."""
        return self._publisher.watch(self.table, listener)

    def may_read(self, name: str, who: Who) -> bool:
        """Return whether somebody may read a PV; `KeyError` if there is none of this full name."""
        entry = self.table[name]
        return self._access is None or self._access.rights(entry, who, is_field=False)[0]

    def may_write(self, name: str, who: Who) -> bool:
        """Return whether somebody may write a PV; `KeyError` if there is none of this full name."""
        return self._puts.may_write(self._pvs[name], who)

    async def put(self, name: str, value: float | str, who: Who) -> None:
        """Write a PV as a client does and wait for the end of what that began.

        Raises `PutFailed`, and `KeyError` if there is no PV of this full name.
        """
        try:
            ends = self._puts.checked_put(self._pvs[name], value, who)
            if ends is not None:
                await self._to_the_end(ends)
        except CommandFailed as error:
            outcome = error.outcome
            reasons = reason_lines(outcome.reasons) or (outcome.text or outcome.message,)
            raise PutFailed(str(error), reasons, refused=outcome.code is ResultCode.REFUSED) from None
        except PutRejected as error:
            raise PutFailed(
                str(error),
                (str(error),),
                refused=True,
                no_access=isinstance(error, NotAllowed),
                bad_value=isinstance(error, BadValue),
            ) from None

    async def _to_the_end(self, ends: Awaitable[None]) -> None:
        """Wait for a put, which goes on and is recorded if nobody waits for it any more."""
        task = asyncio.ensure_future(ends)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.shield(task)

    async def stop(self) -> None:
        """Cancel the puts under way."""
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
