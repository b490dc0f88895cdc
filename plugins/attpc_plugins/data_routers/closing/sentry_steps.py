"""How the files of one run come to their place where an `attpc_sentry` moves them.

A sentry is told the run, waits 30 s, moves all `*.graw` that are there, and answers. It writes no manifest,
shows no names, and cannot tell the files of two runs apart. That its reply was lost is known by what it
says when it is asked again: the run's folder exists, and nothing is left in the staging folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attpc_plugins.data_routers.hosts.host import RouterGone, RunFolderExists, SentryHost
from attpc_plugins.data_routers.model import CloseState, Look

from .entries import Entry, Phase
from .steps import NO_FILE, Keep, amount

SENTRY_WAITS_S = 30.0
"""How long a sentry waits by itself before it moves the files (observed)."""


def settle_sentry(entries: Sequence[Entry], base_bytes: int) -> tuple[Entry, ...]:
    """Give up earlier closings once a later run has begun; return all entries, the oldest first.

    `base_bytes` is what the router had written before.
    """
    open_ = [entry for entry in entries if entry.open]
    if not open_:
        return tuple(entries)
    last = open_[-1]
    done = {last.token: replace(last, settled=True, base_bytes=base_bytes)} if not last.settled else {}
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


async def sentry_look(host: SentryHost) -> Look | None:
    """Return what a sentry says; None where its router does not run, for then it tells nothing."""
    try:
        return await host.look(None)
    except RouterGone:
        return None


async def close_by_sentry(host: SentryHost, entry: Entry, look: Look | None, *, keep: Keep) -> Entry:
    """Have a sentry move a run's files; `look` is what it said last. Returns how that ended.

    Takes half a minute and more. Raises `HostError` where the host ends it; it can be repeated.
    """
    asked_before = entry.asked
    files = look.files if look else 0
    data_bytes = _grown_bytes(entry, look)
    # Where it was told before, they are perhaps moved by now: what was counted then counts.
    entry = replace(
        entry,
        asked=True,
        files=max(entry.files, files) if asked_before else files,
        data_bytes=max(entry.data_bytes, data_bytes) if asked_before else data_bytes,
    )
    await keep(entry)
    try:
        after = await host.catalog(entry.run)
    except RunFolderExists:
        if not asked_before:
            # Nothing was moved by this closing: the next time it must not be taken for its work.
            await keep(replace(entry, asked=False))
            raise
        after = await sentry_look(host)
        if after is not None and after.files:
            return entry.said(CloseState.INCOMPLETE, _left_text(after.files, entry))
    except RouterGone:
        after = None
    if after is not None and after.files and after.files >= entry.files:
        return entry.said(CloseState.INCOMPLETE, _left_text(after.files, entry))
    if after is not None:
        # It moves what has come meanwhile as well.
        entry = replace(entry, data_bytes=max(entry.data_bytes, _grown_bytes(entry, after)))
    written = (
        f"{amount(entry.files, entry.data_bytes)} in {entry.run} on the host" if entry.files else NO_FILE
    )
    text = f"{written}, by what the sentry says"
    if after is None:
        text += "; its router does not run, so it does not tell what is left"
    elif after.files:
        text += f"; {after.files} of other names are left in the staging folder"
    return replace(entry, phase=Phase.DONE, location=str(entry.run)).said(CloseState.DONE, text)


def _grown_bytes(entry: Entry, look: Look | None) -> int:
    """Return what the router has written in the run: a sentry counts from the router's own start."""
    if look is None:
        return 0
    return look.data_bytes - entry.base_bytes if look.data_bytes >= entry.base_bytes else look.data_bytes


def _left_text(files: int, entry: Entry) -> str:
    return (
        f"{files} file{'' if files == 1 else 's'} left in the staging folder although {entry.run} is there: "
        "the sentry was interrupted, and does not go on with a folder that exists. Move them by hand, then "
        "put 1 to Run:CloseAgain"
    )
