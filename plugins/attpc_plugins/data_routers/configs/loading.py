"""The configuration files as they were when the ECC servers loaded them.

A file may be edited after it was loaded: what the detector runs with is what was read then. So each file is
taken when its transition has ended, and kept over restarts of the IOC, until another one is loaded in its
place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from attpc_ioc.eventlog import Kept
from attpc_ioc.log import get_logger
from attpc_ioc.model.events import OperationEnded
from attpc_ioc.model.states import Operation
from attpc_plugins.data_routers.hosts.host import ConfigHost, HostError
from attpc_plugins.data_routers.state import LoadedFile

log = get_logger(__name__)

PART_OF = {
    Operation.DESCRIBE: "describe",
    Operation.PREPARE: "prepare",
    Operation.CONFIGURE: "configure",
}
"""Which file each transition loads."""

SELDOM = "prepare"
"""Current ECC servers take the configure file for Prepare: there need be no file of this part."""


class LoadedFiles:
    """What each ECC server has loaded, by server and part."""

    def __init__(self, kept: Kept[LoadedFile], hosts: Mapping[str, ConfigHost]) -> None:
        self._kept = kept
        self._hosts = hosts
        self._reading: dict[tuple[str, str], asyncio.Task[None]] = {}

    def get(self, module: str, part: str, name: str) -> bytes | None:
        """Return the file as it was loaded; None where what is known is of another name, or nothing is."""
        loaded = self._kept.values.get(f"{module}.{part}")
        return loaded.content if loaded is not None and loaded.name == name else None

    def load(self, event: OperationEnded) -> None:
        """Take the file that a transition has just loaded."""
        part = PART_OF.get(event.operation)
        if part is None or event.config is None or not event.ok:
            return
        key = event.module, part
        # Whatever was known is not what is loaded any more, also where the new file cannot be read.
        self._kept.drop(f"{key[0]}.{key[1]}")
        if (before := self._reading.pop(key, None)) is not None:
            before.cancel()
        host = self._hosts.get(event.module)
        name = getattr(event.config, part)
        if name is None:
            return
        task = asyncio.get_running_loop().create_task(self._take(key, name, host), name=f"config {part}")
        self._reading[key] = task
        task.add_done_callback(lambda done: self._done(key, done))

    def _done(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        if self._reading.get(key) is task:
            del self._reading[key]

    async def _take(self, key: tuple[str, str], name: str, host: ConfigHost | None) -> None:
        content: bytes | None = None
        if host is not None:
            try:
                content = await host.read(file_name(key[1], name))
            except HostError as error:
                # Told with the run, where it matters; a prepare file need not be there.
                log.debug("configuration file not read", module=key[0], part=key[1], reason=error)
        if content is not None:
            self._kept.keep(f"{key[0]}.{key[1]}", LoadedFile(name, content))

    async def settled(self) -> None:
        """Wait until every file under way was read; each read is bounded."""
        while tasks := tuple(self._reading.values()):
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = tuple(self._reading.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def file_name(part: str, name: str) -> str:
    """Return what the file of a part is called on the ECC server's host."""
    return f"{part}-{name}.xcfg"
