"""Rows of the database as dataclasses, and the columns that they need."""

from __future__ import annotations

from typing import Any

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass, RunOutcome
from attpc_plugins.run_history.store.model.history import (
    ConfigUse,
    Edit,
    Event,
    Link,
    Measurement,
    Module,
    Moment,
    Observable,
    Quality,
    RouterFiles,
    Run,
    Stage,
    Value,
    ValueKind,
)

RUN_COLUMNS = """
    r.id, e.name AS experiment, r.number, r.state, r.run_class, r.title, r.operator, r.comment, r.quality,
    r.fleet, r.ioc, r.reserved_at, r.start_commanded_at, r.started_at, r.last_running_at,
    r.stop_commanded_at, r.stopped_at, r.started_by_user, r.started_by_host, r.started_by_address,
    r.stopped_by_user, r.stopped_by_host, r.stopped_by_address, r.outcome, r.reason, r.adopted,
    r.config_name, r.listed_at
"""
RUNS_FROM = "attpc.runs r JOIN attpc.experiments e ON e.id = r.experiment_id"

CLASSES: dict[str, RunClass] = {run_class.label: run_class for run_class in RunClass}
"""Run classes by the words that the database has."""


def run_of(row: Any) -> Run:
    """Return the run of a row with `RUN_COLUMNS`."""
    return Run(
        experiment=row["experiment"],
        number=row["number"],
        stage=Stage(row["state"]),
        run_class=CLASSES[row["run_class"]],
        title=row["title"],
        operator=row["operator"],
        comment=row["comment"],
        quality=Quality(row["quality"]),
        fleet=row["fleet"],
        ioc=row["ioc"],
        reserved_at=row["reserved_at"],
        start_commanded_at=row["start_commanded_at"],
        started_at=row["started_at"],
        last_running_at=row["last_running_at"],
        stop_commanded_at=row["stop_commanded_at"],
        stopped_at=row["stopped_at"],
        started_by=Who(row["started_by_user"], row["started_by_host"], row["started_by_address"]),
        stopped_by=Who(row["stopped_by_user"], row["stopped_by_host"], row["stopped_by_address"]),
        outcome=None if row["outcome"] is None else RunOutcome(row["outcome"]),
        reason=row["reason"],
        adopted=row["adopted"],
        config_name=row["config_name"],
    )


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
