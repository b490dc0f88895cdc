"""Events of the core's log as records of the history."""

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
    Origin,
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
from attpc_plugins.run_history.store.model.records import (
    KINDS,
    ConfigOf,
    ConfigsRecord,
    FilesRecord,
    OperationRecord,
    Phase,
    PutRecord,
    Record,
    RunRecord,
    RunRef,
    StateRecord,
)

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
    """Makes records of events; None of those that the history does not have.

    `attempt_of` gives the token of the start that had this number of an experiment at this Unix time.
    `passive` tells that another IOC commands the fleet: changes of state outside our runs are left to it.
    """

    plugin: str
    fleet: str
    attempt_of: Callable[[str, int, float], str]
    passive: Callable[[], bool]

    def record(self, event: Event | Put) -> Record | None:
        """Return the record of an event; raises `ValueError` for one of ours that cannot be understood."""
        match event:
            case RunEvent():
                return self._run(event)
            case Put():
                return _put(event)
            case StateChanged():
                return None if event.run is None and self.passive() else _state(event)
            case OperationEnded():
                return _operation(event)
            case RunFiles():
                return _files(event)
            case RunConfigs():
                return _configs(event)
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


def own_value(record: Record) -> dict[str, Any]:
    """Return a record of the history's own as JSON values, without its stamp, which the event has."""
    made = adapter_of(type(record)).dump_python(record, mode="json")
    del made["stamp"]
    return made


def own_record(kind: str, value: dict[str, Any], stamp: Stamp) -> Record:
    """Return the record that `own_value` was given; raises `ValueError`."""
    known = KINDS.get(kind)
    if known is None:
        raise ValueError(f"{kind} is not a kind of record that this version knows")
    try:
        return adapter_of(known).validate_python({**value, "stamp": stamp})
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ValueError("; ".join(faults)) from error


@cache
def adapter_of(kind: type[Record]) -> TypeAdapter[Any]:
    """Return what makes JSON of a kind of record, and back."""
    return TypeAdapter(kind)


def _put(put: Put) -> PutRecord | None:
    if put.stamp is None:
        return None
    return PutRecord(put.stamp, put.time_s, put.pv, put.who, put.old, put.new, put.ok, put.reason)


def _state(change: StateChanged) -> StateRecord:
    return StateRecord(
        change.stamp,
        change.time_s,
        change.module,
        change.old.label,
        change.new.label,
        change.transition.label,
        change.origin is Origin.EXTERNAL,
        change.reason,
        change.run,
    )


def _operation(event: OperationEnded) -> OperationRecord:
    return OperationRecord(
        event.stamp,
        event.time_s,
        event.module,
        str(event.operation),
        event.ok,
        event.reason,
        event.code,
        event.duration_s,
        event.who,
        event.run,
    )


def _files(event: RunFiles) -> FilesRecord:
    return FilesRecord(
        event.stamp,
        event.time_s,
        RunRef(event.experiment, event.number),
        event.router,
        event.state,
        event.sources,
        event.files,
        event.data_bytes,
        event.location,
        event.message,
        event.manifest,
    )


def _configs(event: RunConfigs) -> ConfigsRecord:
    """Return the configuration files that a run used, each text once."""
    texts: dict[str, int] = {}
    used = tuple(
        ConfigOf(
            c.module,
            c.part,
            c.name,
            c.source,
            None if c.fault else texts.setdefault(c.text, len(texts)),
            c.fault,
        )
        for c in event.configs
    )
    return ConfigsRecord(
        event.stamp, event.time_s, RunRef(event.experiment, event.number), used, tuple(texts)
    )


def _stopping_text(event: RunStopping) -> str:
    return f"by {event.who}: {event.reason}" if event.reason else f"by {event.who}"
