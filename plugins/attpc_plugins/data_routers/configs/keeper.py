"""Follows the runs and reports the configuration files of each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from attpc_ioc.errors import StateDirError
from attpc_ioc.log import get_logger
from attpc_ioc.model.events import OperationEnded, RunConfigs, RunConfigText
from attpc_ioc.model.run import RunInfo, RunRef
from attpc_ioc.model.states import Operation
from attpc_ioc.plugin import PluginContext
from attpc_plugins.data_routers.hosts.host import ConfigHost
from attpc_plugins.data_routers.settings import DataRoutersSettings
from attpc_plugins.data_routers.state import ONLY, ConfigsRead, Records

from .gather import Gathered, gather
from .loading import LoadedFiles
from .rows import CONFIGS, CONFIGS_MESSAGE, ConfigsState
from .spool import BackupFault, Spool

log = get_logger(__name__)

RETRY_S = 15.0
"""Time between two attempts to write to the backup folder."""

NOT_TAKEN = "a plugin did not accept all of them: see the Message_RBV of the plugins"


class RunConfigFiles:
    """Reads the loaded files of each run when it is Running, reports them, and copies them.

    `hosts` are by ECC server, for those whose files can be read.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: DataRoutersSettings,
        hosts: Mapping[str, ConfigHost],
        records: Records,
    ) -> None:
        self._ctx = ctx
        self._hosts = hosts
        self._replies: dict[str, str] = {}
        self._loaded = LoadedFiles(records.loaded, hosts)
        self._read = records.configs_read
        self._notes: tuple[str, ...] = ()
        backup = settings.backup.folder
        self._spool = Spool(records, Path(backup)) if backup else None
        self._state = ConfigsState.NONE
        self._faults: tuple[str, ...] = ()
        self._wake = asyncio.Event()

    # ------------------------------------------------------------------ events

    def operation_ended(self, event: OperationEnded) -> None:
        """Read the file that was loaded, and keep the reply to Configure in case it cannot be read."""
        self._loaded.load(event)
        if event.operation is Operation.CONFIGURE and event.ok and event.text:
            self._replies[event.module] = event.text

    def run_started(self, run: RunInfo) -> None:
        """Start reading the files of a run, without delaying it."""
        self._ctx.spawn(self._record(run))

    async def run(self) -> None:
        """Copy pending files to the backup folder until cancelled, including those of an earlier IOC."""
        last = self._read.values.get(ONLY)
        if last is not None and self._state is ConfigsState.NONE:
            self._faults = last.faults
            self._show(ConfigsState.INCOMPLETE if last.faults else ConfigsState.KEPT, last.faults)
        if self._spool is None:
            return
        while True:
            try:
                renamed = await self._spool.flush()
            except BackupFault as fault:
                self._show(ConfigsState.WAITING, (str(fault),))
            else:
                for text in renamed:
                    log.warning("configuration file kept under another name", reason=text)
                self._show_kept()
            try:
                async with asyncio.timeout(RETRY_S if self._state is ConfigsState.WAITING else None):
                    await self._wake.wait()
            except TimeoutError:
                continue
            self._wake.clear()

    async def close(self) -> None:
        """Cancel reads."""
        await self._loaded.close()

    # ------------------------------------------------------------------ one run

    async def _record(self, run: RunInfo) -> None:
        key = run.ref
        last = self._read.values.get(ONLY)
        if last is not None and last.run == key:
            return
        self._show(ConfigsState.READING, ())
        await self._loaded.settled()
        found = await gather(run, self._hosts, self._loaded, self._replies)
        self._notes = found.notes
        for note in found.notes:
            log.warning("configuration file changed", reason=note, number=run.number)
        self._faults = found.faults
        if not await self._report(key, found):
            self._faults = (*self._faults, NOT_TAKEN)
        if self._spool is not None and found.files:
            try:
                await self._spool.put(key, found.files)
            except StateDirError as error:
                self._faults = (*self._faults, f"no copies for the backup folder could be kept: {error}")
        self._read.keep(ONLY, ConfigsRead(key, self._faults))
        for fault in self._faults:
            log.warning("configuration file of the run not on record", reason=fault, number=run.number)
        if self._spool is not None:
            self._state = ConfigsState.READING
            self._wake.set()
        else:
            self._show_kept()

    async def _report(self, key: RunRef, found: Gathered) -> bool:
        """Emit an event for each text: one has 100 kB or more, and a longer event would block the event loop.

        Returns False if the core could not write all events.
        """
        taken = True
        by_text: dict[str, list[RunConfigText]] = {}
        for config in found.configs:
            by_text.setdefault(config.text, []).append(config)
        for configs in by_text.values():
            taken &= await self._ctx.tell(
                RunConfigs, experiment=key.experiment, number=key.number, configs=tuple(configs)
            )
        return taken

    # ------------------------------------------------------------------ showing

    def _show_kept(self) -> None:
        """Show the result of the last run if no files are pending; nothing before the first run."""
        if self._state is ConfigsState.NONE:
            return
        state = ConfigsState.INCOMPLETE if self._faults else ConfigsState.KEPT
        self._show(state, (*self._faults, *self._notes))

    def _show(self, state: ConfigsState, texts: tuple[str, ...]) -> None:
        if state is ConfigsState.WAITING and self._state is not state:
            log.warning("configuration files wait", reason="; ".join(texts))
        self._state = state
        self._ctx.publish(CONFIGS, int(state))
        self._ctx.publish(CONFIGS_MESSAGE, "\n".join(texts))
