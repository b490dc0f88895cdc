"""Runs whose files are written and closed beside those of the next: what their names tell, and what not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.names import is_sender, sender_of, stream_of, streams_in
from attpc_plugins.data_routers.model import CloseState, FileEntry
from attpc_plugins.data_routers.watch.flow import Count, Listed

from .closings import Closing, Phase
from .late import late_of, without_late
from .steps import names_text
from .whose import own_files

log = get_logger(__name__)

UNTIMED = "the names of its files do not have their streams' times ({names})"
BY_SENTRY = "a sentry moves every file that is there, whatever run it is of"
MIXED_THEN = "; after a start now they would come into the next run's folder"
CONTINUED = (
    "nothing of {senders} began with this run, and data came for an earlier run's streams ({streams}): if "
    "event numbers were not set to zero at the start, this run's data are in that run's folder"
)
NOT_LISTED = "they were not listed yet since its end, which takes a second or two"

LATEST = 2.0
"""Data of a run come at most this many times `closing.quiet_s` after the next run has begun."""


def listed(
    closings: Sequence[Closing], listing: Sequence[FileEntry], ended: Callable[[Closing], bool]
) -> Listed:
    """Sort the files of a listing by runs; `ended` tells whether the run of an open closing is over."""
    late = late_of(closings, listing)
    of: defaultdict[RunRef, list[FileEntry]] = defaultdict(list)
    for closing in closings:
        of[closing.run] += late.get(closing.token, ())
    left = without_late(closings, listing)
    for closing in closings:
        if closing.open and ended(closing):
            of[closing.run] += own_files(closing, closings, left)
    return Listed(_count(listing), {run: _count(files) for run, files in of.items() if files})


def _count(files: Sequence[FileEntry]) -> Count:
    return Count(len(files), sum(file.size for file in files))


def why_not_apart(
    closing: Closing, own: Sequence[FileEntry], sender_ids: Mapping[str, str], senders: frozenset[str]
) -> str:
    """Return why the next run's files could not be told from those of a run that is over; empty if they can.

    `own` are its files, `sender_ids` those of its sources by name, such as `CoBo[0]` of `CoBo0`, and
    `senders` those that had data in the run before. A stream that begins later is of the next run, so all
    have to be there.
    """
    if closing.before is None:
        return "what was in the staging folder before the run is not known"
    if untimed := [file.name for file in own if not stream_of(file.name)]:
        return UNTIMED.format(names=names_text(untimed))
    found = {sender_of(file.name) for file in own}
    missing = [name for name, sender_id in sender_ids.items() if not any(map(is_sender(sender_id), found))]
    for name in missing:
        senders -= set(filter(is_sender(sender_ids[name]), senders))
    missing += [sender.replace("_", " ") for sender in senders - found]
    return f"the first data of {names_text(missing)} may still come" if missing else ""


def doubtful(closing: Closing, own: Sequence[FileEntry], quiet_s: float) -> str:
    """Return why a run may have files of the run before it; empty if it has none.

    Where the counter of a board was reset just before the end of the earlier run, and its data came late, the
    first stream after the start is still that run's, and the second is this run's.
    """
    if closing.beside_s is None:
        return ""
    until_s = closing.beside_s + LATEST * quiet_s
    streams: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for file in own:
        times = streams[sender_of(file.name)]
        stream = stream_of(file.name)
        times[stream] = max(times.get(stream, 0.0), file.modified_s)
    doubted = [
        first
        for sender, times in streams.items()
        if sender and len(times) > 1 and times[first := min(times)] <= until_s
    ]
    if not doubted:
        return ""
    return (
        "more than one stream of a sender began in this run, and the run before was not closed then: the "
        f"first ({names_text(doubted)}) may be late data of that run. Nothing is moved until you decide: "
        f"`attpc-ioc files close {closing.run.number} --router {closing.router} --all` puts all of them into "
        "this run's folder"
    )


def without_streams(
    closing: Closing,
    closings: Sequence[Closing],
    own: Sequence[FileEntry],
    listing: Sequence[FileEntry],
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the senders without a stream of this run, and those streams of earlier runs that they continue.

    `own` are the run's files, `listing` all in the staging folder.

    A router continues the old stream where the event numbers were not set to zero.
    """
    streams = {stream for other in closings if other.token != closing.token for stream in other.streams}
    before = closing.before or {}
    begun = {sender_of(file.name) for file in own}
    grown = [
        file.name
        for file in listing
        if stream_of(file.name) in streams
        and file.size > (before.get(file.name) or 0)
        and sender_of(file.name) not in begun
    ]
    return frozenset(map(sender_of, grown)), frozenset(map(stream_of, grown))


def senders_before(closing: Closing, closings: Sequence[Closing]) -> frozenset[str]:
    """Return the senders that had data in the run before this one, as far as it is known."""
    earlier = [other for other in closings if (other.began_s, other.run) < (closing.began_s, closing.run)]
    if not earlier:
        return frozenset()
    streams = earlier[-1].streams | streams_in(earlier[-1].chosen)
    return frozenset(map(_sender, streams))


def _sender(stream: str) -> str:
    return sender_of(f"{stream}_0000.graw")


class Beside:
    """What one router's closings have to do with the next run; `sender_ids(closing)`: see `RouterCloser`.

    `left_s` has the seconds until the files of a closing are moved, by its token.
    """

    def __init__(
        self, label: str, quiet_s: float, sender_ids: Callable[[Closing], Mapping[str, str] | None]
    ) -> None:
        self._label = label
        self._quiet_s = quiet_s
        self._sender_ids = sender_ids
        self._why: dict[str, str] = {}
        self._continued: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self.left_s: dict[str, float] = {}

    def is_apart(self, closing: Closing, closings: Sequence[Closing], own: Sequence[FileEntry]) -> bool:
        """Return what `Closing.apart` is after a listing; `own` are the run's files in it."""
        ids = self._sender_ids(closing)
        if closing.frozen or ids is None:
            return closing.apart
        why = self._why[closing.token] = why_not_apart(closing, own, ids, senders_before(closing, closings))
        return not why

    def see(
        self,
        closing: Closing,
        closings: Sequence[Closing],
        listing: Sequence[FileEntry],
        whole: Sequence[FileEntry],
    ) -> None:
        """Take a listing after the run, without late data of closed runs, and `whole`."""
        own = own_files(closing, closings, listing)
        found = without_streams(closing, closings, own, whole)
        if found[0]:
            self._continued[closing.token] = found

    def said(self, closing: Closing) -> Closing:
        """Say it in the message where a sender has no stream of this run, but continued an earlier one."""
        senders, streams = self._continued.get(closing.token, (frozenset(), frozenset()))
        senders -= {_sender(stream) for stream in closing.streams}
        if closing.open or not senders:
            return closing
        text = CONTINUED.format(senders=names_text(senders), streams=names_text(streams))
        log.warning("run without streams of its own", run=closing.run, router=self._label, reason=text)
        return closing.in_state(closing.state, f"{closing.message}; {text}")

    def against_next(self, closings: Sequence[Closing], *, sentry: bool) -> str:
        """Return why the next run may not begin yet, and for how long; empty where it may."""
        for closing in closings:
            if closing.phase is not Phase.CLOSING:
                continue
            why = f"{BY_SENTRY}{MIXED_THEN}" if sentry else self._not_told_apart(closing)
            if why:
                return f"the files of run {closing.run.number} are not closed yet: {why}{self._when(closing)}"
        return ""

    def _not_told_apart(self, closing: Closing) -> str:
        if closing.mixed or closing.state not in (CloseState.WAITING, CloseState.MOVING):
            return f"{closing.state.label}"
        if closing.frozen:
            untimed = [name for name in closing.chosen if not stream_of(name)]
            return UNTIMED.format(names=names_text(untimed)) if untimed else ""
        return "" if closing.apart else self._why.get(closing.token, NOT_LISTED)

    def _when(self, closing: Closing) -> str:
        if closing.mixed or closing.state is not CloseState.WAITING:
            return ""
        left_s = self.left_s.get(closing.token, self._quiet_s)
        # The text must not change at every look.
        shown_s = math.ceil(left_s) if left_s < 5.0 else 5 * math.ceil(left_s / 5.0)
        return f"; they are moved in {shown_s} s if none grows until then"

    def forget(self, token: str) -> None:
        """Forget a closing that is finished."""
        for known in (self._why, self._continued, self.left_s):
            known.pop(token, None)
