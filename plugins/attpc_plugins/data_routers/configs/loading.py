"""The configuration files as the ECC servers loaded them.

A file may be edited later, but the detector runs with what was loaded. So each file is read when its
transition has ended, and kept across restarts of the IOC until another one is loaded.
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
"""Current ECC servers use the configure file for Prepare: a file of this part need not exist."""


class LoadedFiles:
    """The file that each ECC server has loaded, by server and part."""

    def __init__(self, kept: Kept[LoadedFile], hosts: Mapping[str, ConfigHost]) -> None:
        self._kept = kept
        self._hosts = hosts
        self._reading: dict[tuple[str, str], asyncio.Task[None]] = {}

    def get(self, module: str, part: str, name: str) -> bytes | None:
        """Return the file as it was loaded; None if it is unknown or has another name."""
        loaded = self._kept.values.get(f"{module}.{part}")
        return loaded.content if loaded is not None and loaded.name == name else None

    def load(self, event: OperationEnded) -> None:
        """Read the file that a transition has just loaded."""
        part = PART_OF.get(event.operation)
        if part is None or event.config is None or not event.ok:
            return
        key = event.module, part
        # The earlier file is no longer loaded, even if the new one cannot be read.
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
                # Reported with the run, where it matters; a prepare file need not exist.
                log.debug("configuration file not read", module=key[0], part=key[1], reason=error)
        if content is not None:
            self._kept.keep(f"{key[0]}.{key[1]}", LoadedFile(name, content))

    async def settled(self) -> None:
        """Wait for all reads; each has a time limit."""
        while tasks := tuple(self._reading.values()):
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Cancel all reads."""
        tasks = tuple(self._reading.values())
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


def file_name(part: str, name: str) -> str:
    """Return the name of a part's file on the ECC server's host."""
    return f"{part}-{name}.xcfg"
