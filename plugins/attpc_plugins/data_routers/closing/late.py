"""Late data of closed runs: what a router writes after its files were moved goes beside them.

A router opens its file by name for every frame, so late data are files in the staging folder, with the names
of a closed run's streams. A step that was interrupted at any point ends the same when it is repeated: what is
moved is kept in the closing until the manifest has it.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from attpc_plugins.data_routers.hosts.host import FileHost, HostError, HostFault
from attpc_plugins.data_routers.hosts.names import stream_of, streams_in
from attpc_plugins.data_routers.model import CloseState, FileEntry, MoveOutcome
from attpc_plugins.data_routers.settings import ClosingSettings, RouterSettings
from attpc_plugins.data_routers.watch.flow import Count

from . import manifest
from .closings import Closing, Phase
from .manifest import Manifest, ManifestError
from .steps import RETRY_FIRST_S, RETRY_LAST_S, Keep, Quiet, amount, done, names_text
from .summary import Summary

NOT_IN_MANIFEST = "late data of this run are beside their files, and not in its manifest yet"


class NoRecord(HostFault):
    """The run's folder does not have the manifest that its closing has written."""


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


def with_streams(closing: Closing) -> Closing:
    """Return a closed run with its streams, where an earlier version has kept it without them."""
    if closing.phase is not Phase.DONE or closing.streams or not closing.manifest:
        return closing
    try:
        record = manifest.load(closing.manifest.encode("utf-8"), closing.location)
    except ManifestError:
        return closing
    return replace(closing, streams=streams_in((*(file.name for file in record.files), *record.missing)))


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
    summary: Summary,
) -> Closing:
    """Move late data of a closed run, `present` in the staging folder, beside its files; return the closing.

    The manifest gets them. What has grown since it was listed stays in `late` for the next attempt. Raises
    `HostError`; repeat the call to continue from there.
    """
    record = await _record(host, closing, staging)
    closing = replace(closing, late=closing.late | {file.name: file.size for file in present})
    await keep(closing)
    moved = await host.move(closing.run, present, closed=True) if present else ()
    known = {file.name for file in record.files}
    there = await host.gathered(closing.run, closed=True, checksums=checksums, known=known)
    new = tuple(file for file in there if file.name not in known and stream_of(file.name) in closing.streams)
    if new:
        files = tuple(sorted((*record.files, *new), key=lambda file: file.name))
        streams = await summary.with_late(closing, record, files)
        record = replace(record, files=files, streams=streams, checked_s=None, differs=())
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
        CloseState.INCOMPLETE, f"{after.message}; {_left_text(names, staging)}: {bad[0].text or 'not moved'}"
    )


def _left_text(names: str, staging: str) -> str:
    return f"late data of this run are still in {staging} ({names})"


def _settled_text(closing: Closing) -> str:
    return f"{amount(closing.files, closing.data_bytes)} in {closing.location}"


async def _record(host: FileHost, closing: Closing, staging: str) -> Manifest:
    """Return the manifest that this closing has written; raises `NoRecord` where it is not there."""
    where = f"{staging}/{closing.run}/{manifest.FILE_NAME}"
    raw = await host.manifest(closing.run)
    if raw is None:
        raise NoRecord(f"there is no {where}, beside which they belong")
    try:
        found = await asyncio.to_thread(manifest.load, raw, where)
    except ManifestError as error:
        raise NoRecord(str(error)) from error
    if (found.closing, found.run, found.router) != (closing.token, closing.run, closing.router):
        raise NoRecord(f"{where} is of another closing")
    return found


class LateMover:
    """Moves late data of one router's closed runs once they have not grown for the quiet time.

    `there`: late data in the staging folder when it was last listed. `next_s`: seconds until the next round;
    None if none is due.
    """

    def __init__(
        self, router: RouterSettings, settings: ClosingSettings, period_s: float, keep: Keep, summary: Summary
    ) -> None:
        self._staging = router.staging or ""
        self._settings = settings
        self._period_s = period_s
        self._keep = keep
        self._summary = summary
        self._quiet: dict[str, Quiet] = {}
        self._retry_s = RETRY_FIRST_S
        self.there = Count()
        self.next_s: float | None = None

    def due(self, closings: Sequence[Closing], has_files: Callable[[], bool]) -> bool:
        """Return whether the staging folder is to be listed for late data alone."""
        pending = any(closing.late_pending for closing in closings)
        if self._settings.enabled and (
            pending or (any(closing.streams for closing in closings) and has_files())
        ):
            return True
        self.there, self.next_s = Count(), None
        return False

    def take(self, tails: Mapping[str, Sequence[FileEntry]]) -> None:
        """Note what is left after a round."""
        files = [file for found in tails.values() for file in found] if self.next_s is not None else []
        self.there = Count(len(files), sum(file.size for file in files))

    async def round(
        self, host: FileHost, closings: Sequence[Closing], tails: Mapping[str, Sequence[FileEntry]]
    ) -> tuple[Closing, ...]:
        """Do the steps that are possible now for `tails`, see `late_of`; return the closings."""
        self.next_s = None
        if not self._settings.enabled:
            return tuple(closings)
        after = []
        for closing in closings:
            if closing.late_pending or (closing.phase is Phase.DONE and closing.token in tails):
                closing = await self._advance(host, closing, tails.get(closing.token, ()))
            after.append(closing)
        return tuple(after)

    async def _advance(self, host: FileHost, closing: Closing, tails: Sequence[FileEntry]) -> Closing:
        quiet = self._quiet.setdefault(closing.token, Quiet())
        sizes = {file.name: file.size for file in tails}
        if quiet.see(sizes, time.monotonic()) < self._settings.quiet_s:
            self.next_s = self._period_s
            return closing
        kept = closing

        async def keep(closing: Closing) -> None:
            nonlocal kept
            kept = closing
            await self._keep(closing)

        try:
            after = await close_late(
                host,
                closing,
                tails,
                self._staging,
                keep=keep,
                checksums=self._settings.checksums,
                summary=self._summary,
            )
        except HostFault as error:
            message = _settled_text(closing)
            if isinstance(error, NoRecord) and not tails:
                # Somebody has taken them away, and the run's folder too.
                after = replace(closing, late={}).in_state(CloseState.DONE, message)
            else:
                self._back_off()
                what = _left_text(names_text(sizes), self._staging) if tails else NOT_IN_MANIFEST
                after = kept.in_state(CloseState.INCOMPLETE, f"{message}; {what}: {error}")
        except HostError:
            self._back_off()
            return closing
        if after.late:
            self._back_off()
        elif after.state is CloseState.DONE:
            self._retry_s = RETRY_FIRST_S
            self._quiet.pop(closing.token, None)
        if after != closing:
            await self._keep(after)
        return after

    def _back_off(self) -> None:
        self.next_s, self._retry_s = self._retry_s, min(RETRY_LAST_S, 2 * self._retry_s)
