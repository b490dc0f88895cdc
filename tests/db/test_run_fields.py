"""Every field of a run, whatever fields there are: through store, files, import and recovery."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, fields, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from attpc_plugins.run_history.exchange import csv_file, json_file
from attpc_plugins.run_history.exchange.source import RunFile
from attpc_plugins.run_history.recording.facts import info_of, modules_of, run_of
from attpc_plugins.run_history.recording.translate import own_record, own_value
from attpc_plugins.run_history.store.model.history import (
    FramesCheck,
    RouterFiles,
    Run,
    RunChanges,
    RunDetail,
    Stage,
)
from attpc_plugins.run_history.store.model.records import EditRecord, Phase, RunRecord, RunRef
from pydantic import TypeAdapter

from attpc_ioc.model.command import Who
from attpc_ioc.model.events import RunFiles
from attpc_ioc.model.run import RunInfo, RunTexts
from tests.support.postgres import Databases
from tests.support.run_records import MODULES, T0, Stamps, follow, open_store

BEGIN = datetime.fromtimestamp(T0, UTC)


def other(cls: type[Any], name: str, hint: Any) -> Any:
    """A value of a field that is not its default."""
    (kind, *_) = [kind for kind in (get_args(hint) or (hint,)) if kind is not NoneType]
    default = {item.name: item.default for item in fields(cls)}[name]
    if get_origin(hint) is tuple:
        return (f"a {name}",)
    if kind is Who:
        return Who(f"user of {name}", f"host of {name}", "10.0.0.1:1")
    if issubclass(kind, Enum):
        return next(member for member in reversed(kind) if member != default)
    values = {str: f"a {name}", int: 7, bool: default is not True, float: 1.5}
    # Times are in the order of the fields.
    place = [item.name for item in fields(cls)].index(name)
    return BEGIN + timedelta(seconds=place) if kind is datetime else values[kind]


RUN = Run(**{name: other(Run, name, hint) for name, hint in get_type_hints(Run).items()})
FILES = RouterFiles(
    **{name: other(RouterFiles, name, hint) for name, hint in get_type_hints(RouterFiles).items()}
)


def differs(value: Any, names: set[str] | None = None) -> list[str]:
    """The fields that have their default, of all or of these."""
    return [
        item.name
        for item in fields(value)
        if (names is None or item.name in names)
        and item.default is not MISSING
        and getattr(value, item.name) == item.default
    ]


def test_the_run_has_no_default() -> None:
    assert differs(RUN) == differs(FILES) == []
    assert RUN.stage is Stage.ENDED


async def test_from_event_to_database(dsn: str) -> None:
    """What the core and people report is in the database, and so it is after a restart of the program."""
    stamps = Stamps(ioc=RUN.ioc)
    changes = {item.name: getattr(RUN, item.name) for item in fields(RunChanges)}
    ref = RunRef(RUN.experiment, RUN.number)
    core = replace(RUN, comment="", quality=Run("", 0, Stage.ENDED).quality)
    assert RUN.reserved_at is not None
    records = (
        RunRecord(stamps(), RUN.reserved_at.timestamp(), Phase.STOPPED, core, modules=MODULES),
        EditRecord(stamps(), T0 + 100, ref, RunChanges(**changes)),
    )
    async with open_store(dsn) as store:
        for record in records:
            # As the event log keeps what the history makes itself.
            kept = own_record(record.KIND, own_value(record), record.stamp)
            assert kept == record
            assert (await follow(store, kept)).new == 1
        assert (await store.run(RUN.experiment, RUN.number)).run == RUN


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
async def test_from_database_to_file_to_database(database: Databases, tmp_path: Path, kind: str) -> None:
    detail = RunDetail(RUN, MODULES, files=(FILES,))
    async with database() as first, database() as second:
        async with open_store(first) as store:
            await store.import_runs([detail])
            found = await store.run(RUN.experiment, RUN.number)
        assert found == detail
        file = tmp_path / f"runs.{kind}"
        rows = csv_file.header_text() + csv_file.run_text(found)
        text = rows if kind == "csv" else json_file.run_line(found)
        file.write_text(text, encoding="utf-8", newline="")
        async with open_store(second) as store:
            await store.import_runs(RunFile(file).runs())
            assert await store.run(RUN.experiment, RUN.number) == detail


async def test_what_is_told_of_files_is_in_the_database(dsn: str) -> None:
    """Every field of the event has one in the history, under the same name; a check is there in words."""
    stamps = Stamps()
    about = {"experiment": RUN.experiment, "number": RUN.number, "time_s": FILES.told_at.timestamp()}
    known = {name: value for name, value in asdict(FILES).items() if name != "told_at"}
    del known["frames_check"]
    event = RunFiles(stamp=stamps(), **about, **known, checked=False)
    assert FILES.frames_check is FramesCheck.FAULTS
    assert {item.name for item in fields(RunFiles)} == {"stamp", "checked", *about, *known}
    kept = json.loads(json.dumps(TypeAdapter(RunFiles).dump_python(event, mode="json")))
    async with open_store(dsn) as store:
        await store.import_runs([RunDetail(RUN, MODULES)])
        await follow(store, TypeAdapter(RunFiles).validate_python(kept))
        found = await store.run(RUN.experiment, RUN.number)
    assert found.files == (FILES,)
    shared = {item.name for item in fields(Run)} & known.keys()
    assert {name: getattr(found.run, name) for name in shared} == {name: known[name] for name in shared}
    assert found.run.files_state == FILES.state


def test_from_database_to_the_core_and_back() -> None:
    """A core that has lost its state goes on with the run of the database, and loses nothing of it."""
    info = info_of(RunDetail(RUN, tuple(replace(module, lost=True) for module in MODULES)))
    assert differs(info) == []
    assert differs(info.texts) == []
    back = run_of(info, RUN.stage, modules_of(info, ()), fleet=RUN.fleet)
    known = {item.name for kind in (RunInfo, RunTexts) for item in fields(kind)}
    known |= {"start_commanded_at", "started_at", "last_running_at", "stopped_at", "started_by", "fleet"}
    shared = [item.name for item in fields(Run) if item.name in known]
    assert {name: getattr(back, name) for name in shared} == {name: getattr(RUN, name) for name in shared}
