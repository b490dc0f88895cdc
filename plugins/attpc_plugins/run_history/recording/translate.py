"""Translates events of the core's log into records of the history."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from attpc_ioc.model.command import Put
from attpc_ioc.model.events import (
    Event,
    OperationEnded,
    PluginRecord,
    RunConfigs,
    RunDegraded,
    RunEvent,
    RunFailed,
    RunFiles,
    RunStarted,
    RunStarting,
    RunStopped,
    RunStopping,
    StateChanged,
)
from attpc_ioc.model.stamp import Stamp
from attpc_plugins.run_history.store.connections import moment
from attpc_plugins.run_history.store.model.records import KINDS, OwnRecord, Phase, Record, RunRecord

from .facts import modules_of, run_of

PHASES: dict[type[RunEvent], Phase] = {
    RunStarting: Phase.STARTING,
    RunStarted: Phase.STARTED,
    RunDegraded: Phase.DEGRADED,
    RunStopping: Phase.STOPPING,
    RunStopped: Phase.STOPPED,
    RunFailed: Phase.FAILED,
}


@dataclass(frozen=True, slots=True)
class Translator:
    """Makes records from events; None for events that are not recorded.

    `attempt_of` returns the token of the start that had a number of an experiment at a Unix time.
    `passive`: another IOC commands the fleet and records changes of state outside our runs.
    """

    plugin: str
    fleet: str
    attempt_of: Callable[[str, int, float], str]
    passive: Callable[[], bool]

    def record(self, event: Event | Put) -> Record | None:
        """Return the record of an event; raises `ValueError` for one of the history's own that is invalid."""
        match event:
            case RunEvent():
                return self._run(event)
            case Put():
                return None if event.stamp is None else event
            case StateChanged():
                return None if event.run is None and self.passive() else event
            case OperationEnded() | RunFiles() | RunConfigs():
                return event
            case PluginRecord(plugin=self.plugin):
                return own_record(event.kind, event.value, event.stamp)
        return None

    def _run(self, event: RunEvent) -> RunRecord:
        info, phase = event.run, PHASES[type(event)]
        modules = modules_of(info, event.members)
        run = run_of(info, phase.stage, modules, fleet=self.fleet)
        if phase is Phase.STOPPING:
            run = replace(run, stop_commanded_at=moment(event.time_s))
        return RunRecord(
            event.stamp,
            event.time_s,
            phase,
            run,
            attempt=self.attempt_of(info.experiment, info.number, info.began_s),
            modules=modules,
            lost=event.lost if isinstance(event, RunDegraded) else (),
            text=_stopping_text(event) if isinstance(event, RunStopping) else "",
            number_released=isinstance(event, RunFailed) and event.number_released,
        )


def own_value(record: OwnRecord) -> dict[str, Any]:
    """Return one of the history's own records as JSON values, without its stamp, which the event has."""
    made = adapter_of(type(record)).dump_python(record, mode="json")
    del made["stamp"]
    return made


def own_record(kind: str, value: dict[str, Any], stamp: Stamp) -> Record:
    """Return the record passed to `own_value`; raises `ValueError`."""
    if kind not in KINDS:
        raise ValueError(f"{kind} is not a kind of record that this version knows")
    return record_of(KINDS[kind], value, stamp)


def record_of(kind: type[Record], value: dict[str, Any], stamp: Stamp) -> Record:
    """Return the record of JSON values; raises `ValueError`."""
    try:
        return adapter_of(kind).validate_python({**value, "stamp": stamp})
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError("; ".join(faults)) from error


@cache
def adapter_of(kind: type[Record]) -> TypeAdapter[Any]:
    """Return the adapter that converts a kind of record to JSON and back."""
    return TypeAdapter(kind)


def _stopping_text(event: RunStopping) -> str:
    return f"by {event.who}: {event.reason}" if event.reason else f"by {event.who}"
