"""Closings: one for each run and data router, kept in the state database."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import AliasChoices, BeforeValidator, Field, PlainSerializer, TypeAdapter

from attpc_ioc.errors import AttpcError, StateDirError
from attpc_ioc.eventlog import Kept
from attpc_ioc.log import get_logger
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunInfo, RunRef
from attpc_ioc.printable import visible
from attpc_plugins.data_routers.hosts.words import bytes_of, text_of
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import DataRoutersSettings, EventsSettings, RouterSettings

from .comparing import compare, rate_of
from .counting import Known
from .figures import figures_of, frames_text
from .manifest import StreamFrames

log = get_logger(__name__)

T = TypeVar("T")

TOPIC = "closings"
PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) != "%")
"""Characters of a file name that are kept as they are; every other byte is written as `%XX`."""


def _ascii(name: str) -> str:
    return quote_from_bytes(bytes_of(name), safe=PLAIN)


def _plain(text: Any) -> Any:
    return text_of(unquote_to_bytes(text)) if isinstance(text, str) else text


def _sizes(value: Any) -> Any:
    """Take the names without sizes of a closing that an earlier version has kept."""
    return dict.fromkeys(value) if isinstance(value, list | set | frozenset | tuple) else value


FileName = Annotated[str, BeforeValidator(_plain), PlainSerializer(_ascii)]
"""The name of a file on a host, which need not be valid Unicode; kept in ASCII, see `PLAIN`."""


BUSY_S = 0.5
"""Time until the next attempt of a command where another closing holds the lock."""


class ClosingBusy(AttpcError):
    """Another closing holds the lock of the same data router."""


class Phase(StrEnum):
    """How far the closing of one run's files on one host is."""

    RUNNING = "running"
    """The run is starting or running."""
    CLOSING = "closing"
    """The run has ended; its files are to be moved."""
    DONE = "done"
    DROPPED = "dropped"
    """Given up: with `files drop`, or because a sentry cannot tell the files of two runs apart."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The closing of one run's files on one data router's host.

    - `token`: unique; the manifest has it too, so that a repeated closing recognises its own work.
    - `settled`: whether `before` is final: the files that were in the staging folder before the run, with
      their sizes, None where these are not known; None in all where this cannot be known.
    - `chosen`: the run's files with the sizes last seen. `frozen`: no further file belongs to the run,
      because a later run has begun.
    - `apart`: every source of the run has begun its streams, which the names of `chosen` have: what comes of
      another stream is of a later run. `beside_s`: the time of the newest file (Unix time of the host) when
      this run began while files of an earlier one were still written; None where none were.
    - `mixed`: why the files cannot be told from those of another run; empty where they can. `mixed_with`: the
      numbers of the earlier runs whose files a sentry puts into this run's folder.
    - `streams`: what the names of the run's files have in common, see `hosts.names`, once it is frozen or
      closed: what comes later of these streams is of this run. `late`: late data that are moved, with their
      sizes, until they are in the manifest.
    - `accepted`: missing files that an operator accepts as lost. `idle`: see `Manifest`.
    - `asked`: a sentry was asked to move the files, and may have done so; `asked_s`: when (Unix time), while
      it may still be at it. `moved`: it has moved them, and what it left is still to be seen.
    - `base_bytes`, `base_files`: what a sentry reported before the run. `counted`: whether `files` and
      `data_bytes` are known at all. `left_files`: files that a sentry leaves where they are, because they are
      not `*.graw`: those that it reported after it had moved all.
    - `remarks`: what the run history should say of the run's data besides the state of the closing. `sync`:
      the worst state of its boards' events, see `RunFiles`.
    - `seen`: what the live look had seen of its frames when the run ended, by sender, until it is closed.
      `frames`, `checked_s`, `differs`: see `Manifest.streams`.
    - `reported`: state and message of the last `RunFiles` event. It is kept in the same transaction as the
      event. The next IOC reports what was closed at the shell while none ran.
    """

    run: RunRef
    router: str
    sources: tuple[str, ...]
    phase: Phase
    idle: tuple[str, ...] = ()
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    began_s: float = 0.0
    started_s: float | None = None
    stopped_s: float | None = None
    settled: bool = False
    before: Annotated[dict[FileName, int | None] | None, BeforeValidator(_sizes)] = None
    chosen: dict[FileName, int] = field(default_factory=dict)
    frozen: bool = False
    apart: bool = False
    beside_s: float | None = None
    mixed: str = ""
    mixed_with: tuple[int, ...] = ()
    accepted: frozenset[FileName] = frozenset()
    streams: frozenset[FileName] = frozenset()
    late: dict[FileName, int] = field(default_factory=dict)
    asked: bool = False
    asked_s: float = 0.0
    moved: bool = False
    base_bytes: int = 0
    base_files: int = 0
    counted: bool = False
    left_files: int = 0
    state: CloseState = CloseState.NONE
    message: str = ""
    files: int = 0
    data_bytes: int = 0
    location: str = ""
    manifest: str = ""
    remarks: tuple[str, ...] = ()
    sync: str = ""
    seen: dict[str, Known] = field(default_factory=dict)
    frames: tuple[StreamFrames, ...] | None = None
    checked_s: float | None = None
    differs: tuple[str, ...] = ()
    reported: Annotated[str, Field(validation_alias=AliasChoices("reported", "told"))] = ""

    @property
    def open(self) -> bool:
        """Whether the closing is not finished."""
        return self.phase in (Phase.RUNNING, Phase.CLOSING)

    @property
    def late_pending(self) -> bool:
        """Whether late data of a closed run were seen and are not in its manifest yet."""
        bad = bool(self.streams) and self.state is not CloseState.DONE
        return self.phase is Phase.DONE and (bool(self.late) or bad)

    @property
    def unsettled(self) -> bool:
        """Whether the files from before the run are still to be found out."""
        return self.open and not self.settled

    @property
    def to_report(self) -> str:
        """What `reported` becomes with the next event; empty while there is nothing to report.

        An unreachable host is reported once, whatever its error messages are.
        """
        if self.state in (CloseState.NONE, CloseState.MOVING):
            return ""
        if self.state in (CloseState.WAITING, CloseState.UNREACHABLE):
            return self.state.label
        text = f"{self.state.label}: {self.full_message}"
        return text if self.frames is None else f"{text} {self.checked_s} {figures_of(self.frames)}"

    @property
    def full_message(self) -> str:
        """The message, the remarks, and what is wrong in the frames."""
        checked, frames = self.checked_s is not None, self.frames or ()
        differs = self.differs
        if not checked:
            rate_hz = rate_of(frames, self.started_s, self.stopped_s)
            differs = tuple(one.text for one in compare(frames, EventsSettings(), rate_hz=rate_hz) if one.bad)
        found = frames_text(frames, differs, checked=checked)
        return "; ".join(filter(None, (self.message, *self.remarks, found)))

    def in_state(self, state: CloseState, message: str) -> Closing:
        """Return the closing with another state and message."""
        # A host's message may quote file names, which can hold any bytes.
        return replace(self, state=state, message=visible(message))


CLOSING = TypeAdapter(Closing)


def new_closing(router: RouterSettings, info: RunInfo, idle: tuple[str, ...]) -> Closing:
    """Return a new closing of a run on a router; `idle`: see `Manifest`."""
    return Closing(
        run=info.ref,
        router=router.label,
        sources=router.sources,
        phase=Phase.RUNNING,
        idle=idle,
        began_s=info.began_s,
        started_s=info.started_s,
        stopped_s=info.stopped_s,
    )


def routers_of(settings: DataRoutersSettings, fleet: Fleet, info: RunInfo) -> list[RouterSettings]:
    """Return the routers that may have data of a run: those with a source of a member."""
    known = {source.name: module.name for module in fleet.modules.values() for source in module.sources}
    return [
        router
        for router in settings.router
        if any(known.get(source) is None or known[source] in info.members for source in router.sources)
    ]


def idle_of(settings: DataRoutersSettings, taking: Collection[RouterSettings]) -> tuple[str, ...]:
    """Return the labels of all routers but those that take part in a run."""
    return tuple(router.label for router in settings.router if router not in taking)


def end(closing: Closing | None) -> Closing | None:
    """Close a run whose end was not reported."""
    if closing is None or closing.phase is not Phase.RUNNING:
        return closing
    return replace(closing, phase=Phase.CLOSING).in_state(CloseState.WAITING, "the run is over")


class State(Protocol):
    """Where closings are kept: the plugin's context, or the state directory while no IOC runs."""

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return the values that are kept under a topic."""
        ...

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until all kept values are on disk; raises `StateDirError` where they cannot be written."""
        ...


class ClosingStore:
    """The closings of all runs and routers, for one event loop.

    Hold a router's lock to work on its open closings, and read them after you have the lock.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._kept = state.kept(TOPIC, CLOSING)
        self._locks: dict[str, asyncio.Lock] = {}
        self._lost = ""
        if self._kept.lost:
            self.lose(self._kept.lost)
            self._kept.lose("")
        for key, reason in self._kept.bad.items():
            log.error("stored closing damaged", closing=key, reason=reason)

    @property
    def fault(self) -> str:
        """Which stored closings could not be read; empty where all could be."""
        faults = [f"the stored closing {key} is damaged ({why})" for key, why in self._kept.bad.items()]
        if self._lost:
            faults.append(f"closings may be missing: {self._lost}")
        return f"{'; '.join(faults)}: close what is left by hand" if faults else ""

    def lose(self, reason: str) -> None:
        """Note that closings may be missing; `fault` says so until the program ends."""
        self._lost = "; ".join(filter(None, (self._lost, reason)))
        log.error("closings lost", reason=reason)

    def of(self, router: str | None = None) -> tuple[Closing, ...]:
        """Return the closings of one router or of all, the oldest run first."""
        found = [closing for closing in self._kept.values.values() if router in (None, closing.router)]
        return tuple(sorted(found, key=lambda closing: (closing.began_s, closing.run, closing.router)))

    def find(self, run: RunRef, router: str) -> Closing | None:
        """Return the closing of a run on a router; None where there is none."""
        return self._kept.values.get(_key(run, router))

    def keep(self, closing: Closing) -> None:
        """Keep a closing; it is written to disk soon."""
        self._kept.keep(_key(closing.run, closing.router), closing)

    async def save(self, closing: Closing) -> None:
        """Write a closing to disk; raises `StateDirError` and restores the earlier one where that fails."""
        before = self.find(closing.run, closing.router)
        self.keep(closing)
        try:
            await self._state.flush()
        except StateDirError:
            if self.find(closing.run, closing.router) is closing:
                if before is None:
                    self.remove(closing)
                else:
                    self.keep(before)
            raise

    def remove(self, closing: Closing) -> None:
        """Delete a closing."""
        self._kept.drop(_key(closing.run, closing.router))

    @contextlib.asynccontextmanager
    async def locked(self, router: str, limit_s: float) -> AsyncIterator[None]:
        """Hold a router's lock; raises `ClosingBusy` if it is not free within `limit_s`."""
        lock = self._locks.setdefault(router, asyncio.Lock())
        try:
            async with asyncio.timeout(limit_s):
                await lock.acquire()
        except TimeoutError:
            raise ClosingBusy(f"files of {router} are being closed just now") from None
        try:
            yield
        finally:
            lock.release()


def _key(run: RunRef, router: str) -> str:
    return f"{run} {router}"
