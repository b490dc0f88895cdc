"""What is to be closed: one entry for each run and data router, kept in the state database."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter

from attpc_ioc.errors import AttpcError, StateDirError
from attpc_ioc.eventlog import Kept
from attpc_ioc.log import get_logger
from attpc_ioc.printable import visible
from attpc_plugins.data_routers.hosts.words import bytes_of, text_of
from attpc_plugins.data_routers.model import CloseState, RunKey

log = get_logger(__name__)

T = TypeVar("T")

TOPIC = "closings"
PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) != "%")
"""What names of files show as it is; all other bytes of a name are written as `%XX`."""


def _ascii(name: str) -> str:
    return quote_from_bytes(bytes_of(name), safe=PLAIN)


def _plain(text: Any) -> Any:
    return text_of(unquote_to_bytes(text)) if isinstance(text, str) else text


FileName = Annotated[str, BeforeValidator(_plain), PlainSerializer(_ascii)]
"""The name of a file on a host, which may be no Unicode: in ASCII where it is kept, see `PLAIN`."""


class ClosingBusy(AttpcError):
    """Files of the same data router are being closed just now."""


class Phase(StrEnum):
    """Where the closing of one run's files on one host stands."""

    RUNNING = "running"
    """The run is on, or its start is under way."""
    CLOSING = "closing"
    """It is over; its files are to be moved."""
    DONE = "done"
    DROPPED = "dropped"
    """Given up: by somebody at the shell, or because the host can never tell the files apart."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The closing of one run's files on one data router's host.

    - `token`: unique; the manifest has it too, so that a repeated closing knows its own work again.
    - `settled`: it is decided which files lay in the staging folder before the run: `before`, None where
      nobody can tell.
    - `chosen`: the run's files with their sizes as they were last seen. `frozen`: no further file belongs to
      the run, because a later one has begun.
    - `mixed`: why its files cannot be told from those of another run; empty where they can.
    - `accepted`: files that are gone, and that somebody has said to be content without.
    - `asked`: a sentry was told to move the files, and may have done so; `base_bytes`: what its router had
      written before the run.
    - `remarks`: what those who read of the run are to know of its data, besides how its closing stands.
    - `told`: state and message that the other plugins were told of last.
    """

    run: RunKey
    router: str
    sources: tuple[str, ...]
    phase: Phase
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    began_s: float = 0.0
    started_s: float | None = None
    stopped_s: float | None = None
    settled: bool = False
    before: frozenset[FileName] | None = None
    chosen: dict[FileName, int] = field(default_factory=dict)
    frozen: bool = False
    mixed: str = ""
    accepted: frozenset[FileName] = frozenset()
    asked: bool = False
    base_bytes: int = 0
    state: CloseState = CloseState.NONE
    message: str = ""
    files: int = 0
    data_bytes: int = 0
    location: str = ""
    manifest: str = ""
    remarks: tuple[str, ...] = ()
    told: str = ""

    @property
    def open(self) -> bool:
        """Whether something is left to do."""
        return self.phase in (Phase.RUNNING, Phase.CLOSING)

    @property
    def unsettled(self) -> bool:
        """Whether it is still to be decided which files lay there before the run."""
        return self.open and not self.settled

    @property
    def to_tell(self) -> str:
        """What `told` is once the other plugins know how it stands; empty while there is nothing to tell.

        That a host does not answer is told once, however it says so.
        """
        if self.state in (CloseState.NONE, CloseState.MOVING):
            return ""
        if self.state in (CloseState.WAITING, CloseState.UNREACHABLE):
            return self.state.label
        return f"{self.state.label}: {self.message_told}"

    @property
    def message_told(self) -> str:
        """The message and the remarks, as the other plugins are told them."""
        return "; ".join((self.message, *self.remarks))

    def said(self, state: CloseState, message: str) -> Entry:
        """Return the entry with another state and message."""
        # A host's message may quote names of files, which can hold anything, also what is no Unicode.
        return replace(self, state=state, message=visible(message))


ENTRY = TypeAdapter(Entry)


class State(Protocol):
    """Where entries are kept: the plugin's context, or the state directory of an IOC that does not run."""

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return what is kept under a topic."""
        ...

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until what was kept is on disk; raises `StateDirError` where it cannot be."""
        ...


class Closings:
    """The entries of all runs and routers, for one event loop.

    Whoever works on a router's open entries holds its lock, and reads them again once it has it.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._kept = state.kept(TOPIC, ENTRY)
        self._locks: dict[str, asyncio.Lock] = {}
        self._lost = ""
        if self._kept.lost:
            self.lose(self._kept.lost)
            self._kept.lose("")
        for key, reason in self._kept.bad.items():
            log.error("record of a closing damaged", closing=key, reason=reason)

    @property
    def fault(self) -> str:
        """Which entries could not be read; empty when nothing is wrong."""
        faults = [f"the record of {key} is damaged ({why})" for key, why in self._kept.bad.items()]
        if self._lost:
            faults.append(f"closings may be missing: {self._lost}")
        return f"{'; '.join(faults)}: close what is left by hand" if faults else ""

    def lose(self, reason: str) -> None:
        """Take down that entries may be missing; it is said until this program ends."""
        self._lost = "; ".join(filter(None, (self._lost, reason)))
        log.error("closings lost", reason=reason)

    def entries(self, router: str | None = None) -> tuple[Entry, ...]:
        """Return the entries of one router or of all, the oldest run first."""
        found = [entry for entry in self._kept.values.values() if router in (None, entry.router)]
        return tuple(sorted(found, key=lambda entry: (entry.began_s, entry.run, entry.router)))

    def find(self, run: RunKey, router: str) -> Entry | None:
        """Return the entry of a run on a router, if there is one."""
        return self._kept.values.get(_key(run, router))

    def keep(self, entry: Entry) -> None:
        """Have an entry on disk soon."""
        self._kept.keep(_key(entry.run, entry.router), entry)

    async def save(self, entry: Entry) -> None:
        """Have an entry on disk; where it cannot be, it is as before, and `StateDirError` is raised."""
        before = self.find(entry.run, entry.router)
        self.keep(entry)
        try:
            await self._state.flush()
        except StateDirError:
            if self.find(entry.run, entry.router) is entry:
                if before is None:
                    self.remove(entry)
                else:
                    self.keep(before)
            raise

    def remove(self, entry: Entry) -> None:
        """Forget an entry."""
        self._kept.drop(_key(entry.run, entry.router))

    @contextlib.asynccontextmanager
    async def locked(self, router: str, limit_s: float) -> AsyncIterator[None]:
        """Hold the lock of a router; raises `ClosingBusy` where another has it for longer than `limit_s`."""
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


def _key(run: RunKey, router: str) -> str:
    return f"{run} {router}"
