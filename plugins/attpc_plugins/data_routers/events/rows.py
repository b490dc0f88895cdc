"""The rows of events: what the frames of the run in progress say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.common import MESSAGE_ELEMENTS
from attpc_ioc.pvs.row import AlarmUse, Archive, Limits, Record, Row
from attpc_plugins.data_routers.settings import DataRoutersSettings, EventsSettings
from attpc_plugins.data_routers.watch.rows import Why

from .sync import Sync

EVENTS = "Router:Events_RBV"
EVENT_RATE = "Router:EventRate_RBV"
STREAMS = "Router:Streams_RBV"
MISSING = "Router:Missing_RBV"
RESETS = "Router:Resets_RBV"
SYNC = "Router:Sync_RBV"
SYNC_TEXT = "Router:SyncText_RBV"
"""Parts of the names of a source's PVs."""

RUN_EVENTS = "Run:Events_RBV"
RUN_EVENT_RATE = "Run:EventRate_RBV"
RUN_MISSING = "Run:Missing_RBV"
RUN_TRIGGERS = "Run:Triggers_RBV"
RUN_SYNC = "Run:Sync_RBV"
RUN_SYNC_TEXT = "Run:SyncText_RBV"
MAX_EVENTS = "Run:MaxEvents"
MAX_WRITTEN = "Run:MaxWritten"
"""Names after the prefix."""

SYNC_SEVERITIES = {
    int(Sync.BEHIND): Severity.MINOR,
    int(Sync.OUT_OF_STEP): Severity.MAJOR,
    int(Sync.RESET): Severity.MAJOR,
    int(Sync.TORN): Severity.MAJOR,
}

EVENTS_MOST = float(2**32)

_LABELS = tuple(state.label for state in Sync)
_GUIDANCE = (
    "Behind: the board or its data router is slow or has stopped. OutOfStep or Reset: its events no longer "
    "have the numbers of the other boards', and the data from then on cannot be merged: stop the run, GoTo "
    "Idle, then GoTo Ready, and start the next run. Torn: a part of a frame was lost, as on a full disk. "
    "After the run the state stays until the next one, without an alarm once its files are closed."
)


_MISSING_GUIDANCE = (
    "More of a board's events are missing than events.missing_minor_percent or missing_major_percent of the "
    "settings. Its data router or its link loses events, or the board does not send them: look at its "
    "Router:Flow_RBV, the load and the disk of its host, and the rate of triggers. The other events are good "
    "and can be merged."
)


def event_rows(settings: EventsSettings, why: Why) -> Iterator[Row]:
    """Yield the rows of events; `EventsService` publishes them."""
    yield from _source_rows(why)
    yield from _run_rows(settings)


def where_frames_are(row: Row, settings: DataRoutersSettings) -> Row:
    """Return a row of events, limited to the sources whose frames are looked at.

    The others' PVs stay as they are in the beginning, and so do those of the run if there is no such source.
    """
    routers = [router for router in settings.router if router.reads_frames and settings.events.enabled]
    if row.scope is ScopeKind.SOURCE:
        return replace(row, used_in=frozenset(source for router in routers for source in router.sources))
    counts_bytes = row.part == _part(MAX_WRITTEN)
    return row if routers or (counts_bytes and settings.router) else replace(row, used_in=frozenset())


def _source_rows(why: Why) -> Iterator[Row]:
    source = ScopeKind.SOURCE
    yield _events(EVENTS, source, "Last event number in its frames")
    yield _rate(EVENT_RATE, source, "Events per second in its frames")
    for part, desc in ((STREAMS, "AsAd boards that write"), (RESETS, "Event counters reset in the run")):
        yield Row(part, source, Record.LONGIN, desc, initial=0, archive=Archive.MONITOR)
    yield Row(
        MISSING,
        source,
        Record.LONGIN,
        "Event numbers missing in the run",
        initial=0,
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("events are missing"),
        guidance=_MISSING_GUIDANCE,
        reason=lambda _fleet, scope: why(MISSING, scope.name),
    )
    yield Row(
        SYNC,
        source,
        Record.MBBI,
        "Whether it is in step with the others",
        labels=_LABELS,
        severities=SYNC_SEVERITIES,
        initial=0,
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("not in step with the other boards"),
        guidance=_GUIDANCE,
        reason=lambda _fleet, scope: why(SYNC, scope.name),
    )
    yield Row(
        SYNC_TEXT,
        source,
        Record.LONG_TEXT,
        "Which AsAd, which event, by how much",
        elements=MESSAGE_ELEMENTS,
        initial="",
    )


def _run_rows(settings: EventsSettings) -> Iterator[Row]:
    run = ScopeKind.RUN
    yield _events(_part(RUN_EVENTS), run, "Events of the run that all boards have")
    yield _rate(_part(RUN_EVENT_RATE), run, "Events per second")
    yield Row(
        _part(RUN_MISSING),
        run,
        Record.AI,
        "Worst part of events missing of a board",
        units="%",
        precision=2,
        limits=Limits(
            lopr=0.0,
            hopr=100.0,
            high=settings.missing_minor_percent,
            hihi=settings.missing_major_percent,
        ),
        initial=0.0,
        archive=Archive.MONITOR,
        archive_period_s=2.0,
        guidance=_MISSING_GUIDANCE,
    )
    yield Row(
        _part(RUN_TRIGGERS),
        run,
        Record.NUMBERS,
        "Triggers of the MuTAnT: L0, L1A, L1B, L2",
        elements=4,
        limits=Limits(lopr=0.0),
        initial=(),
    )
    yield Row(
        _part(RUN_SYNC),
        run,
        Record.MBBI,
        "Whether all boards are in step",
        labels=_LABELS,
        severities=SYNC_SEVERITIES,
        initial=0,
        archive=Archive.MONITOR,
        guidance=_GUIDANCE,
        reason_row=_part(RUN_SYNC_TEXT),
    )
    yield Row(
        _part(RUN_SYNC_TEXT),
        run,
        Record.LONG_TEXT,
        "Boards that are not, or not looked at",
        elements=4 * MESSAGE_ELEMENTS,
        initial="",
    )
    yield Row(
        _part(MAX_EVENTS),
        run,
        Record.AO,
        "Stop the run after so many, 0: no limit",
        units="events",
        limits=Limits(lopr=0.0, drvl=0.0, drvh=EVENTS_MOST),
        setpoint="max_events",
        initial=0.0,
        archive=Archive.MONITOR,
        guidance="Counts Run:Events_RBV: the events that all boards have. A board that has stopped keeps it "
        "from being reached; Run:MaxDuration ends such a run too.",
    )
    yield Row(
        _part(MAX_WRITTEN),
        run,
        Record.AO,
        "Stop the run after so much, 0: no limit",
        units="GB",
        precision=3,
        limits=Limits(lopr=0.0, drvl=0.0, drvh=1e6),
        setpoint="max_written",
        initial=0.0,
        archive=Archive.MONITOR,
        guidance="Counts Run:Written_RBV: the data of all routers.",
    )


def _part(name: str) -> str:
    return name.removeprefix("Run:")


def _events(part: str, scope: ScopeKind, desc: str) -> Row:
    return Row(
        part,
        scope,
        Record.AI,
        desc,
        limits=Limits(lopr=0.0),
        initial=0.0,
        archive=Archive.SCAN,
        archive_period_s=10.0,
    )


def _rate(part: str, scope: ScopeKind, desc: str) -> Row:
    return Row(
        part,
        scope,
        Record.AI,
        desc,
        units="1/s",
        precision=1,
        limits=Limits(lopr=0.0),
        initial=0.0,
        archive=Archive.SCAN,
        archive_period_s=10.0,
    )
