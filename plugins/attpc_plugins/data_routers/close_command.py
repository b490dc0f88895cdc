"""`attpc-ioc files close` and `files drop`: closing by hand, over the same journal as the IOC's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import typer

from attpc_ioc.errors import AttpcError

from .closing import names_text, own_files
from .closing_journal import ClosingBusy, Entry, Journal, Phase
from .closing_work import LOCK_LIMIT_S, TROUBLED, RouterWork
from .command_base import Setup, run_of, setup_of, with_hosts
from .hosts.host import FileHost, SentryHost
from .model import CloseState, FileEntry, RunKey
from .settings import RouterSettings

BUSY_S = 0.5
GOES_ON = "; the IOC goes on trying"


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of `files close`."""

    only: tuple[str, ...] = ()
    take_all: bool = False
    without_missing: bool = False
    force: bool = False


class CannotClose(AttpcError):
    """What was asked for cannot be done; the text says why."""


def close_command(file: Path, number: int, experiment: str, labels: tuple[str, ...], wishes: Wishes) -> None:
    """Close a run's files on the hosts; ends with exit code 1 where not all are done."""
    setup = setup_of(file)
    run = run_of(setup, number, experiment)

    async def work(router: RouterSettings, host: FileHost | SentryHost) -> bool:
        try:
            return await _close(setup, router, host, run, wishes)
        except AttpcError as error:
            typer.echo(f"{router.label}: {error}", err=True)
            return False

    if not all(with_hosts(setup, setup.routers(labels), work)):
        raise typer.Exit(1)


def drop_command(file: Path, number: int, experiment: str, labels: tuple[str, ...]) -> None:
    """Give up the closing of a run; ends with exit code 1 where there is none."""
    setup = setup_of(file)
    run = run_of(setup, number, experiment)
    journal = setup.journal()

    async def drop(router: RouterSettings) -> bool:
        async with journal.locked(router.label, LOCK_LIMIT_S):
            entry = journal.find(run, router.label)
            if entry is None or entry.phase is not Phase.CLOSING:
                typer.echo(f"{router.label}: {run}: nothing to give up")
                return entry is not None
            given_up = replace(entry, phase=Phase.DROPPED)
            journal.save(given_up.said(CloseState.INCOMPLETE, f"given up at the shell; {entry.message}"))
            typer.echo(f"{router.label}: {run}: given up; all files stay where they are")
            return True

    async def drop_all() -> list[bool]:
        return [await drop(router) for router in setup.routers(labels)]

    if not all(asyncio.run(drop_all())):
        raise typer.Exit(1)


async def _close(
    setup: Setup, router: RouterSettings, host: FileHost | SentryHost, run: RunKey, wishes: Wishes
) -> bool:
    journal = setup.journal()
    async with journal.locked(router.label, LOCK_LIMIT_S):
        found = journal.find(run, router.label)
        if found is not None and found.phase is Phase.DONE:
            typer.echo(f"{router.label}: Done: {found.message}")
            await _refuse_more(router, host, run, wishes)
            return True
        entry = await _prepared(journal, router, host, run, found, wishes)
        journal.save(entry)
    shown = ""

    def show(entries: Sequence[Entry]) -> None:
        nonlocal shown
        text = next((f"{e.state.label}: {e.message}" for e in entries if e.run == run), "")
        if text and text != shown:
            typer.echo(f"{router.label}: {text}")
            shown = text

    worker = RouterWork(router, host, journal, setup.settings, on_change=show)
    said_busy = False
    while True:
        try:
            result = await worker.round()
        except ClosingBusy as error:
            if not said_busy:
                typer.echo(f"{router.label}: {error}; waiting for it")
            said_busy = True
            await asyncio.sleep(BUSY_S)
            continue
        show(result.entries)
        now = next((e for e in result.entries if e.run == run), None)
        if now is None or not now.open:
            return now is not None and now.phase is Phase.DONE
        # What the IOC has said while this command waits is about its own rounds, and older.
        if now.state in TROUBLED and now.token not in worker.waiting:
            goes_on = GOES_ON if setup.settings.closing.enabled else ""
            typer.echo(f"{router.label}: not closed{goes_on}", err=True)
            return False
        await asyncio.sleep(result.next_s or BUSY_S)


async def _refuse_more(
    router: RouterSettings, host: FileHost | SentryHost, run: RunKey, wishes: Wishes
) -> None:
    """Raise `CannotClose` where more files were asked for than a run that is closed has."""
    if not isinstance(host, FileHost) or not (wishes.only or wishes.take_all):
        return
    listing = await host.list_staging()
    wanted = [file.name for file in listing if wishes.take_all or _matches(file.name, wishes.only)]
    if wanted:
        raise CannotClose(
            f"{run} is closed and takes no more files; still in {router.staging}: {names_text(wanted)}. "
            "Move them by hand to where they belong, or close the run that they are of: "
            "`attpc-ioc files close RUN --experiment NAME --only 'PATTERN'`"
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


async def _prepared(
    journal: Journal,
    router: RouterSettings,
    host: FileHost | SentryHost,
    run: RunKey,
    found: Entry | None,
    wishes: Wishes,
) -> Entry:
    """Return the entry to work with, as the options change it."""
    others = [e for e in journal.entries(router.label) if e.run != run]
    on = [e for e in others if e.phase is Phase.RUNNING]
    if found is not None and found.phase is Phase.RUNNING and not wishes.force:
        raise CannotClose(f"{run} is on by the record: stop it, or say --force that it is over")
    entry = found or Entry(
        run=run,
        router=router.label,
        sources=router.sources,
        phase=Phase.CLOSING,
        began_s=time.time(),
        settled=True,
        before=frozenset(),
    )
    entry = replace(entry, phase=Phase.CLOSING).said(CloseState.WAITING, "begun at the shell")
    if not isinstance(host, FileHost):
        if wishes.only or wishes.take_all or wishes.without_missing:
            raise CannotClose("a sentry moves all that is there: no choice can be made")
        if on:
            raise CannotClose(f"{on[0].run} is on, and a sentry cannot tell the files of two runs apart")
        return entry
    if not (wishes.only or wishes.take_all or wishes.without_missing or (found is None and on)):
        return entry
    listing = await host.list_staging()
    if on and not wishes.only and (found is None or wishes.take_all):
        if on[0].before is None:
            raise CannotClose(f"{on[0].run} is on: name the files with --only")
        # A run is on: only what lay there before it can be of another one.
        return _chosen(entry, [file for file in listing if file.name in on[0].before])
    if wishes.only:
        matching = [file for file in listing if _matches(file.name, wishes.only)]
        if not matching:
            raise CannotClose(f"no file in the staging folder is called {' or '.join(wishes.only)}")
        entry = _chosen(entry, matching)
    elif wishes.take_all:
        entry = _all_of(entry, others, listing)
    if wishes.without_missing:
        there = {file.name for file in listing}
        entry = replace(entry, accepted=frozenset(entry.chosen.keys() - there))
    return entry


def _all_of(entry: Entry, others: Sequence[Entry], listing: Sequence[FileEntry]) -> Entry:
    """Return the entry of a run that gets all but what an unfinished run is known to have."""
    # Of mixed runs it was remembered what may be of either: now it is what lies there.
    known = {} if entry.mixed else entry.chosen
    entry = replace(entry, before=frozenset(), mixed="", frozen=False, settled=True, chosen=known)
    unfinished = [other for other in others if other.open]
    present = {file.name: file.size for file in own_files(entry, unfinished, listing)}
    return replace(entry, chosen=known | present)


def _chosen(entry: Entry, files: Sequence[FileEntry]) -> Entry:
    sizes = {file.name: file.size for file in files}
    return replace(entry, chosen=sizes, frozen=True, settled=True, mixed="")
