"""The steps that close a run where an `attpc_sentry` moves the files.

A sentry gets the run, waits (see `closing.sentry_waits_s`), moves all `*.graw` in the staging folder,
whatever run they belong to, and answers. It writes no manifest, lists no names, and cannot tell the files
of two runs apart. After a lost reply, a second request shows that the files were moved: the run's folder
exists, and no file is left in the staging folder. If it says that its router is gone it has moved the files,
and reports nothing until the router runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunRef, RunState
from attpc_plugins.data_routers.hosts.host import HostFault, RouterGone, RunFolderExists, SentryHost
from attpc_plugins.data_routers.model import CloseState, Polled
from attpc_plugins.data_routers.watch.incidents import clock

from .closings import Closing, Phase
from .figures import counted
from .steps import NO_FILE, Keep, amount

LOOKED_AT_LATER = (
    "the sentry has moved the files to {run}; its router does not run, so it does not report what is left: "
    "that is looked at once the router runs"
)


def other_run(fleet: Fleet, run: RunRef) -> bool:
    """Return whether another run is starting or on, so that a sentry must not be asked to move files."""
    view = fleet.run
    if view.state is RunState.STARTING:
        return True
    return view.on and view.info is not None and view.info.ref != run


def at_work(closings: Sequence[Closing], waits_s: float, now_s: float) -> str:
    """Return what a sentry is moving, and for how long; empty while it moves nothing, as far as is known.

    `waits_s`: how long it waits before it moves anything; `now_s`: the Unix time. A run that is started
    meanwhile would have its files moved to the earlier run's folder.
    """
    for closing in closings:
        if closing.phase is Phase.CLOSING and closing.asked_s:
            begins_s = closing.asked_s + waits_s
            when = (
                f"it waits up to {waits_s:g} s, until {clock(begins_s)}, then moves them"
                if now_s <= begins_s
                else f"it has been moving them since {clock(begins_s)}, as far as is known; if it does not "
                "answer, look whether it runs on its host, and start it again"
            )
            number = closing.run.number
            return f"its sentry is closing run {number} and takes every file that comes meanwhile: {when}"
    return ""


def baseline(closings: Sequence[Closing]) -> int:
    """Return the number of files that a sentry leaves where they are, as after the last run that it moved."""
    return next((closing.left_files for closing in reversed(closings) if closing.phase is Phase.DONE), 0)


def settle_sentry(closings: Sequence[Closing], polled: Polled | None, *, early: bool) -> tuple[Closing, ...]:
    """Give up earlier closings once a later run has begun; return all closings, the oldest first.

    `polled` is what the sentry reports; `early`: no member of the newest run can have written yet.
    """
    open_ = [closing for closing in closings if closing.open]
    if not open_:
        return tuple(closings)
    last = open_[-1]
    done: dict[str, Closing] = {}
    if not last.settled:
        files = polled.files if polled is not None and early else baseline(closings)
        data_bytes = polled.data_bytes if polled is not None else 0
        done[last.token] = replace(last, settled=True, base_bytes=data_bytes, base_files=files)
    earlier: list[int] = []
    for closing in open_[:-1]:
        done[closing.token] = _given_up(closing, last)
        earlier += (*closing.mixed_with, closing.run.number)
    if earlier:
        last = done.get(last.token, last)
        done[last.token] = replace(last, mixed_with=(*last.mixed_with, *earlier))
    return tuple(done.get(closing.token, closing) for closing in closings)


def _given_up(closing: Closing, later: Closing) -> Closing:
    closing = replace(closing, asked_s=0.0)
    if closing.asked:
        text = (
            "the sentry was asked to move the files, and whether it did is not known: "
            f"run {later.run.number} has begun. Look into {closing.run} on the host; what is not there comes "
            f"into {later.run}, mixed with the files of that run"
        )
        return replace(closing, phase=Phase.DROPPED).in_state(CloseState.INCOMPLETE, text)
    text = (
        f"run {later.run.number} began before the sentry had moved the files: they come into {later.run} on "
        "the host, mixed with those of that run"
    )
    return replace(closing, phase=Phase.DROPPED).in_state(CloseState.FAILED, text)


async def poll_sentry(host: SentryHost) -> Polled | None:
    """Return what a sentry reports; None while its router does not run, because then it reports nothing."""
    try:
        return await host.poll(None)
    except RouterGone:
        return None


async def close_by_sentry(
    host: SentryHost,
    closing: Closing,
    polled: Polled | None,
    left_files: int,
    *,
    keep: Keep,
    may_ask: Callable[[], bool],
    moving: Callable[[Closing], Awaitable[Closing]],
    now_s: float,
) -> Closing:
    """Have a sentry move a run's files; return the new closing. `now_s` is the Unix time.

    `polled` is the sentry's last report, None where its router does not run; `left_files`: see `baseline`.
    Takes as long as the sentry waits, or more. Raises `HostError`; the call can be repeated. Nothing is asked
    unless `may_ask()`; `moving()` shows that it is.
    """
    asked_before = closing.asked
    closing = replace(count(closing, polled), asked=True, asked_s=now_s)
    await keep(closing)
    if not may_ask():
        # A start that is admitted from here on has seen `asked_s`.
        return replace(closing, asked=asked_before, asked_s=0.0)
    closing = await moving(closing)
    try:
        after = await host.catalog(closing.run)
    except RunFolderExists:
        closing = replace(closing, asked_s=0.0)
        if not asked_before:
            # This closing did not make the folder, and the next attempt must not take it for its own.
            await keep(replace(closing, asked=False))
            raise
        closing = replace(closing, moved=True)
        await keep(closing)
        return look(closing, await poll_sentry(host), left_files)
    except RouterGone:
        return look(replace(closing, asked_s=0.0, moved=True), None, left_files)
    except HostFault:
        await keep(replace(closing, asked_s=0.0))
        raise
    closing = replace(closing, asked_s=0.0)
    if polled is not None and 0 < after.data_bytes < polled.data_bytes:
        # It counts the folder's `*.graw`: what is left came after the others were moved.
        files, data_bytes = closing.files + after.files, closing.data_bytes + after.data_bytes
        return look(replace(closing, moved=True, files=files, data_bytes=data_bytes), after, left_files)
    # The sentry also moves files that came in the meantime. What it leaves is not `*.graw`.
    grown = max(closing.data_bytes, _grown_bytes(closing, after))
    closing = replace(closing, data_bytes=grown, left_files=after.files)
    return _done(
        closing, f"; left in the staging folder, of other names: {after.files}" if after.files else ""
    )


def count(closing: Closing, polled: Polled | None) -> Closing:
    """Return a closing with what a sentry reports of its run; the last known counts hold if it does not."""
    if polled is None:
        return closing
    files, data_bytes = max(0, polled.files - closing.base_files), _grown_bytes(closing, polled)
    if closing.asked:  # the files may be moved by now
        files, data_bytes = max(closing.files, files), max(closing.data_bytes, data_bytes)
    return replace(closing, counted=True, files=files, data_bytes=data_bytes)


def look(closing: Closing, polled: Polled | None, left_files: int) -> Closing:
    """Return the closing of files that a sentry has moved, by what it reports of those that it left."""
    if polled is None:
        return closing.in_state(CloseState.UNREACHABLE, LOOKED_AT_LATER.format(run=closing.run))
    if polled.files > left_files:
        return closing.in_state(CloseState.INCOMPLETE, _left_text(polled, left_files, closing))
    return _done(replace(closing, left_files=polled.files), "")


def _done(closing: Closing, more: str) -> Closing:
    if not closing.counted:
        written = f"all files, how many is not known, in {closing.run} on the host"
    elif closing.files:
        written = f"{amount(closing.files, closing.data_bytes)} in {closing.run} on the host"
    else:
        written = NO_FILE
    text = f"{written}, as the sentry reports{more}"
    state = CloseState.DONE
    if closing.mixed_with:
        state, text = CloseState.INCOMPLETE, f"{text}; {_mixed_text(closing)}"
    return replace(closing, phase=Phase.DONE, location=str(closing.run)).in_state(state, text)


def _mixed_text(closing: Closing) -> str:
    runs = ("run " if len(closing.mixed_with) == 1 else "runs ") + ", ".join(map(str, closing.mixed_with))
    folders = ", ".join(str(replace(closing.run, number=number)) for number in closing.mixed_with)
    began = f", and run {closing.run.number} began at {clock(closing.began_s)}" if closing.began_s else ""
    return (
        f"files of {runs} are in that folder too, because this run began before the sentry had moved them. "
        f"Move them to {folders} by hand: the time in a file's name is when its data began{began}"
    )


def _grown_bytes(closing: Closing, polled: Polled) -> int:
    """Return what the router has written in the run: a sentry counts from the start of the router."""
    return (
        polled.data_bytes - closing.base_bytes
        if polled.data_bytes >= closing.base_bytes
        else polled.data_bytes
    )


def _left_text(polled: Polled, left_files: int, closing: Closing) -> str:
    return (
        f"{counted(polled.files - left_files, 'file')} left in {polled.place or 'the staging folder'} "
        f"although {closing.run} is there: the sentry was interrupted, or data came after it had moved the "
        "others; it does not go on. Move them into that folder with `mv -n`, which replaces nothing; one "
        "whose name is there already is other data: rename it to end in `.late1.graw`. Then put 1 to "
        "Run:CloseAgain"
    )
