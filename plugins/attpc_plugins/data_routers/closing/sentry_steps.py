"""The steps that close a run where an `attpc_sentry` moves the files.

A sentry gets the run, waits 30 s, moves all `*.graw` in the staging folder, and answers. It writes no
manifest, lists no names, and cannot tell the files of two runs apart. After a lost reply, a second request
shows that the files were moved: the run's folder exists, and no file is left in the staging folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attpc_plugins.data_routers.hosts.host import RouterGone, RunFolderExists, SentryHost
from attpc_plugins.data_routers.model import CloseState, Polled

from .closings import Closing, Phase
from .steps import NO_FILE, Keep, amount

SENTRY_WAITS_S = 30.0
"""How long a sentry waits before it moves the files (observed)."""


def settle_sentry(closings: Sequence[Closing], base_bytes: int) -> tuple[Closing, ...]:
    """Give up earlier closings once a later run has begun; return all closings, the oldest first.

    `base_bytes` is what the router had written before.
    """
    open_ = [closing for closing in closings if closing.open]
    if not open_:
        return tuple(closings)
    last = open_[-1]
    done = {last.token: replace(last, settled=True, base_bytes=base_bytes)} if not last.settled else {}
    for closing in open_[:-1]:
        done[closing.token] = _given_up(closing, last)
    return tuple(done.get(closing.token, closing) for closing in closings)


def _given_up(closing: Closing, later: Closing) -> Closing:
    if closing.asked:
        text = (
            "the sentry was asked to move the files, and whether it did is not known: "
            f"run {later.run.number} has begun. Look into {closing.run} on the host; what is not there will "
            f"be in {later.run}"
        )
        return replace(closing, phase=Phase.DROPPED).in_state(CloseState.INCOMPLETE, text)
    text = (
        f"run {later.run.number} began before the files were moved, and a sentry cannot tell the files of "
        f"two runs apart: they will be in {later.run} on the host"
    )
    return replace(closing, phase=Phase.DROPPED).in_state(CloseState.FAILED, text)


async def poll_sentry(host: SentryHost) -> Polled | None:
    """Return what a sentry reports; None while its router does not run, because then it reports nothing."""
    try:
        return await host.poll(None)
    except RouterGone:
        return None


async def close_by_sentry(
    host: SentryHost, closing: Closing, polled: Polled | None, *, keep: Keep
) -> Closing:
    """Have a sentry move a run's files; return the new closing. `polled` is the sentry's last report.

    Takes half a minute or more. Raises `HostError`; the call can be repeated.
    """
    asked_before = closing.asked
    files = polled.files if polled else 0
    data_bytes = _grown_bytes(closing, polled)
    # After an earlier request the files may be moved by now: the earlier counts hold.
    closing = replace(
        closing,
        asked=True,
        files=max(closing.files, files) if asked_before else files,
        data_bytes=max(closing.data_bytes, data_bytes) if asked_before else data_bytes,
    )
    await keep(closing)
    try:
        after = await host.catalog(closing.run)
    except RunFolderExists:
        if not asked_before:
            # This closing did not make the folder, and the next attempt must not take it for its own.
            await keep(replace(closing, asked=False))
            raise
        after = await poll_sentry(host)
        if after is not None and after.files:
            return closing.in_state(CloseState.INCOMPLETE, _left_text(after.files, closing))
    except RouterGone:
        after = None
    if after is not None and after.files and after.files >= closing.files:
        return closing.in_state(CloseState.INCOMPLETE, _left_text(after.files, closing))
    if after is not None:
        # The sentry also moves files that came in the meantime.
        closing = replace(closing, data_bytes=max(closing.data_bytes, _grown_bytes(closing, after)))
    written = (
        f"{amount(closing.files, closing.data_bytes)} in {closing.run} on the host"
        if closing.files
        else NO_FILE
    )
    text = f"{written}, as the sentry reports"
    if after is None:
        text += "; its router does not run, so it does not report what is left"
    elif after.files:
        text += f"; {after.files} of other names are left in the staging folder"
    return replace(closing, phase=Phase.DONE, location=str(closing.run)).in_state(CloseState.DONE, text)


def _grown_bytes(closing: Closing, polled: Polled | None) -> int:
    """Return what the router has written in the run: a sentry counts from the start of the router."""
    if polled is None:
        return 0
    return (
        polled.data_bytes - closing.base_bytes
        if polled.data_bytes >= closing.base_bytes
        else polled.data_bytes
    )


def _left_text(files: int, closing: Closing) -> str:
    return (
        f"{files} file{'' if files == 1 else 's'} left in the staging folder although {closing.run} is "
        "there: the sentry was interrupted, and does not continue with a folder that exists. Move them by "
        "hand, then put 1 to Run:CloseAgain"
    )
