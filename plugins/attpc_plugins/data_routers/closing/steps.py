"""The steps that move the files of one run on one host to the run's folder.

Nothing here waits or reads a clock. A closing that was interrupted at any point ends the same when it is
repeated: the host finds the closing folder again, and a finished one by the token in its manifest.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from attpc_ioc.model import outside
from attpc_plugins.data_routers.hosts.host import (
    FileHost,
    HostError,
    HostFault,
    HostTimeout,
    HostUnreachable,
    RunFolderExists,
)
from attpc_plugins.data_routers.hosts.names import is_late, stream_of, streams_in
from attpc_plugins.data_routers.model import CloseState, FileEntry, Moved, MoveOutcome, closing_folder

from . import manifest
from .closings import Closing, Phase
from .figures import counted
from .manifest import Manifest, ManifestError
from .summary import Summary

RETRY_FIRST_S = 1.0
RETRY_LAST_S = 30.0
"""Times between two attempts."""

NAMES_SHOWN = 5
"""A message has at most this many file names; it counts the others."""

UNKNOWN_BEFORE = (
    "the files in the staging folder before the run are not known: all files there were taken as the run's"
)

NOTE_SHOWN = 500
"""A message has at most this many characters of a manifest's note."""

NO_FILE = "no file was written"

Keep = Callable[[Closing], Awaitable[None]]
"""Writes a closing to disk before its next step."""


class Quiet:
    """Measures for how long no file has grown, appeared or vanished; times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] | None = None
        self._changed_s: dict[str, float] = {}
        self._since_s = 0.0
        self.began_s = 0.0

    def see(self, sizes: Mapping[str, int], now_s: float) -> float:
        """Take a listing and return the seconds since the last change."""
        before = self._sizes
        if before is None:
            self.began_s = self._since_s = now_s
        elif changed := [
            name for name in sizes.keys() | before.keys() if sizes.get(name) != before.get(name)
        ]:
            self._since_s = now_s
            self._changed_s.update(dict.fromkeys(changed, now_s))
        self._sizes = dict(sizes)
        return now_s - self._since_s

    def restless(self, within_s: float, now_s: float) -> tuple[str, ...]:
        """Return the names of the files that changed within the last `within_s` seconds."""
        return tuple(sorted(name for name, at_s in self._changed_s.items() if now_s - at_s < within_s))


def names_text(names: Iterable[str]) -> str:
    """Return names for a message: the first few, odd ones before others, and how many more."""
    ordered = sorted(names, key=lambda name: (_is_plain(name), name))
    shown = ", ".join(name if _is_plain(name) else ascii(name) for name in ordered[:NAMES_SHOWN])
    more = len(ordered) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _is_plain(name: str) -> bool:
    return name.isprintable() and name.isascii() and "," not in name


def amount(files: int, data_bytes: int) -> str:
    """Return the number of files and their size in decimal units, for a message."""
    number = counted(files, "file")
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if data_bytes >= size:
            return f"{number}, {data_bytes / size:.4g} {unit}"
    return f"{number}, {data_bytes} bytes"


def state_of(error: HostError) -> CloseState:
    """Return the state of a closing after a host's error."""
    gone = isinstance(error, (HostUnreachable, HostTimeout))
    return CloseState.UNREACHABLE if gone else CloseState.FAILED


async def close_files(
    host: FileHost,
    closing: Closing,
    present: Sequence[FileEntry],
    staging: str,
    *,
    keep: Keep,
    checksums: bool,
    summary: Summary,
    now_s: float,
) -> Closing:
    """Move a run's files, `present` in the staging folder, to the run's folder; return the new closing.

    `now_s` is the Unix time. The new state is Done, or Incomplete or Failed with the reason. Raises
    `HostError`; repeat the call to continue from there.
    """
    closing = replace(closing, chosen=await _sizes(host, closing, present))
    await keep(closing)
    try:
        await host.begin(closing.run)
    except RunFolderExists:
        if finished := await _finished_before(host, closing, staging):
            return finished
        raise
    except HostFault as error:
        left = _are_in(len(present), closing, staging)
        raise HostFault(f"the folder to move them to cannot be made: {error}; {left}") from error
    # Where names have no time, a file of the same name may be of a later run.
    late = not closing.frozen or all(stream_of(file.name) for file in present)
    moved = await host.move(closing.run, present, late=late) if present else ()
    exists = {file.name for file in moved if file.outcome is MoveOutcome.EXISTS}
    gathered_now = await host.gathered(closing.run, closed=False, checksums=checksums)
    # A file with the name of one that is still in the staging folder is another file.
    there = [file for file in gathered_now if file.name not in exists]
    size_of = {file.name: file.size for file in present}
    late_sizes = {file.kept_as: size_of[file.name] for file in moved if file.kept_as}
    closing = replace(closing, chosen=closing.chosen | late_sizes)
    if fault := _fault(closing, moved, there, staging):
        # With the sizes as they are now, a file that has stopped growing passes when this is repeated.
        sizes = {file.name: file.size for file in there}
        return replace(fault, chosen=fault.chosen | sizes)
    gathered = {file.name for file in there}
    written = Manifest(
        run=closing.run,
        router=closing.router,
        sources=closing.sources,
        files=tuple(there),
        closed_s=now_s,
        began_s=closing.began_s or None,
        started_s=closing.started_s,
        stopped_s=closing.stopped_s,
        missing=tuple(sorted(closing.chosen.keys() - gathered)),
        note="" if closing.before is not None else UNKNOWN_BEFORE,
        closing=closing.token,
        streams=await summary.of(closing, there),
        sync=closing.sync,
        remarks=closing.remarks,
        idle=closing.idle,
    )
    try:
        await host.finish(closing.run, manifest.dump(written))
    except RunFolderExists:
        if finished := await _finished_before(host, closing, staging):
            return finished
        raise
    except HostFault as error:
        raise HostFault(f"{error}; {_so_far(closing, there, _place(closing, staging))}") from error
    return done(closing, written, staging)


async def _sizes(host: FileHost, closing: Closing, present: Sequence[FileEntry]) -> dict[str, int]:
    """Return the sizes that the run's files should have once they are gathered.

    A file that is gathered has its size there: another of its name in the staging folder is late data.
    """
    gathered: dict[str, int] = {}
    if present:
        with contextlib.suppress(HostFault):  # there is no closing folder yet
            found = await host.gathered(closing.run, closed=False, checksums=False)
            gathered = {file.name: file.size for file in found}
    return closing.chosen | {file.name: gathered.get(file.name, file.size) for file in present}


def done(closing: Closing, written: Manifest, staging: str) -> Closing:
    """Return a closing as done, with what its manifest says."""
    folder = f"{staging}/{closing.run}"
    names = (*(file.name for file in written.files), *written.missing)
    if written.files:
        text = f"{amount(len(written.files), written.data_bytes)} in {folder}"
    else:
        what = "none of its files is left" if written.missing else NO_FILE
        text = f"{what}; {folder} has only the manifest"
    if late := [file.name for file in written.files if is_late(file.name)]:
        text += f"; late data are beside their files: {names_text(late)}"
    if written.missing:
        text += f"; without {names_text(written.missing)}"
    if written.note:
        text += f"; {outside.text(written.note, NOTE_SHOWN)}"
    return replace(
        closing,
        phase=Phase.DONE,
        chosen={},
        before={},
        streams=streams_in(names),
        late={},
        seen={},
        frames=written.streams,
        checked_s=written.checked_s,
        differs=written.differs,
        files=len(written.files),
        data_bytes=written.data_bytes,
        location=folder,
        manifest=manifest.dump(written).decode("utf-8"),
    ).in_state(CloseState.DONE, text)


async def _finished_before(host: FileHost, closing: Closing, staging: str) -> Closing | None:
    """Return the closing as done if this same closing made the run's folder."""
    raw = await host.manifest(closing.run)
    if raw is None:
        return None
    try:
        where = f"{staging}/{closing.run}/{manifest.FILE_NAME}"
        found = await asyncio.to_thread(manifest.load, raw, where)
    except ManifestError:
        return None
    ours = (found.closing, found.run, found.router) == (closing.token, closing.run, closing.router)
    return done(closing, found, staging) if ours else None


def _place(closing: Closing, staging: str) -> str:
    """Return the folder in which the files of a run are while it is being closed."""
    return f"{staging}/{closing.run.experiment}/{closing_folder(closing.run)}"


def _so_far(closing: Closing, there: Sequence[FileEntry], folder: str) -> str:
    return _are_in(len(there), closing, folder)


def _are_in(count: int, closing: Closing, folder: str) -> str:
    verb = "is" if count == 1 else "are"
    return f"{count} of {counted(len(closing.chosen), 'file')} {verb} in {folder}"


def _fault(
    closing: Closing, moved: Sequence[Moved], there: Sequence[FileEntry], staging: str
) -> Closing | None:
    """Return the closing as Incomplete or Failed unless every file is gathered as it was chosen."""
    bad = [file for file in moved if file.outcome is not MoveOutcome.MOVED]
    sizes = {file.name: file.size for file in there}
    known = {file.name for file in bad if file.outcome is not MoveOutcome.VANISHED}
    gone = closing.chosen.keys() - sizes.keys() - known - closing.accepted
    grown = {name for name, size in sizes.items() if closing.chosen.get(name, size) != size} - known
    grown_before = {file.name for file in bad if file.outcome is MoveOutcome.GROWN}
    parts: list[str] = []
    if grown_before:
        parts.append(f"grew again, still in the staging folder: {names_text(grown_before)}")
    if grown:
        parts.append(f"grew while it was moved: {names_text(grown)}")
    if gone:
        parts.append(
            f"gone from the staging folder: {names_text(gone)} (to close without them: "
            f"`attpc-ioc files close {closing.run.number} --without-missing`)"
        )
    if exists := {file.name for file in bad if file.outcome is MoveOutcome.EXISTS}:
        parts.append(
            "another file of this name is in the closing folder, both are where they were, and neither may "
            f"replace the other: {names_text(exists)}"
        )
    failed = [file for file in bad if file.outcome is MoveOutcome.FAILED]
    if failed:
        parts.append(f"not moved: {names_text(file.name for file in failed)} ({failed[0].text})")
    if not parts:
        return None
    folder = _place(closing, staging)
    parts.append(_so_far(closing, there, folder))
    state = CloseState.FAILED if failed and not there else CloseState.INCOMPLETE
    return replace(closing, files=len(there), data_bytes=sum(sizes.values()), location=folder).in_state(
        state, "; ".join(parts)
    )
