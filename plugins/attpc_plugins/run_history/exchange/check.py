"""Checks a run from a file of any format."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime

from attpc_ioc.model.states import Kind
from attpc_plugins.run_history.store.applying.files import digest_of
from attpc_plugins.run_history.store.model.history import FramesCheck, Run, RunChanges, RunDetail, Stage
from attpc_plugins.run_history.store.model.records import Phase
from attpc_plugins.run_history.store.model.values import Bad, shown

NUMBER_MAX = 2**31 - 1

LIMITS = {"experiment": 200, "title": 1000, "operator": 1000, "comment": 65536}
"""Characters of the texts."""

EDIT_LIMITS = LIMITS | {"title": 200, "operator": 200}
"""Characters of the texts that somebody edits; what was recorded before may be longer."""

FIGURES = ("event_count", "missing_events", "resets", "damaged_frames")
"""Counts that may be unknown, of a run and of a router's files."""

OF_RUN = (*FIGURES, "unequal_events")
OF_FILES = ("files", "data_bytes", *FIGURES, "first_event", "last_event", "all_from")

NAME_MAX = 100
"""Characters of an observable's name."""

KINDS = tuple(kind.value for kind in Kind)
EVENTS = (*(phase.value for phase in Phase), "state", "operation")
EDITED = (*(field.name for field in fields(RunChanges)), "value")

PARTS = ("describe", "prepare", "configure")
SOURCES = ("file", "reply")
SHA256 = re.compile(r"[0-9a-f]{64}")

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def checked(detail: RunDetail) -> RunDetail:
    """Return the run as the database can store it; raises `Bad` naming the wrong column.

    It checks what the database demands, so that every export can be imported. A stop before the start is
    accepted, because the clock may have been set back; `doubts` reports it.
    """
    run = detail.run
    if not run.experiment.strip() or any(c in run.experiment for c in "\n\r\t"):
        raise Bad(
            "an experiment's name is a text in one line; give --experiment where there is none", "experiment"
        )
    if not 0 <= run.number <= NUMBER_MAX:
        raise Bad(f"{run.number} is not a run number; they are from 0 to {NUMBER_MAX}", "number")
    for name, limit in LIMITS.items():
        if len(getattr(run, name)) > limit:
            raise Bad(f"has {len(getattr(run, name))} characters; the limit is {limit}", name)
    for name in OF_RUN:
        _demand(_is_count(getattr(run, name)), name, f"{getattr(run, name)} is not a count")
    _stages(run)
    _times(run)
    _details(detail)
    return detail


def check_edited(texts: Mapping[str, str | None]) -> None:
    """Check texts that somebody edits, by their columns; raises `Bad` naming the one that is too long."""
    for name, text in texts.items():
        if text is not None and len(text) > (most := EDIT_LIMITS.get(name, len(text))):
            raise Bad(f"has {len(text)} characters, at most {most} are allowed", name)


def doubts(detail: RunDetail) -> str:
    """Return what is possible in a run but probably a mistake; empty if nothing is."""
    run = detail.run
    if run.started_at is not None and run.stopped_at is not None and run.stopped_at < run.started_at:
        return (
            f"run {run.number} of {run.experiment} stopped ({run.stopped_at.isoformat()}) before it started "
            f"({run.started_at.isoformat()}); it is taken as it is, its duration is 0"
        )
    return ""


def _stages(run: Run) -> None:
    if run.stage is Stage.RESERVED:
        raise Bad("a number that is only reserved is not a run", "stage")
    if (run.stage is Stage.ENDED) != (run.outcome is not None):
        raise Bad("a run has an outcome if, and only if, its stage is ended", "outcome")
    if run.stage is Stage.STARTING and run.started_at is not None:
        raise Bad("a run that is starting has not started", "started_at")
    if run.stage is Stage.RUNNING and run.started_at is None:
        raise Bad("a run that is running has started", "started_at")
    if run.stopped_at is not None and run.stage is not Stage.ENDED:
        raise Bad("a run that has stopped has the stage ended", "stopped_at")


def _times(run: Run) -> None:
    for item in fields(run):
        when = getattr(run, item.name)
        if isinstance(when, datetime) and not EARLIEST <= when < LATEST:
            raise Bad(f"{when.isoformat()} is not from 1970 to 9998", item.name)


def _details(detail: RunDetail) -> None:
    """Check modules, measurements, events and edits against the limits of the database."""
    _once("modules", [module.name for module in detail.modules])
    for at, module in enumerate(detail.modules, 1):
        where = f"entry {at}"
        _demand(bool(module.name), "modules", f"{where}: a module has a name")
        _demand(
            module.kind in KINDS, "modules", f"{where}: kind {module.kind!r} is not one of {', '.join(KINDS)}"
        )
        _demand(_duration(module.transition_s), "modules", f"{where}: transition_s is not a duration")
        _once("modules", [f"{link.source} {link.name}" for link in module.links], where)
        for link in module.links:
            _demand(bool(link.source), "modules", f"{where}: a link has a source")
            _demand(0 <= link.port < 65536, "modules", f"{where}: {link.port} is not a port")
    _once("measurements", [f"{m.observable} at {m.moment.value}" for m in detail.measurements])
    for at, m in enumerate(detail.measurements, 1):
        where, name = f"entry {at}", m.observable
        good = name == name.strip() and 0 < len(name) <= NAME_MAX and not any(c in name for c in "\n\r\t")
        _demand(good, "measurements", f"{where}: {shown(name)} is not a name of an observable")
        _demand(0 <= m.severity <= 3, "measurements", f"{where}: {m.severity} is not a severity")
        _demand(m.value is not None or bool(m.fault), "measurements", f"{where}: neither a value nor a fault")
    for at, event in enumerate(detail.events, 1):
        _demand(event.kind in EVENTS, "events", f"entry {at}: {shown(event.kind)} is not a kind of event")
        _demand(abs(event.code) < 2**31, "events", f"entry {at}: {event.code} is not an error code")
        _demand(_duration(event.duration_s), "events", f"entry {at}: duration_s is not a duration")
    for at, edit in enumerate(detail.edits, 1):
        _demand(
            edit.field in EDITED, "edits", f"entry {at}: {shown(edit.field)} is not a field that is edited"
        )
        named = (edit.field == "value") == bool(edit.observable)
        _demand(named, "edits", f"entry {at}: the edit of a value, and no other, names an observable")
    _once("files", [files.router for files in detail.files])
    for at, files in enumerate(detail.files, 1):
        named = bool(files.router) and bool(files.state)
        _demand(named, "files", f"entry {at}: a router and a state are needed")
        for name in OF_FILES:
            _demand(_is_count(getattr(files, name)), "files", f"entry {at}: {name} is not a count")
        whole = files.frames_check is not FramesCheck.INCOMPLETE
        _demand(whole, "files", f"entry {at}: only a run's frames_check can be incomplete")
    _once("configs", [f"{use.part} of {use.module}" for use in detail.configs])
    for at, use in enumerate(detail.configs, 1):
        _demand(bool(use.module), "configs", f"entry {at}: a configuration has a module")
        _demand(
            use.part in PARTS, "configs", f"entry {at}: {shown(use.part)} is not one of {', '.join(PARTS)}"
        )
        there = bool(use.sha256)
        _demand(there != bool(use.fault), "configs", f"entry {at}: a sha256 or a fault is needed, not both")
        origin = SOURCES if there else ("",)
        _demand(use.source in origin, "configs", f"entry {at}: {shown(use.source)} is not a source of a text")
        if there:
            _demand(bool(SHA256.fullmatch(use.sha256)), "configs", f"entry {at}: it is not a SHA-256")
        if use.text is not None:
            right = digest_of(use.text) == use.sha256
            _demand(right, "configs", f"entry {at}: the text is not the one of its sha256")
    _all_times(detail)


def _all_times(detail: RunDetail) -> None:
    for name, times in (
        ("measurements", [t for m in detail.measurements for t in (m.measured_at, m.stamped_at)]),
        ("events", [event.happened_at for event in detail.events]),
        ("edits", [edit.edited_at for edit in detail.edits]),
        ("files", [files.told_at for files in detail.files]),
        ("configs", [use.told_at for use in detail.configs]),
    ):
        for when in times:
            _demand(when is None or EARLIEST <= when < LATEST, name, f"{when} is not from 1970 to 9998")


def _is_count(value: int | None) -> bool:
    return value is None or 0 <= value < 2**63


def _duration(took_s: float | None) -> bool:
    return took_s is None or 0 <= took_s < math.inf


def _demand(holds: bool, column: str, text: str) -> None:
    if not holds:
        raise Bad(text, column)


def _once(column: str, names: list[str], where: str = "") -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Bad(f"{f'{where}: ' if where else ''}{shown(twice[0])} occurs twice", column)
