"""The result of `files check` goes into manifest and record of a closed run.

Late data may come at any time: both change the manifest while they hold the router's lock, and what a check
has found counts only for the files that it has looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.frames import SAMPLES_OF_ALL
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost, Source
from attpc_plugins.data_routers.hosts.words import bytes_of
from attpc_plugins.data_routers.model import CloseState, FileEntry
from attpc_plugins.data_routers.settings import RouterSettings

from . import manifest
from .closings import BUSY_S, Closing, ClosingBusy, ClosingStore, Phase
from .counting import Follow, count_all
from .manifest import Manifest, StreamFrames
from .steps import done

LOCK_S = 5.0
LIMIT_S = 300.0
"""A result waits at most this long while the router's files are being closed."""


class FilesDiffer(AttpcError):
    """The files that were checked are not those of the manifest."""


class NotOnRecord(AttpcError):
    """There is nothing that could get the result."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found in all frames of a data router's files; `files`: see `digest_of`, `time_s`: when.

    `differs`: how its senders differ from those of other data routers; None if not all were compared.
    """

    router: str
    files: str
    streams: tuple[StreamFrames, ...]
    time_s: float
    differs: tuple[str, ...] | None = None


async def check_files(
    host: Source,
    run: RunRef,
    files: Sequence[FileEntry],
    progress: Callable[[int], None],
    follow: Follow = lambda _sender, _piece, _last: None,
) -> tuple[StreamFrames, ...]:
    """Return what is in the frames of all files, by sender; `progress` is called with the bytes passed.

    Raises `HostError`.
    """
    return await count_all(partial(host.frames, run, samples=SAMPLES_OF_ALL), files, progress, follow)


def digest_of(files: Sequence[FileEntry]) -> str:
    """Return what tells these files, by name and size, from others."""
    lines = sorted(bytes_of(file.name) + b"\0%d\n" % file.size for file in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


async def record_check(
    store: ClosingStore,
    router: RouterSettings,
    host: FileHost | SentryHost,
    run: RunRef,
    found: CheckResult,
    waits: Callable[[ClosingBusy], None] = lambda _busy: None,
) -> None:
    """Put the result of a check into the manifest and the closing of a run.

    Waits while the router's files are being closed, `LIMIT_S` at most; `waits` is called once if it does.
    Raises `ClosingBusy`, `FilesDiffer`, `NotOnRecord`, `ManifestError`, `HostError`, and `StateDirError`
    where the closing cannot be written to disk.
    """
    began_s = time.monotonic()
    said = False
    while True:
        try:
            async with store.locked(router.label, LOCK_S):
                await store.save(await _with(store.find(run, router.label), router, host, run, found))
            return
        except ClosingBusy as busy:
            if time.monotonic() - began_s >= LIMIT_S:
                raise ClosingBusy(f"{busy}, for more than {LIMIT_S:g} s; repeat the command") from None
            if not said:
                said = True
                waits(busy)
            await asyncio.sleep(BUSY_S)


async def _with(
    closing: Closing | None,
    router: RouterSettings,
    host: FileHost | SentryHost,
    run: RunRef,
    found: CheckResult,
) -> Closing:
    """Return the closing with the result, once the manifest has it."""
    if closing is not None and closing.phase is not Phase.DONE:
        raise NotOnRecord("the run is not closed")
    text = ""
    if isinstance(host, FileHost):
        where = f"{router.staging}/{run}/{manifest.FILE_NAME}"
        raw = await host.manifest(run)
        if raw is None:
            raise NotOnRecord(f"there is no {where}")
        record = await asyncio.to_thread(manifest.load, raw, where)
        if digest_of(record.files) != found.files:
            raise FilesDiffer(
                "the files differ from the manifest, see `attpc-ioc files verify`; if late data came "
                "meanwhile, check again"
            )
        differs = _differs(found, record)
        record = replace(record, streams=found.streams, checked_s=found.time_s, differs=differs)
        closing = closing or _closing_of(record, router)
        if closing.token != record.closing:
            raise NotOnRecord(f"{where} is of another closing")
        text = manifest.dump(record).decode("utf-8")
        await host.amend(run, text.encode("utf-8"))
    if closing is None:
        raise NotOnRecord("its closing is no longer on record")
    differs = _differs(found, closing)
    return replace(closing, frames=found.streams, checked_s=found.time_s, differs=differs, manifest=text)


def _differs(found: CheckResult, before: Manifest | Closing) -> tuple[str, ...]:
    """Return how the senders differ from others: as found now, or before if not all were compared now."""
    return before.differs if found.differs is None else found.differs


def _closing_of(record: Manifest, router: RouterSettings) -> Closing:
    """Return the closing that wrote a manifest, where it is no longer on record."""
    if record.remarks is None:
        raise NotOnRecord("its closing is no longer on record")
    closing = Closing(
        run=record.run,
        router=router.label,
        sources=record.sources,
        phase=Phase.DONE,
        token=record.closing,
        began_s=record.began_s or 0.0,
        started_s=record.started_s,
        stopped_s=record.stopped_s,
        settled=True,
        remarks=record.remarks,
        sync=record.sync,
        idle=record.idle,
        state=CloseState.DONE,
    )
    return done(closing, record, router.staging or "")
