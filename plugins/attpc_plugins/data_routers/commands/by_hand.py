"""Carries out `files close` and `files drop`, in the IOC or, while none runs, in the command."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pydantic import TypeAdapter

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.closing.beside import BY_SENTRY
from attpc_plugins.data_routers.closing.closer import LOCK_LIMIT_S, RouterCloser
from attpc_plugins.data_routers.closing.closings import BUSY_S, Closing, ClosingBusy, ClosingStore, Phase
from attpc_plugins.data_routers.closing.late import close_late, late_of, without_late
from attpc_plugins.data_routers.closing.states import UNFINISHED
from attpc_plugins.data_routers.closing.steps import names_text
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.closing.whose import own_files
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost
from attpc_plugins.data_routers.model import CloseState, FileEntry
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings

GOES_ON = "; the IOC goes on trying"

Say = Callable[[str, bool], None]
"""Prints a line at the shell; True if it reports a fault."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command asks for: the run, the routers' labels, and the options; `drop`: to give up.

    `named`: the routers were chosen by name, else all are meant that took part in the run.
    """

    run: RunRef
    routers: tuple[str, ...]
    named: bool = False
    drop: bool = False
    only: tuple[str, ...] = ()
    take_all: bool = False
    without_missing: bool = False
    force: bool = False


WISHES = TypeAdapter(Wishes)


class CannotClose(AttpcError):
    """The command cannot be carried out, for the reason in the text."""


async def carry_out(
    wishes: Wishes,
    settings: DataRoutersSettings,
    hosts: Mapping[str, FileHost | SentryHost],
    store: ClosingStore,
    summaries: Mapping[str, Summary],
    say: Say,
    other_run: Callable[[RunRef], bool] = lambda _run: False,
) -> bool:
    """Carry out the command on all routers concurrently; returns whether all succeeded.

    `summaries` count frames, by router. `other_run(run)` returns whether another run is starting or on.
    """
    run = wishes.run
    part = {router.label for router in settings.router if store.find(run, router.label) is not None}

    async def work(router: RouterSettings) -> bool:
        try:
            if wishes.drop:
                return await _drop(store, router, run, say)
            if part and router.label not in part and not wishes.named:
                text = "took no part in it, as far as is known; to close it there too, name it with --router"
                say(f"{router.label}: {run}: {text}", False)
                return True
            host, summary = hosts[router.label], summaries[router.label]
            return await _close(settings, store, router, host, summary, wishes, say, other_run)
        except AttpcError as error:
            say(f"{router.label}: {error}", True)
            return False

    routers = [router for router in settings.router if router.label in wishes.routers]
    return all(await asyncio.gather(*(work(router) for router in routers)))


async def _drop(store: ClosingStore, router: RouterSettings, run: RunRef, say: Say) -> bool:
    async with store.locked(router.label, LOCK_LIMIT_S):
        closing = store.find(run, router.label)
        if closing is None or closing.phase is not Phase.CLOSING:
            say(f"{router.label}: {run}: nothing to give up", False)
            return closing is not None
        given_up = replace(closing, phase=Phase.DROPPED)
        await store.save(
            given_up.in_state(CloseState.INCOMPLETE, f"given up at the shell; {closing.message}")
        )
        say(f"{router.label}: {run}: given up; all files stay where they are", False)
        return True


async def _close(
    settings: DataRoutersSettings,
    store: ClosingStore,
    router: RouterSettings,
    host: FileHost | SentryHost,
    summary: Summary,
    wishes: Wishes,
    say: Say,
    other_run: Callable[[RunRef], bool],
) -> bool:
    run = wishes.run
    async with store.locked(router.label, LOCK_LIMIT_S):
        found = store.find(run, router.label)
        if found is not None and found.phase is Phase.DONE:
            found = await _with_late(settings, store, router, host, summary, found)
            say(f"{router.label}: {found.state.label}: {found.message}", found.late_pending)
            await _refuse_more(store, router, host, run, wishes)
            return not found.late_pending
        closing = await _prepared(store, router, host, run, found, wishes)
        await store.save(closing)
    shown = ""

    def show(closings: Sequence[Closing]) -> None:
        nonlocal shown
        text = next((f"{e.state.label}: {e.message}" for e in closings if e.run == run), "")
        if text and text != shown:
            say(f"{router.label}: {text}", False)
            shown = text

    worker = RouterCloser(router, host, store, settings, summary=summary, on_change=show, other_run=other_run)
    said_busy = False
    while True:
        try:
            result = await worker.round()
        except ClosingBusy as error:
            if not said_busy:
                say(f"{router.label}: {error}; waiting for it", False)
            said_busy = True
            await asyncio.sleep(BUSY_S)
            continue
        show(result.closings)
        now = next((e for e in result.closings if e.run == run), None)
        if now is None or not now.open:
            return now is not None and now.phase is Phase.DONE
        if not isinstance(host, FileHost) and other_run(run):
            goes_on = "; the IOC asks it once that run is over" if settings.closing.enabled else ""
            say(f"{router.label}: not closed: another run is on, and {BY_SENTRY}{goes_on}", True)
            return False
        # While this waits, the stored state may be from an older round of the IOC.
        if now.state in UNFINISHED and now.token not in worker.waiting:
            say(f"{router.label}: not closed{GOES_ON if settings.closing.enabled else ''}", True)
            return False
        await asyncio.sleep(result.next_s or BUSY_S)


async def _with_late(
    settings: DataRoutersSettings,
    store: ClosingStore,
    router: RouterSettings,
    host: FileHost | SentryHost,
    summary: Summary,
    closing: Closing,
) -> Closing:
    """Move late data of a closed run beside its files, without waiting; return the closing."""
    if not isinstance(host, FileHost) or not closing.streams:
        return closing
    tails = late_of(store.of(router.label), await host.list_staging()).get(closing.token, ())
    if tails or closing.late_pending:
        checksums, staging = settings.closing.checksums, router.staging or ""
        closing = await close_late(
            host, closing, tails, staging, keep=store.save, checksums=checksums, summary=summary
        )
        await store.save(closing)
    return closing


async def _refuse_more(
    store: ClosingStore, router: RouterSettings, host: FileHost | SentryHost, run: RunRef, wishes: Wishes
) -> None:
    """Raise `CannotClose` if the command asks for more files of a run that is closed already."""
    if not isinstance(host, FileHost) or not (wishes.only or wishes.take_all):
        return
    listing = without_late(store.of(router.label), await host.list_staging())
    wanted = [file.name for file in listing if wishes.take_all or _matches(file.name, wishes.only)]
    if wanted:
        raise CannotClose(
            f"{run} is closed and takes no more files; still in {router.staging}: {names_text(wanted)}. "
            "Close the run that they belong to: "
            "`attpc-ioc files close RUN --experiment NAME --only 'PATTERN'`. "
            "Never move a file onto another of its name, which would replace it: `mv -n` does not"
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


async def _prepared(
    store: ClosingStore,
    router: RouterSettings,
    host: FileHost | SentryHost,
    run: RunRef,
    found: Closing | None,
    wishes: Wishes,
) -> Closing:
    """Return the closing to work on, changed as the options ask."""
    others = [e for e in store.of(router.label) if e.run != run]
    on = [e for e in others if e.phase is Phase.RUNNING]
    if found is not None and found.phase is Phase.RUNNING and not wishes.force:
        raise CannotClose(f"{run} is on, as far as is known: stop it, or use --force if it has ended")
    closing = found or Closing(
        run=run,
        router=router.label,
        sources=router.sources,
        phase=Phase.CLOSING,
        began_s=time.time(),
        settled=True,
        before={},
    )
    closing = replace(closing, phase=Phase.CLOSING).in_state(CloseState.WAITING, "begun at the shell")
    if not isinstance(host, FileHost):
        if wishes.only or wishes.take_all or wishes.without_missing:
            raise CannotClose("a sentry moves all files: none can be chosen")
        if on:
            raise CannotClose(f"{on[0].run} is on, and {BY_SENTRY}")
        return closing
    if not (wishes.only or wishes.take_all or wishes.without_missing or (found is None and on)):
        return closing
    listing = without_late(others, await host.list_staging())
    if on and not wishes.only and (found is None or wishes.take_all):
        if on[0].before is None:
            raise CannotClose(f"{on[0].run} is on: name the files with --only")
        # A run is on: only files from before it can belong to another run.
        return _chosen(closing, [file for file in listing if file.name in on[0].before])
    if wishes.only:
        matching = [file for file in listing if _matches(file.name, wishes.only)]
        if not matching:
            raise CannotClose(f"no file in the staging folder is called {' or '.join(wishes.only)}")
        closing = _chosen(closing, matching)
    elif wishes.take_all:
        closing = _all_of(closing, others, listing)
    if wishes.without_missing:
        there = {file.name for file in listing}
        closing = replace(closing, accepted=frozenset(closing.chosen.keys() - there))
    return closing


def _all_of(closing: Closing, others: Sequence[Closing], listing: Sequence[FileEntry]) -> Closing:
    """Return the closing with all files but those known to belong to another unfinished run."""
    # The chosen files of mixed runs may be of either: only the files in the staging folder count now.
    known = {} if closing.mixed else closing.chosen
    closing = replace(
        closing,
        before={},
        mixed="",
        frozen=False,
        streams=frozenset(),
        beside_s=None,
        settled=True,
        chosen=known,
    )
    unfinished = [other for other in others if other.open]
    present = {file.name: file.size for file in own_files(closing, unfinished, listing)}
    return replace(closing, chosen=known | present)


def _chosen(closing: Closing, files: Sequence[FileEntry]) -> Closing:
    sizes = {file.name: file.size for file in files}
    return replace(
        closing, chosen=sizes, frozen=True, streams=frozenset(), settled=True, mixed="", beside_s=None
    )
