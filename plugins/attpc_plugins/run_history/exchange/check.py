"""What must hold of a run that comes from a file, whatever the file's format."""

from __future__ import annotations

from datetime import UTC, datetime

from attpc_plugins.run_history.store.model import Run, RunDetail, Stage

from .faults import Bad

NUMBER_MAX = 2**31 - 1

LIMITS = {"experiment": 200, "title": 1000, "operator": 1000, "comment": 65536}
"""Characters of the texts."""

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def checked(detail: RunDetail) -> RunDetail:
    """Return the run as it can be kept; raises `Bad` naming the column that does not fit.

    It is what the database itself demands, so that all that was exported can be imported. A stop before the
    start is none of it: the clock may have been set back.
    """
    run = detail.run
    if not run.experiment.strip() or any(c in run.experiment for c in "\n\r\t"):
        raise Bad(
            "an experiment's name is a text in one line; give --experiment where there is none", "experiment"
        )
    if not 0 <= run.number <= NUMBER_MAX:
        raise Bad(f"{run.number} is no run number; they are from 0 to {NUMBER_MAX}", "number")
    for name, limit in LIMITS.items():
        if len(getattr(run, name)) > limit:
            raise Bad(f"has {len(getattr(run, name))} characters, and {limit} are the most", name)
    _stages(run)
    _times(run)
    return detail


def _stages(run: Run) -> None:
    if run.stage is Stage.RESERVED:
        raise Bad("a number that is only reserved is no run", "stage")
    if (run.stage is Stage.ENDED) != (run.outcome is not None):
        raise Bad("a run has an outcome if, and only if, its stage is ended", "outcome")
    if run.stage is Stage.STARTING and run.started_at is not None:
        raise Bad("a run that is starting has not started", "started_at")
    if run.stage is Stage.RUNNING and run.started_at is None:
        raise Bad("a run that is running has started", "started_at")
    if run.stopped_at is not None and run.stage is not Stage.ENDED:
        raise Bad("a run that has stopped has the stage ended", "stopped_at")


def _times(run: Run) -> None:
    times = (
        "reserved_at",
        "start_commanded_at",
        "started_at",
        "last_running_at",
        "stop_commanded_at",
        "stopped_at",
    )
    for name in times:
        when: datetime | None = getattr(run, name)
        if when is not None and not EARLIEST <= when < LATEST:
            raise Bad(f"{when.isoformat()} is not from 1970 to 9998", name)
