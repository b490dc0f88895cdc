"""How the files of one run come to their place where an `attpc_sentry` moves them.

A sentry is told the run, waits 30 s, moves all `*.graw` that are there, and answers. It writes no manifest,
shows no names, and cannot tell the files of two runs apart. That its reply was lost is known by what it says
when it is asked again: the run's folder exists, and nothing is left in the staging folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .closing import Keep, amount
from .closing_journal import Entry, Phase
from .hosts.host import RunFolderExists, SentryHost
from .model import CloseState, Look

SENTRY_WAITS_S = 30.0
"""How long a sentry waits by itself before it moves the files (observed)."""


def settle_sentry(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Give up earlier closings once a later run has begun; return all entries, the oldest first."""
    open_ = [entry for entry in entries if entry.open]
    if not open_:
        return tuple(entries)
    last = open_[-1]
    done = {last.token: replace(last, settled=True)}
    for entry in open_[:-1]:
        done[entry.token] = _given_up(entry, last)
    return tuple(done.get(entry.token, entry) for entry in entries)


def _given_up(entry: Entry, later: Entry) -> Entry:
    if entry.asked:
        text = (
            f"the sentry was told to move the files, and whether it did is not known: run {later.run.number} "
            f"has begun. Look into {entry.run} on the host; what is not there will be in {later.run}"
        )
        return replace(entry, phase=Phase.DROPPED).said(CloseState.INCOMPLETE, text)
    text = (
        f"run {later.run.number} began before the files were moved, and a sentry cannot tell the files of "
        f"two runs apart: they will be in {later.run} on the host"
    )
    return replace(entry, phase=Phase.DROPPED).said(CloseState.FAILED, text)


async def close_by_sentry(host: SentryHost, entry: Entry, look: Look, *, keep: Keep) -> Entry:
    """Have a sentry move a run's files; `look` is what it said last. Returns how that ended.

    Takes half a minute and more. Raises `HostError` where the host ends it; it can be repeated.
    """
    asked_before = entry.asked
    # Where it was told before, they are perhaps moved by now: what was counted then counts.
    entry = replace(
        entry,
        asked=True,
        files=max(entry.files, look.files) if asked_before else look.files,
        data_bytes=max(entry.data_bytes, look.data_bytes) if asked_before else look.data_bytes,
    )
    await keep(entry)
    try:
        after = await host.catalog(entry.run)
    except RunFolderExists:
        if not asked_before:
            # The next time it must be told from the folder that this closing had made.
            await keep(replace(entry, asked=False))
            raise
        after = await host.look(None)
    if after.files:
        text = f"{after.files} files are in the staging folder after the sentry has moved {entry.run}"
        return entry.said(CloseState.INCOMPLETE, text)
    text = f"{amount(entry.files, entry.data_bytes)} in {entry.run} on the host"
    return replace(entry, phase=Phase.DONE, location=str(entry.run)).said(CloseState.DONE, text)
