"""How the files of one run on one host come to their place, as steps over the host's protocol.

Nothing here waits or knows of time but what it is given. A closing that was interrupted anywhere and is
repeated ends the same: the host finds its earlier folder again, and a finished one by the token in its
manifest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attpc_ioc.model import outside
from attpc_plugins.data_routers.hosts.host import (
    FileHost,
    HostError,
    HostFault,
    HostTimeout,
    HostUnreachable,
    RunFolderExists,
)
from attpc_plugins.data_routers.model import CloseState, FileEntry, Moved, MoveOutcome

from . import manifest
from .entries import Entry, Phase
from .manifest import Manifest, ManifestError

NAMES_SHOWN = 5
"""Names of files that a message has before it only counts the others."""

UNKNOWN_BEFORE = (
    "what lay in the staging folder before the run is not known: all files there were taken as the run's"
)

NOTE_SHOWN = 500
"""Letters of a manifest's note that a message has."""

NO_FILE = "no file was written"

Keep = Callable[[Entry], Awaitable[None]]
"""Has an entry on disk before the closing goes on."""


class Quiet:
    """Tells for how long no file has grown, appeared or vanished; times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] | None = None
        self._changed_s: dict[str, float] = {}
        self._since_s = 0.0
        self.began_s = 0.0

    def see(self, sizes: Mapping[str, int], now_s: float) -> float:
        """Take a listing and return for how long, in seconds, there was no change."""
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
    """Return names for a message: the first few, and how many more."""
    ordered = sorted(names)
    shown = ", ".join(
        name if name.isprintable() and name.isascii() and "," not in name else repr(name)
        for name in ordered[:NAMES_SHOWN]
    )
    more = len(ordered) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def amount(files: int, data_bytes: int) -> str:
    """Return how much there is, for a message, in decimal units."""
    number = f"{files} file{'' if files == 1 else 's'}"
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if data_bytes >= size:
            return f"{number}, {data_bytes / size:.4g} {unit}"
    return f"{number}, {data_bytes} bytes"


# ---------------------------------------------------------------------------- whose files are whose


def own_files(entry: Entry, entries: Sequence[Entry], listing: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
    """Return the files of a listing that belong to an entry's run.

    Those that lay there before the run began are not, nor those of an earlier run that is not closed yet or
    was given up. Once a later run has begun, only those are that were there then.
    """
    if entry.frozen:
        return tuple(file for file in listing if file.name in entry.chosen)
    foreign = set(entry.before or ())
    for other in entries:
        if other.token != entry.token and ((other.open and other.frozen) or other.phase is Phase.DROPPED):
            foreign |= other.chosen.keys()
    return tuple(file for file in listing if file.name in entry.chosen or file.name not in foreign)


def settle(entries: Sequence[Entry], listing: Sequence[FileEntry], *, early: bool) -> tuple[Entry, ...]:
    """Decide, from the first listing after a run began, which files lay there before it; return all entries.

    `entries` are one router's, the oldest first. `early`: no member of the newest run can have written yet.
    Then, or where there is no file at all, everything there belongs to earlier runs, or to nobody. Otherwise
    nobody can tell them apart where an earlier run has not been closed: both then are `mixed`, and so is
    every later run that is listed late while one that is mixed has not been closed.
    """
    new = [entry for entry in entries if entry.unsettled]
    if not new:
        return tuple(entries)
    last = new[-1]
    waiting = [
        entry
        for entry in entries
        if entry.open and entry.token != last.token and not (entry.frozen or entry.mixed)
    ]
    mixed = [entry for entry in entries if entry.open and entry.mixed]
    names = frozenset(file.name for file in listing)
    done: dict[str, Entry] = {}
    told_apart = len(waiting) <= 1 and not (mixed and any(entry.unsettled for entry in waiting))
    if not names or (early and told_apart):
        done[last.token] = replace(last, settled=True, before=names)
        for entry in waiting:
            chosen = entry.chosen | {file.name: file.size for file in own_files(entry, entries, listing)}
            done[entry.token] = replace(entry, settled=True, chosen=chosen, frozen=True)
    elif not waiting and not mixed:
        done[last.token] = replace(last, settled=True, before=None)
    else:
        together = [
            entry for entry in entries if entry in (*waiting, *mixed) or (entry is last and not early)
        ]
        for entry in together:
            # What is there now may be of each of them; it is remembered for when one is given up.
            there = {file.name: file.size for file in own_files(entry, entries, listing)}
            done[entry.token] = replace(
                entry, settled=True, chosen=entry.chosen | there, mixed=_mixed_text(entry, together)
            )
        if early:
            done[last.token] = replace(last, settled=True, before=names)
    return tuple(done.get(entry.token, entry) for entry in entries)


def _mixed_text(entry: Entry, together: Sequence[Entry]) -> str:
    numbers = ", ".join(str(other.run.number) for other in together)
    return (
        f"files of runs {numbers} may lie together in the staging folder, because the host did not answer "
        "when the later run began; they are not moved by themselves: close each by hand with "
        f"`attpc-ioc files close {entry.run.number} --only 'PATTERN'`"
    )


# ---------------------------------------------------------------------------- moving


def state_of(error: HostError) -> CloseState:
    """Return how a closing stands after a host did not do what it was asked."""
    gone = isinstance(error, (HostUnreachable, HostTimeout))
    return CloseState.UNREACHABLE if gone else CloseState.FAILED


@dataclass(frozen=True, slots=True)
class Place:
    """Where a router's files are, for messages: its staging folder, empty where only its host knows."""

    staging: str

    def folder(self, entry: Entry) -> str:
        """Return the run's folder."""
        return f"{self.staging}/{entry.run}"

    def closing_folder(self, entry: Entry) -> str:
        """Return the folder in which the run's files are gathered."""
        return f"{self.staging}/{entry.run.experiment}/{entry.run.closing_folder}"


async def close_files(
    host: FileHost,
    entry: Entry,
    present: Sequence[FileEntry],
    place: Place,
    *,
    keep: Keep,
    checksums: bool,
    now_s: float,
) -> Entry:
    """Move a run's files, `present` in the staging folder, to their place; returns how that ended.

    `now_s` is the Unix time. The result is Done, or Incomplete or Failed with the reason. Raises `HostError`
    where the host ends it; what was done until then counts when it is repeated.
    """
    chosen = {name: entry.chosen[name] for name in entry.chosen} | {file.name: file.size for file in present}
    entry = replace(entry, chosen=chosen)
    await keep(entry)
    try:
        await host.begin(entry.run)
    except RunFolderExists:
        if finished := await _finished_before(host, entry, place):
            return finished
        raise
    except HostFault as error:
        left = f"{len(present)} of {len(entry.chosen)} files are in {place.staging}"
        raise HostFault(f"the folder that they are to be moved to cannot be made: {error}; {left}") from error
    moved = await host.move(entry.run, present) if present else ()
    exists = {file.name for file in moved if file.outcome is MoveOutcome.EXISTS}
    gathered_now = await host.gathered(entry.run, closed=False, checksums=checksums)
    # What has the name of one of the run's files that is still in the staging folder is not that file.
    there = [file for file in gathered_now if file.name not in exists]
    if trouble := _trouble(entry, moved, there, place):
        # Sizes as they are now: a file that has come to rest is taken as it is when this is repeated.
        sizes = {file.name: file.size for file in there}
        return replace(trouble, chosen=trouble.chosen | sizes)
    gathered = {file.name for file in there}
    record = Manifest(
        run=entry.run,
        router=entry.router,
        sources=entry.sources,
        files=tuple(there),
        closed_s=now_s,
        began_s=entry.began_s or None,
        started_s=entry.started_s,
        stopped_s=entry.stopped_s,
        missing=tuple(sorted(entry.chosen.keys() - gathered)),
        note="" if entry.before is not None else UNKNOWN_BEFORE,
        closing=entry.token,
    )
    try:
        await host.finish(entry.run, manifest.dump(record))
    except RunFolderExists:
        if finished := await _finished_before(host, entry, place):
            return finished
        raise
    return done(entry, record, place)


def done(entry: Entry, record: Manifest, place: Place) -> Entry:
    """Return an entry whose files are all in their place."""
    if record.files:
        text = f"{amount(len(record.files), record.data_bytes)} in {place.folder(entry)}"
    else:
        what = "none of its files was left" if record.missing else NO_FILE
        text = f"{what}; {place.folder(entry)} has the manifest alone"
    if record.missing:
        text += f"; without {names_text(record.missing)}"
    if record.note:
        text += f"; {outside.text(record.note, NOTE_SHOWN)}"
    return replace(
        entry,
        phase=Phase.DONE,
        chosen={},
        before=frozenset(),
        files=len(record.files),
        data_bytes=record.data_bytes,
        location=place.folder(entry),
        manifest=manifest.dump(record).decode("utf-8"),
    ).said(CloseState.DONE, text)


async def _finished_before(host: FileHost, entry: Entry, place: Place) -> Entry | None:
    """Return the entry as done where the run's folder is the work of this very closing."""
    raw = await host.manifest(entry.run)
    if raw is None:
        return None
    try:
        where = f"{place.folder(entry)}/{manifest.FILE_NAME}"
        record = await asyncio.to_thread(manifest.load, raw, where)
    except ManifestError:
        return None
    ours = (record.closing, record.run, record.router) == (entry.token, entry.run, entry.router)
    return done(entry, record, place) if ours else None


def _trouble(entry: Entry, moved: Sequence[Moved], there: Sequence[FileEntry], place: Place) -> Entry | None:
    """Return the entry as Incomplete or Failed where not every file is gathered as it was chosen."""
    bad = [file for file in moved if file.outcome is not MoveOutcome.MOVED]
    sizes = {file.name: file.size for file in there}
    known = {file.name for file in bad if file.outcome is not MoveOutcome.VANISHED}
    gone = entry.chosen.keys() - sizes.keys() - known - entry.accepted
    grown = {name for name, size in sizes.items() if entry.chosen.get(name, size) != size} - known
    grown_before = {file.name for file in bad if file.outcome is MoveOutcome.GROWN}
    parts: list[str] = []
    if grown_before:
        parts.append(f"grew again, still in the staging folder: {names_text(grown_before)}")
    if grown:
        parts.append(f"grew while it was moved: {names_text(grown)}")
    if gone:
        parts.append(
            f"gone from the staging folder: {names_text(gone)} (content without: "
            f"`attpc-ioc files close {entry.run.number} --without-missing`)"
        )
    if exists := {file.name for file in bad if file.outcome is MoveOutcome.EXISTS}:
        parts.append(
            "another file of this name is in the closing folder, both are where they were: "
            f"{names_text(exists)}"
        )
    failed = [file for file in bad if file.outcome is MoveOutcome.FAILED]
    if failed:
        parts.append(f"not moved: {names_text(file.name for file in failed)} ({failed[0].text})")
    if not parts:
        return None
    parts.append(f"{len(there)} of {len(entry.chosen)} files are in {place.closing_folder(entry)}")
    state = CloseState.FAILED if failed and not there else CloseState.INCOMPLETE
    return replace(
        entry, files=len(there), data_bytes=sum(sizes.values()), location=place.closing_folder(entry)
    ).said(state, "; ".join(parts))
