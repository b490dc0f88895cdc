"""The values of the PVs of events."""

from __future__ import annotations

from collections.abc import Iterator

from attpc_ioc.model.states import Severity, Status
from attpc_ioc.plugin import PluginContext
from attpc_ioc.pvs.row import Reading

from .figures import RunFigures, SourceFigures
from .rows import (
    EVENT_RATE,
    EVENTS,
    MISSING,
    RESETS,
    RUN_EVENT_RATE,
    RUN_EVENTS,
    RUN_MISSING,
    RUN_SYNC,
    RUN_SYNC_TEXT,
    RUN_TRIGGERS,
    STREAMS,
    SYNC,
    SYNC_SEVERITIES,
    SYNC_TEXT,
)
from .sync import Verdict


def show_source(
    ctx: PluginContext, source: str, figures: SourceFigures, text: str, *, fault: bool, alarming: bool
) -> None:
    """Publish the figures of a source and a text; they are INVALID if its frames cannot be looked at.

    They are in no alarm unless `alarming`: a source whose ECC server is not enabled, and after a run.
    """
    for part, reading in _values(figures):
        if not alarming:
            shown = Reading(reading.value)
        else:
            shown = Reading(reading.value, Severity.INVALID, Status.COMM) if fault else reading
        ctx.publish(f"{source}:{part}", shown)
    ctx.publish(f"{source}:{SYNC_TEXT}", text)


def _values(figures: SourceFigures) -> Iterator[tuple[str, Reading]]:
    yield EVENTS, Reading(float(max(0, figures.last)))
    yield EVENT_RATE, Reading(figures.rate)
    yield STREAMS, Reading(figures.streams)
    yield MISSING, _limited(min(figures.missing, 2**31 - 1), figures.lack.level)
    yield RESETS, Reading(figures.resets)
    yield SYNC, _sync(figures.verdict)


def show_run(
    ctx: PluginContext, run: RunFigures, text: str, *, fault: bool, counted: bool, over: bool
) -> None:
    """Publish the figures of the run and a text; they are INVALID if no frames can be looked at.

    Where none are ever, events are not `counted`: their
    number is unknown, and nothing else of it is an alarm. Nor is any after the run, if it is `over`.
    """
    severity, status = (Severity.NO_ALARM, Status.NO_ALARM) if counted else (Severity.INVALID, Status.UDF)
    values: tuple[tuple[str, Reading], ...] = (
        (RUN_EVENTS, Reading(float(run.events), severity, status)),
        (RUN_EVENT_RATE, Reading(run.rate, severity, status)),
        (RUN_MISSING, _limited(run.missing_percent, run.missing_level)),
        (RUN_TRIGGERS, Reading(tuple(float(count) for count in run.triggers))),
        (RUN_SYNC, _sync(run.verdict)),
    )
    for pv, reading in values:
        if over and counted:
            reading = Reading(reading.value)
        ctx.publish(pv, Reading(reading.value, Severity.INVALID, Status.COMM) if fault else reading)
    ctx.publish(RUN_SYNC_TEXT, text)


def _limited(value: int | float, level: int) -> Reading:
    return Reading(value, Severity(level), (Status.NO_ALARM, Status.HIGH, Status.HIHI)[level])


def _sync(verdict: Verdict) -> Reading:
    severity = SYNC_SEVERITIES.get(int(verdict.state), Severity.NO_ALARM)
    return Reading(int(verdict.state), severity, Status.STATE if severity else Status.NO_ALARM)
