"""Rows of the database as dataclasses, and the columns that they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_type_hints

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass
from attpc_plugins.run_history.store.connections import TEXTS_MAX, clean
from attpc_plugins.run_history.store.model.history import (
    ConfigUse,
    Edit,
    Event,
    Link,
    Measurement,
    Module,
    Moment,
    Observable,
    RouterFiles,
    Run,
    Stage,
)
from attpc_plugins.run_history.store.model.values import Value, ValueKind

CLASSES: dict[str, RunClass] = {run_class.label: run_class for run_class in RunClass}
"""Run classes by the words that the database has."""

TEXT_MAX = {"title": 1000, "operator": 1000}
"""Characters of the texts of a run that are shorter than others."""

WHO = ("user", "host", "address")


def values_of(run: Run) -> dict[str, Any]:
    """Return what the columns of `attpc.runs` get of a run, but for its experiment, which has a table.

    A column has the name of its field, and `state` that of the stage; who did something has three.
    """
    values: dict[str, Any] = {}
    for item in fields(Run):
        value, column = getattr(run, item.name), _column(item.name)
        match value:
            case Who():
                values |= {f"{column}_{part}": clean(getattr(value, part)) for part in WHO}
            case RunClass():
                values[column] = value.label
            case Enum():
                values[column] = value.value
            case str():
                values[column] = clean(value, TEXT_MAX.get(item.name, TEXTS_MAX))
            case _:
                values[column] = value
    del values["experiment"]
    return values


def run_of(row: Any) -> Run:
    """Return the run of a row with `RUN_COLUMNS`."""
    return Run(**{name: read(row) for name, read in _READERS.items()})


def _column(name: str) -> str:
    return "state" if name == "stage" else name


def _reader(name: str, hint: Any) -> Callable[[Any], Any]:
    column = _column(name)
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    (kind,) = kinds
    if kind is Who:
        return lambda row: Who(*(row[f"{column}_{part}"] for part in WHO))
    if kind is RunClass:
        return lambda row: CLASSES[row[column]]
    if issubclass(kind, Enum):
        return lambda row: None if row[column] is None else kind(row[column])
    return lambda row: row[column]


_READERS = {name: _reader(name, hint) for name, hint in get_type_hints(Run).items()}

VALUE_COLUMNS = tuple(values_of(Run("", 0, Stage.ENDED)))
RUN_COLUMNS = f"r.id, e.name AS experiment, {', '.join(f'r.{name}' for name in VALUE_COLUMNS)}, r.listed_at"
RUNS_FROM = "attpc.runs r JOIN attpc.experiments e ON e.id = r.experiment_id"


def module_of(row: Any, links: tuple[Link, ...]) -> Module:
    """Return a member of a run, of a row of `run_modules`."""
    return Module(
        name=row["name"],
        kind=row["kind"],
        url=row["url"],
        describe=row["describe"],
        prepare=row["prepare"],
        configure=row["configure"],
        transition_s=row["transition_s"],
        lost=row["lost"],
        links=links,
    )


def link_of(row: Any) -> Link:
    """Return a data link, of a row of `run_links`."""
    return Link(row["source"], row["name"], row["address"], row["port"], row["type"])


def event_of(row: Any) -> Event:
    """Return an event, of a row of `events`."""
    return Event(
        happened_at=row["happened_at"],
        kind=row["kind"],
        module=row["module"],
        text=row["text"],
        ok=row["ok"],
        external=row["external"],
        code=row["code"],
        duration_s=row["duration_s"],
    )


def edit_of(row: Any) -> Edit:
    """Return an edit, of a row of `run_edits`."""
    return Edit(
        field=row["field"],
        value=row["value"],
        edited_at=row["edited_at"],
        edited_by=row["edited_by"],
        old=row["old_value"],
        observable=row["observable"],
    )


def observable_of(row: Any) -> Observable:
    """Return an observable, of a row of `observables`."""
    return Observable(
        name=row["name"],
        kind=ValueKind(row["kind"]),
        units=row["units"],
        comment=row["comment"],
        pv=row["pv"],
        removed=row["removed_at"] is not None,
    )


def value_of(row: Any) -> Value | None:
    """Return the value of a row with `kind` and the three value columns; None where there is none."""
    kind = row["kind"]
    return None if kind is None else row[f"{kind}_value"]


def measurement_of(row: Any) -> Measurement:
    """Return a measurement, of a row of `measurements` with the observable's name as `observable`."""
    return Measurement(
        observable=row["observable"],
        moment=Moment(row["moment"]),
        measured_at=row["measured_at"],
        value=value_of(row),
        units=row["units"],
        severity=row["severity"],
        pv=row["pv"],
        stamped_at=row["stamped_at"],
        carried=row["carried"],
        fault=row["fault"],
        entered_by=row["entered_by"],
    )


def files_of(row: Any) -> RouterFiles:
    """Return what became of a router's files."""
    return RouterFiles(
        router=row["router"],
        state=row["state"],
        told_at=row["told_at"],
        sources=tuple(row["sources"]),
        files=row["files"],
        data_bytes=row["data_bytes"],
        location=row["location"],
        message=row["message"],
        manifest=row["manifest"],
    )


def config_of(row: Any) -> ConfigUse:
    """Return a configuration file of a run, without its text."""
    return ConfigUse(
        module=row["module"],
        part=row["part"],
        name=row["name"],
        told_at=row["told_at"],
        source=row["source"],
        sha256=row["sha256"] or "",
        fault=row["fault"],
    )
