"""What is to be closed, on disk: one small JSON file for each run and data router, replaced atomically.

Folder `closing` in the plugin's own folder of the state directory. The IOC and the shell commands share it:
whoever changes an entry holds the lock of its router (`flock`, which ends with the process that holds it),
and reads the entries again once it has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attpc_ioc.errors import AttpcError, StateDirError
from attpc_ioc.files import as_owner, make_private, private
from attpc_ioc.log import get_logger
from attpc_ioc.printable import visible

from .hosts.words import bytes_of, text_of
from .model import CloseState, RunKey

log = get_logger(__name__)

FOLDER = "closing"
SUFFIX = ".json"
LOCK_POLL_S = 0.02
PLAIN = "".join(chr(code) for code in range(32, 127) if chr(code) != "%")
"""What file names show as it is; all other bytes of a name are written as `%XX`."""


class ClosingBusy(AttpcError):
    """Another process is closing files of the same data router just now."""


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
    before: frozenset[str] | None = None
    chosen: dict[str, int] = field(default_factory=dict)
    frozen: bool = False
    mixed: str = ""
    accepted: frozenset[str] = frozenset()
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


class Journal:
    """The entries in a folder. Methods block for the disk and raise `StateDirError`.

    So call them in threads; `locked` does so by itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER
        self.fault = ""
        """What became of a file that could not be read; empty when nothing is wrong."""
        self._read: dict[str, tuple[tuple[int, int, int], Entry]] = {}
        self._reading = threading.Lock()

    def entries(self, router: str | None = None) -> tuple[Entry, ...]:
        """Return the entries of one router or of all, the oldest run first; damaged files are set aside."""
        found: list[Entry] = []
        read: dict[str, tuple[tuple[int, int, int], Entry]] = {}
        try:
            # One at a time: two would set the same damaged file aside.
            with self._reading, os.scandir(self.folder) as files:
                for file in files:
                    if not file.name.endswith(SUFFIX):
                        continue
                    entry = self._entry(Path(file.path), read)
                    if entry is not None and router in (None, entry.router):
                        found.append(entry)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._error(error) from error
        self._read = read
        return tuple(sorted(found, key=lambda entry: (entry.began_s, entry.run, entry.router)))

    def find(self, run: RunKey, router: str) -> Entry | None:
        """Return the entry of a run on a router, if there is one."""
        return next((entry for entry in self.entries(router) if entry.run == run), None)

    def save(self, entry: Entry) -> None:
        """Have an entry on disk."""
        path = self._path(entry)
        temporary = path.with_suffix(".new")
        try:
            with as_owner(self.folder):
                make_private(self.folder)
                with open(temporary, "w", encoding="ascii", opener=private) as file:
                    json.dump(_out(entry), file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
                self._sync_folder()
        except OSError as error:
            raise self._error(error) from error

    async def keep(self, entry: Entry) -> None:
        """Have an entry on disk, and return only when the disk is left alone, also when cancelled.

        Otherwise the thread would write on, after whoever holds the lock has released it.
        """
        writing = asyncio.ensure_future(asyncio.to_thread(self.save, entry))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    def remove(self, entry: Entry) -> None:
        """Forget an entry."""
        try:
            with as_owner(self.folder):
                self._path(entry).unlink(missing_ok=True)
                self._sync_folder()
        except OSError as error:
            raise self._error(error) from error

    @contextlib.asynccontextmanager
    async def locked(self, router: str, limit_s: float) -> AsyncIterator[None]:
        """Hold the lock of a router; raises `ClosingBusy` where another has it for longer than `limit_s`."""
        opening = asyncio.ensure_future(asyncio.to_thread(self._open_lock, router))
        try:
            lock = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda opened: opened.exception() or os.close(opened.result()))
            raise
        try:
            deadline_s = time.monotonic() + limit_s
            while (owner := await asyncio.to_thread(_taken_by, lock)) is not None:
                if time.monotonic() >= deadline_s:
                    raise ClosingBusy(f"process {owner or '(unknown)'} is closing files of {router} just now")
                await asyncio.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(lock)

    # ------------------------------------------------------------------ files

    def _open_lock(self, router: str) -> int:
        try:
            name = f"{quote(router, safe='')}.lock"
            with as_owner(self.folder):
                make_private(self.folder)
                lock = private(str(self.folder / name), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._error(error) from error
        return lock

    def _entry(self, path: Path, read: dict[str, tuple[tuple[int, int, int], Entry]]) -> Entry | None:
        try:
            status = path.stat()
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            known = self._read.get(path.name)
            if known is None or known[0] != stamp:
                known = (stamp, _in(path.read_bytes()))
        except FileNotFoundError:  # another process has removed it meanwhile
            return None
        except ValueError as error:
            self._set_aside(path, str(error))
            return None
        read[path.name] = known
        return known[1]

    def _set_aside(self, path: Path, reason: str) -> None:
        aside = path.with_suffix(f".damaged-{time.time_ns()}")
        with as_owner(self.folder):
            path.rename(aside)
        self.fault = f"{path} was damaged ({reason}) and is kept as {aside.name}: close its run by hand"
        log.error("record of a closing damaged", file=path, reason=self.fault)

    def _path(self, entry: Entry) -> Path:
        parts = (entry.run.experiment, entry.run.folder, entry.router)
        return self.folder / (".".join(quote(part, safe="") for part in parts) + SUFFIX)

    def _sync_folder(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _error(self, error: OSError) -> StateDirError:
        return StateDirError(f"state directory {self.folder}: {error.strerror or error}")


def _taken_by(lock: int) -> str | None:
    """Take an open lock; returns None, or the number of the process that has it, empty where not known."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(lock, 32, 0).decode("ascii", errors="replace").strip()
    with contextlib.suppress(OSError):  # the number is for people only
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return None


class _Stored(BaseModel):
    """An entry as it stands in its file; names of files are in ASCII, see `PLAIN`."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    experiment: str
    number: int = Field(ge=0)
    router: str
    sources: list[str]
    token: str
    phase: Phase
    began_s: float
    started_s: float | None
    stopped_s: float | None
    settled: bool
    before: list[str] | None
    chosen: dict[str, int]
    frozen: bool
    mixed: str
    accepted: list[str]
    asked: bool
    base_bytes: int
    state: CloseState
    message: str
    files: int
    data_bytes: int
    location: str
    manifest: str
    remarks: list[str] = Field(default_factory=list)
    told: str


_SAME = (
    "router",
    "token",
    "phase",
    "began_s",
    "started_s",
    "stopped_s",
    "settled",
    "frozen",
    "mixed",
    "asked",
    "base_bytes",
    "state",
    "message",
    "files",
    "data_bytes",
    "location",
    "manifest",
    "told",
)


def _out(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in _SAME} | {
        "version": 1,
        "experiment": entry.run.experiment,
        "number": entry.run.number,
        "sources": list(entry.sources),
        "remarks": list(entry.remarks),
        "before": None if entry.before is None else sorted(map(_ascii, entry.before)),
        "chosen": {_ascii(name): size for name, size in sorted(entry.chosen.items())},
        "accepted": sorted(map(_ascii, entry.accepted)),
    }


def _in(raw: bytes) -> Entry:
    """Read an entry; raises `ValueError` with what is wrong."""
    try:
        stored = _Stored.model_validate(json.loads(raw))
    except RecursionError:
        raise ValueError("lists are nested too deeply") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return Entry(
        run=RunKey(stored.experiment, stored.number),
        sources=tuple(stored.sources),
        remarks=tuple(stored.remarks),
        before=None if stored.before is None else frozenset(map(_plain, stored.before)),
        chosen={_plain(name): size for name, size in stored.chosen.items()},
        accepted=frozenset(map(_plain, stored.accepted)),
        **{name: getattr(stored, name) for name in _SAME},
    )


def _ascii(name: str) -> str:
    return quote_from_bytes(bytes_of(name), safe=PLAIN)


def _plain(text: str) -> str:
    return text_of(unquote_to_bytes(text))
