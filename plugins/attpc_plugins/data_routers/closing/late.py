"""Late data of closed runs: what a router writes after its files were moved goes beside them.

A router opens its file by name for every frame, so late data are files in the staging folder, with the names
of a closed run's streams. A step that was interrupted at any point ends the same when it is repeated: what is
moved is kept in the closing until the manifest has it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from attpc_plugins.data_routers.hosts.host import FileHost, HostFault
from attpc_plugins.data_routers.hosts.names import stream_of
from attpc_plugins.data_routers.model import CloseState, FileEntry, MoveOutcome

from . import manifest
from .closings import Closing, Phase
from .manifest import Manifest, ManifestError
from .steps import Keep, amount, done, names_text


def late_of(closings: Sequence[Closing], listing: Sequence[FileEntry]) -> Mapping[str, tuple[FileEntry, ...]]:
    """Return the files of a listing that are late data of closed runs, by the tokens of their closings.

    `closings` are one router's, the oldest first. A file that an open closing has chosen is not late data.
    """
    owners = {
        stream: closing.token
        for closing in closings
        if closing.phase is Phase.DONE
        for stream in closing.streams
    }
    chosen = {name for closing in closings if closing.open for name in closing.chosen}
    found: defaultdict[str, tuple[FileEntry, ...]] = defaultdict(tuple)
    for file in listing:
        token = owners.get(stream_of(file.name)) if owners else None
        if token is not None and file.name not in chosen:
            found[token] += (file,)
    return found


def without_late(closings: Sequence[Closing], listing: Sequence[FileEntry]) -> tuple[FileEntry, ...]:
    """Return a listing without the late data of closed runs."""
    late = {file.name for files in late_of(closings, listing).values() for file in files}
    return tuple(file for file in listing if file.name not in late)


async def close_late(
    host: FileHost,
    closing: Closing,
    present: Sequence[FileEntry],
    staging: str,
    *,
    keep: Keep,
    checksums: bool,
) -> Closing:
    """Move late data of a closed run, `present` in the staging folder, beside its files; return the closing.

    The manifest gets them. What has grown since it was listed stays in `late` for the next attempt. Raises
    `HostError`; repeat the call to continue from there.
    """
    record = await _record(host, closing, staging)
    closing = replace(closing, late=closing.late | {file.name: file.size for file in present})
    await keep(closing)
    moved = await host.move(closing.run, present, closed=True) if present else ()
    there = await host.gathered(closing.run, closed=True, checksums=checksums, only_late=True)
    known = {file.name for file in record.files}
    new = tuple(file for file in there if file.name not in known and stream_of(file.name) in closing.streams)
    if new:
        record = replace(record, files=tuple(sorted((*record.files, *new), key=lambda file: file.name)))
        await host.amend(closing.run, manifest.dump(record))
    after = done(closing, record, staging)
    bad = [one for one in moved if one.outcome not in (MoveOutcome.MOVED, MoveOutcome.VANISHED)]
    if not bad:
        return after
    after = replace(after, late={one.name: closing.late[one.name] for one in bad})
    if all(one.outcome is MoveOutcome.GROWN for one in bad):
        return after
    names = names_text(one.name for one in bad)
    return after.in_state(
        CloseState.INCOMPLETE, f"{after.message}; {left_text(names, staging)}: {bad[0].text or 'not moved'}"
    )


def left_text(names: str, staging: str) -> str:
    """Return where late data are that could not be moved."""
    return f"late data of this run are still in {staging} ({names})"


def settled_text(closing: Closing) -> str:
    """Return the message of a closed run whose late data somebody else has taken away."""
    return f"{amount(closing.files, closing.data_bytes)} in {closing.location}"


async def _record(host: FileHost, closing: Closing, staging: str) -> Manifest:
    """Return the manifest that this closing has written; raises `HostFault` where it is not there."""
    where = f"{staging}/{closing.run}/{manifest.FILE_NAME}"
    raw = await host.manifest(closing.run)
    if raw is None:
        raise HostFault(f"there is no {where}, beside which they belong")
    try:
        found = await asyncio.to_thread(manifest.load, raw, where)
    except ManifestError as error:
        raise HostFault(str(error)) from error
    if (found.closing, found.run, found.router) != (closing.token, closing.run, closing.router):
        raise HostFault(f"{where} is of another closing")
    return found
