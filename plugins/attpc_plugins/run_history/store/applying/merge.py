"""How a record changes a run in the database: pure, whatever the order of arrival.

- The stage only goes forward: started after stopped does not reopen a run.
- An observed end beats an assumed one (interrupted), whichever comes first; among observed ends the first
  to arrive stays.
- The title, operator and class are those of the latest record, unless someone edited them by name.
- Of everything else the first known value stays.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import MISSING, fields, replace
from datetime import datetime
from typing import Any

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunOutcome, RunTexts
from attpc_plugins.run_history.store.model.history import Run, Stage
from attpc_plugins.run_history.store.model.records import Phase, RunRecord

STAGES = tuple(Stage)

TEXTS = tuple(item.name for item in fields(RunTexts))
END = ("stopped_at", "outcome", "reason")


def merge(row: Run, record: RunRecord, *, newer: bool, edited: Collection[str] = ()) -> Run:
    """Return the run after `record`.

    `newer`: no later record was applied before. `edited` are the fields that someone edited.
    """
    run = replace(record.run, ioc=record.stamp.ioc)
    merged: dict[str, Any] = {}
    for item in fields(Run):
        old, new = getattr(row, item.name), getattr(run, item.name)
        unknown = item.default is not MISSING and old == item.default
        merged[item.name] = new if unknown and item.name not in END else old
    if newer:
        merged |= {name: getattr(run, name) for name in TEXTS if name not in edited}
        merged["config_name"] = run.config_name or row.config_name
    merged["last_running_at"] = _latest(row.last_running_at, run.last_running_at)
    merged["stage"] = _stage(row.stage, record.phase.stage, merged["started_at"])
    made = Run(**merged)
    return _ended(made, row, record) if made.stage is Stage.ENDED else made


def _stage(old: Stage, new: Stage, started_at: datetime | None) -> Stage:
    if new is Stage.RUNNING and started_at is None:
        new = Stage.STARTING
    if started_at is not None and STAGES.index(new) < STAGES.index(Stage.RUNNING):
        new = Stage.RUNNING
    return max(old, new, key=STAGES.index)


def _ended(made: Run, row: Run, record: RunRecord) -> Run:
    """Take the end of the record if it has one that beats the known one."""
    if record.phase not in (Phase.STOPPED, Phase.FAILED):
        return made
    run = record.run
    default = RunOutcome.FAILED if record.phase is Phase.FAILED else RunOutcome.STOPPED
    outcome = run.outcome or default
    seen_before = row.outcome is not None and row.outcome is not RunOutcome.INTERRUPTED
    assumed_again = row.outcome is RunOutcome.INTERRUPTED and outcome is RunOutcome.INTERRUPTED
    if seen_before or assumed_again:
        return made
    return replace(
        made,
        outcome=outcome,
        reason=run.reason,
        stopped_at=run.stopped_at,
        stopped_by=run.stopped_by if run.stopped_by != Who() else made.stopped_by,
    )


def _latest(a: datetime | None, b: datetime | None) -> datetime | None:
    return max((t for t in (a, b) if t is not None), default=None)
