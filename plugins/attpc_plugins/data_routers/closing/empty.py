"""Run folders on the hosts whose boards took no part: the merger refuses a run where one is missing.

Each has only a manifest without files. What is to be made is on disk before the run can write, so that it is
made also where a host was away, or the IOC.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from attpc_ioc.eventlog import Kept
from attpc_ioc.log import get_logger
from attpc_ioc.model.events import RunEvent, RunFailed
from attpc_ioc.model.run import RunInfo, RunRef, RunState
from attpc_ioc.plugin import PluginContext
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, RunFolderExists, SentryHost
from attpc_plugins.data_routers.settings import DataRoutersSettings

from . import manifest
from .closings import idle_of, routers_of
from .manifest import Manifest

log = get_logger(__name__)

RETRY_S = 5.0
NOTE = "no board of this data router took part"


@dataclass(frozen=True, slots=True)
class EmptyFolder:
    """A folder that is to be made once the run is over; `idle`: see `Manifest`."""

    run: RunRef
    router: str
    sources: tuple[str, ...]
    began_s: float
    started_s: float | None
    stopped_s: float | None
    idle: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: uuid.uuid4().hex)


EMPTY_FOLDER = TypeAdapter(EmptyFolder)


class EmptyFolders:
    """Makes the folders. Call `see` with each event of a run, in the event loop."""

    def __init__(
        self,
        ctx: PluginContext,
        settings: DataRoutersSettings,
        hosts: Mapping[str, FileHost | SentryHost],
        kept: Kept[EmptyFolder],
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._hosts = hosts
        self._kept = kept
        self._wake = asyncio.Event()
        self._failed: dict[str, str] = {}

    def start(self) -> None:
        """Continue what an earlier IOC left."""
        self._ctx.spawn(self._work(), restart=self._work)

    def see(self, event: RunEvent) -> None:
        """Note which folders a run needs besides those of its members."""
        info = event.run
        if isinstance(event, RunFailed) and event.number_released:
            for key in [key for key, one in self._kept.values.items() if one.run == info.ref]:
                self._kept.drop(key)
        elif self._settings.closing.enabled:
            self._expect(info)
        self._wake.set()

    def _expect(self, info: RunInfo) -> None:
        taking = routers_of(self._settings, self._ctx.snapshot(), info)
        idle = idle_of(self._settings, taking)
        for router in self._settings.router:
            key = f"{info.ref} {router.label}"
            if router in taking or not isinstance(self._hosts[router.label], FileHost):
                self._kept.drop(key)
                continue
            self._kept.keep(
                key,
                EmptyFolder(
                    info.ref, router.label, router.sources, info.began_s, info.started_s, info.stopped_s, idle
                ),
            )

    async def _work(self) -> None:
        while True:
            self._wake.clear()
            labels = {one.router for one in self._kept.values.values()}
            await asyncio.gather(*(self._of_router(label) for label in labels & self._hosts.keys()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S if self._kept.values else None):
                    await self._wake.wait()

    async def _of_router(self, label: str) -> None:
        host = self._hosts[label]
        due = [one for one in self._kept.values.items() if one[1].router == label and self._over(one[1].run)]
        try:
            for key, one in due:
                if isinstance(host, FileHost):
                    await self._make(host, one)
                self._kept.drop(key)
            self._failed.pop(label, None)
        except HostError as error:
            if self._failed.get(label) != str(error):
                self._failed[label] = str(error)
                log.info("empty run folder not made yet", router=label, reason=str(error))

    def _over(self, run: RunRef) -> bool:
        view = self._ctx.snapshot().run
        on = view.on and view.info is not None and view.info.ref == run
        return view.state is not RunState.UNKNOWN and not on

    async def _make(self, host: FileHost, one: EmptyFolder) -> None:
        written = Manifest(
            run=one.run,
            router=one.router,
            sources=one.sources,
            files=(),
            closed_s=time.time(),
            began_s=one.began_s or None,
            started_s=one.started_s,
            stopped_s=one.stopped_s,
            note=NOTE,
            closing=one.token,
            idle=one.idle,
        )
        try:
            await host.begin(one.run)
            if await host.gathered(one.run, closed=False, checksums=False):
                log.warning(
                    "run folder not made: its closing folder has files", router=one.router, run=one.run
                )
                return
            await host.finish(one.run, manifest.dump(written))
        except RunFolderExists:
            return  # that is all the merger needs, whoever made it
        log.info("empty run folder made", router=one.router, run=one.run)
