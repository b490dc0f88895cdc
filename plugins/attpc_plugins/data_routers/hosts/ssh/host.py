"""Data routers and configuration folders on other machines, over SSH."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from attpc_ioc.model import outside
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.entries import entry, folder_of
from attpc_plugins.data_routers.hosts.frames import (
    FRAMES_MOST,
    JUMP_BYTES,
    PIECES_MOST,
    SAMPLES_MOST,
    Cursor,
    Piece,
    piece_named,
    piece_of,
)
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.local.folders import MANIFEST_LIMIT, TAIL_LIMIT, RunFolders, last_lines
from attpc_plugins.data_routers.hosts.local.host import CONFIG_LIMIT, config_name, log_path
from attpc_plugins.data_routers.hosts.names import LATE_MOST
from attpc_plugins.data_routers.hosts.words import (
    FaultKind,
    bytes_of,
    grown,
    moved,
    name_fault,
    odd_text,
    text_of,
    vanished,
    words,
)
from attpc_plugins.data_routers.model import FileEntry, Moved, MoveOutcome, Polled
from attpc_plugins.data_routers.settings import (
    DataRoutersSettings,
    EccHostSettings,
    ReachSettings,
    RouterSettings,
)

from .bulk import Bulk
from .dial import Target
from .station import STATIONS, Seat, Stations
from .wire import fault_kind_named


def target_of(reach: ReachSettings, settings: DataRoutersSettings) -> Target:
    """Return the target of a settings table."""
    return Target(
        reach.host,
        reach.port,
        reach.user,
        settings.ssh_config,
        settings.known_hosts,
        settings.connect_timeout_s,
    )


class _User:
    """One who uses a connection and its agents, with others of the same target."""

    def __init__(self, target: Target, limits: CallLimits, stations: Stations) -> None:
        self._target = target
        self._limits = limits
        self._stations = stations

    @property
    def _seat(self) -> Seat:
        return self._stations.seat(self._target, self)

    async def disconnect(self) -> None:
        """End the agents, and the connection unless another user has it."""
        await self._stations.leave(self._target, self)


class SshHost(_User):
    """A data router of another machine. Implements `FileHost`; the agent on the host does the work."""

    def __init__(
        self, router: RouterSettings, target: Target, limits: CallLimits, stations: Stations = STATIONS
    ) -> None:
        if router.staging is None:
            raise ValueError("a router reached over SSH needs a staging folder")
        self._staging = bytes_of(router.staging)
        self._process = b"\0".join(name.encode() for name in router.processes)
        self._log = router.log
        self._label = router.label
        self._bulk = Bulk(target)
        super().__init__(target, limits, stations)

    async def connect(self) -> None:
        """Make the connection and start the agent for polls; takes up to `connect_timeout_s` for each."""
        await self._seat.poll.connect()

    async def poll(self, next_run: RunRef | None) -> Polled:
        """Return the state of the router, its staging folder and its disk; one round trip."""
        names = (b"", b"") if next_run is None else RunFolders(self._staging, next_run).names(closed=True)
        fields = await self._seat.poll.call(
            "poll", (self._staging, self._process, *names), self._limits.poll_s
        )
        try:
            numbers, *counts = fields[:7]
            pids = tuple(outside.count(number, outside.MOST_SHOWN) for number in numbers.split())
            files, size, free, total, exists, odd = map(outside.count, counts)
            outside.count(files, outside.MOST_SHOWN)
            if len(fields) != 7 + 2 * bool(odd):
                raise ValueError(f"it has {len(fields)} fields")
        except ValueError as error:
            raise self._nonsense(error) from error
        text = odd_text(fields[7], text_of(fields[8]), odd) if odd else ""
        runs = bool(pids) or not self._process
        return Polled(runs, files, size, free, total, bool(exists), pids=pids, odd=text)

    def _nonsense(self, error: ValueError) -> HostFault:
        return HostFault(f"the agent on {self._target} gave an invalid answer: {error}")

    async def _files(self, name: str, *fields: bytes) -> list[bytes]:
        # Another user of the agent may be computing checksums: wait for that.
        return await self._seat.files.call(name, fields, self._limits.files_s, self._limits.checksums_s)

    async def list_staging(self) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the staging folder, by name; regular files only, no links."""
        return self._entries(await self._files("listing", b"", self._staging))

    def _entries(self, fields: Sequence[bytes]) -> tuple[FileEntry, ...]:
        try:
            return folder_of(
                (
                    entry(name, size, changed, checksum.decode("ascii", "replace"))
                    for name, size, changed, checksum in _groups(fields, 4)
                ),
                f"the folder on {self._target}",
            )
        except ValueError as error:
            raise self._nonsense(error) from error

    async def begin(self, run: RunRef) -> None:
        """Make the run's closing folder, or find the one of an earlier attempt."""
        where = RunFolders(self._staging, run)
        await self._files("begin", where.staging, where.experiment, where.closing, where.closed)

    async def move(
        self, run: RunRef, files: Sequence[FileEntry], *, closed: bool = False, late: bool = True
    ) -> tuple[Moved, ...]:
        """Move files from the staging to the closing folder; never over another file, never partly."""
        where = RunFolders(self._staging, run)
        refused = [name_fault(file.name) for file in files]
        asked = [file for file, reason in zip(files, refused, strict=True) if not reason]
        sent = [field for file in asked for field in (bytes_of(file.name), b"%d" % file.size)]
        most = b"%d" % (LATE_MOST if late else 0)
        fields = await self._files("move", where.staging, *where.names(closed=closed), most, *sent)
        try:
            outcomes = [_moved(file, *group) for file, group in zip(asked, _groups(fields, 3), strict=True)]
        except ValueError as error:
            raise self._nonsense(error) from error
        answered = iter(outcomes)
        return tuple(
            Moved(file.name, MoveOutcome.FAILED, reason) if reason else next(answered)
            for file, reason in zip(files, refused, strict=True)
        )

    async def gathered(
        self, run: RunRef, *, closed: bool, checksums: bool, known: Collection[str] = ()
    ) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the run's folder (`closed`) or of its closing folder, by name."""
        where = RunFolders(self._staging, run)
        folder = where.staging, *where.names(closed=closed)
        if not checksums:
            return self._entries(await self._files("listing", b"", *folder))
        limit_s = self._limits.checksums_s
        fields = (b"all", *folder, *map(bytes_of, known))
        return self._entries(await self._seat.files.call("listing", fields, limit_s, limit_s))

    async def finish(self, run: RunRef, manifest: bytes) -> None:
        """Write the manifest into the closing folder, sync it, and rename the folder to the run's folder."""
        where = RunFolders(self._staging, run)
        await self._files("finish", where.staging, where.experiment, where.closing, where.closed, manifest)

    async def amend(self, run: RunRef, manifest: bytes) -> None:
        """Replace the manifest of a closed run, in one step, and sync the run's folder."""
        where = RunFolders(self._staging, run)
        await self._files("amend", where.staging, where.experiment, where.closed, manifest)

    async def manifest(self, run: RunRef) -> bytes | None:
        """Return the manifest of a closed run; None if the run's folder or its manifest does not exist."""
        where = RunFolders(self._staging, run)
        limit = b"%d" % MANIFEST_LIMIT
        found = await self._files("manifest", limit, where.staging, *where.names(closed=True))
        return found[0] if found else None

    async def look(self, cursors: Sequence[Cursor], step: int) -> tuple[Piece, ...]:
        """Hop over the new frames of the staging folder's files, each sender's from its cursor on."""
        limits = (step, FRAMES_MOST, JUMP_BYTES, SAMPLES_MOST, PIECES_MOST)
        places = [
            field
            for cursor in cursors
            for field in (cursor.sender, cursor.name, *map(str, (cursor.offset, cursor.size, cursor.before)))
        ]
        asked = (self._staging, *(b"%d" % limit for limit in limits), *(place.encode() for place in places))
        fields = await self._seat.look.call("look", asked, self._limits.poll_s, self._limits.poll_s)
        try:
            return tuple(piece_of(*group) for group in _groups(fields, 4))
        except ValueError as error:
            raise self._nonsense(error) from error

    async def send(self, run: RunRef, file: FileEntry, sink: Callable[[bytes], None]) -> None:
        """Read a file of a closed run; `sink` is called with each piece, in a thread."""
        where = RunFolders(self._staging, run)
        fields = where.staging, *where.names(closed=True), bytes_of(file.name)
        await self._bulk.send(fields, file.size, sink)

    async def frames(
        self,
        run: RunRef,
        name: str,
        offset: int,
        most: int,
        before: int = -1,
        *,
        closed: bool = True,
        samples: int = SAMPLES_MOST,
    ) -> Piece:
        """Hop over at most so many frames of a file of a closed run, or of its closing folder."""
        where, limit_s = RunFolders(self._staging, run), self._limits.files_s
        place = where.staging, *where.names(closed=closed), bytes_of(name)
        numbers = (b"%d" % number for number in (offset, before, most, samples, SAMPLES_MOST))
        fields = await self._seat.look.call("hop", (*numbers, *place), limit_s, limit_s)
        try:
            (found,) = _groups(fields, 4)
            return await asyncio.to_thread(piece_named, name, *found, samples_most=samples)
        except ValueError as error:
            raise self._nonsense(error) from error

    async def link(self, run: RunRef, file: FileEntry, to: Path) -> bool:  # noqa: ARG002
        """Return that no link to a file of another machine is possible."""
        return False

    async def disconnect(self) -> None:
        """End the agents, and the connections that no other user has."""
        await asyncio.gather(self._bulk.close(), super().disconnect())

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the router's log; at most 1 MiB."""
        return await _tail(self._seat, self._limits, log_path(self._log, self._label), lines)


class SshConfigHost(_User):
    """A folder of another machine with configuration files. Implements `ConfigHost`."""

    def __init__(
        self, ecc: EccHostSettings, target: Target, limits: CallLimits, stations: Stations = STATIONS
    ) -> None:
        self._folder = ecc.xcfg
        self._log = ecc.log
        super().__init__(target, limits, stations)

    async def read(self, name: str) -> bytes:
        """Return one file of the folder, at most 16 MiB; raises `HostFault` where it is not there."""
        asked = b"%d" % CONFIG_LIMIT, bytes_of(self._folder), config_name(name)
        limit_s = self._limits.read_s
        return _only(await self._seat.read.call("read", asked, limit_s, limit_s), self._target)

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the ECC server's log; at most 1 MiB."""
        return await _tail(self._seat, self._limits, log_path(self._log, "the ECC server"), lines)


def _only(fields: Sequence[bytes], target: Target) -> bytes:
    if len(fields) != 1:
        raise HostFault(f"the agent on {target} gave an invalid answer")
    return fields[0]


async def _tail(seat: Seat, limits: CallLimits, path: bytes, lines: int) -> bytes:
    asked = b"%d" % TAIL_LIMIT, *os.path.split(path)
    fields = await seat.read.call("tail", asked, limits.read_s, limits.read_s)
    return last_lines(b"".join(fields), lines)


def _groups(fields: Sequence[bytes], size: int) -> list[tuple[bytes, ...]]:
    if len(fields) % size:
        raise ValueError(f"{len(fields)} fields are not in groups of {size}")
    return [tuple(fields[at : at + size]) for at in range(0, len(fields), size)]


def _moved(file: FileEntry, word: bytes, path: bytes, detail: bytes) -> Moved:
    match word:
        case b"moved":
            text = moved(outside.count(detail), file.size)
            return Moved(file.name, MoveOutcome.MOVED, text, text_of(path))
        case b"vanished":
            return Moved(file.name, MoveOutcome.VANISHED, vanished(path))
        case b"grown":
            return Moved(file.name, MoveOutcome.GROWN, grown(outside.count(detail), file.size))
        case b"exists":
            return Moved(file.name, MoveOutcome.EXISTS, words(FaultKind.EXISTS, path))
        case _:
            return Moved(file.name, MoveOutcome.FAILED, words(fault_kind_named(word), path, text_of(detail)))
