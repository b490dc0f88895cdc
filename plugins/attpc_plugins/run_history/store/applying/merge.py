"""How a record of a run's life changes what the database has of the run: pure, whatever the order of arrival.

- The stage only goes forward: started after stopped does not reopen a run.
- An end that was seen beats an assumed one (interrupted), whichever comes first; among seen ends the first
  to arrive stays.
- The title, operator and class are those of the latest record, unless someone edited them by name.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass, RunOutcome, RunTexts
from attpc_plugins.run_history.store.connections import clean, moment, utc
from attpc_plugins.run_history.store.model.history import Stage
from attpc_plugins.run_history.store.model.records import Phase, RunRecord

_STAGES = tuple(Stage)

_STAGE_OF: dict[Phase, Stage] = {
    Phase.STARTING: Stage.STARTING,
    Phase.STARTED: Stage.RUNNING,
    Phase.DEGRADED: Stage.RUNNING,
    Phase.STOPPING: Stage.STOPPING,
    Phase.STOPPED: Stage.ENDED,
    Phase.FAILED: Stage.ENDED,
}


@dataclass(frozen=True, slots=True)
class RunRow:
    """The part of a run's row that records change."""

    stage: Stage = Stage.RESERVED
    texts: RunTexts = RunTexts()
    fleet: str = ""
    ioc: str = ""
    start_commanded_at: datetime | None = None
    started_at: datetime | None = None
    last_running_at: datetime | None = None
    stop_commanded_at: datetime | None = None
    stopped_at: datetime | None = None
    started_by: Who = Who()
    stopped_by: Who = Who()
    outcome: RunOutcome | None = None
    reason: str = ""
    adopted: bool = False
    facts_at: datetime | None = None
    edited: frozenset[str] = field(default=frozenset())
    """The fields that someone edited by name."""


def merge(row: RunRow, record: RunRecord) -> RunRow:
    """Return what the row is once `record` was applied."""
    run = record.run
    at = moment(record.time_s)
    newer = row.facts_at is None or at >= row.facts_at
    stop_commanded = at if record.phase is Phase.STOPPING else None
    merged = replace(
        row,
        fleet=row.fleet or clean(run.fleet),
        ioc=row.ioc or clean(record.stamp.ioc),
        texts=_texts(row, run.texts) if newer else row.texts,
        start_commanded_at=row.start_commanded_at or utc(run.start_commanded_s),
        started_at=row.started_at or utc(run.started_s),
        last_running_at=_latest(row.last_running_at, utc(run.last_running_s)),
        stop_commanded_at=row.stop_commanded_at or stop_commanded,
        started_by=row.started_by if row.started_by != Who() else run.who,
        stopped_by=row.stopped_by if row.stopped_by != Who() else run.stopped_by,
        adopted=row.adopted or run.adopted,
        facts_at=_latest(row.facts_at, at),
    )
    merged = replace(merged, stage=_stage(row.stage, _STAGE_OF[record.phase], merged.started_at))
    return _ended(merged, record) if merged.stage is Stage.ENDED else merged


def _stage(old: Stage, new: Stage, started_at: datetime | None) -> Stage:
    if new is Stage.RUNNING and started_at is None:
        new = Stage.STARTING
    if started_at is not None and _STAGES.index(new) < _STAGES.index(Stage.RUNNING):
        new = Stage.RUNNING
    return max(old, new, key=_STAGES.index)


def _ended(row: RunRow, record: RunRecord) -> RunRow:
    """Take the end from the record if it tells one that beats what is known."""
    if record.phase not in (Phase.STOPPED, Phase.FAILED):
        return row
    run = record.run
    default = RunOutcome.FAILED if record.phase is Phase.FAILED else RunOutcome.STOPPED
    outcome = run.outcome or default
    seen_before = row.outcome is not None and row.outcome is not RunOutcome.INTERRUPTED
    assumed_again = row.outcome is RunOutcome.INTERRUPTED and outcome is RunOutcome.INTERRUPTED
    if seen_before or assumed_again:
        return row
    return replace(
        row,
        outcome=outcome,
        reason=clean(run.reason),
        stopped_at=utc(run.stopped_s),
        stopped_by=run.stopped_by if run.stopped_by != Who() else row.stopped_by,
    )


def _texts(row: RunRow, told: RunTexts) -> RunTexts:
    have = row.texts
    return RunTexts(
        title=have.title if "title" in row.edited else clean(told.title, 1000),
        operator=have.operator if "operator" in row.edited else clean(told.operator, 1000),
        run_class=have.run_class if "run_class" in row.edited else RunClass(told.run_class),
    )


def _latest(a: datetime | None, b: datetime | None) -> datetime | None:
    return max((t for t in (a, b) if t is not None), default=None)
