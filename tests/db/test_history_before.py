"""The upgrade from version 0.1: what its journal still had is in the database once, and nothing twice."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from attpc_plugins.run_history.recording.old_journal import OldJournal, old_record, read_journal
from attpc_plugins.run_history.store.model.history import Moment, Quality, RunChanges, Stage
from attpc_plugins.run_history.store.model.puts import PutFilter
from attpc_plugins.run_history.store.model.records import (
    EditRecord,
    MeasurementRecord,
    Phase,
    RunRecord,
    RunRef,
)

from attpc_ioc.model.command import Who
from attpc_ioc.model.events import OperationEnded, Origin, RunConfigText, RunFiles, StateChanged
from attpc_ioc.model.run import RunClass, RunOutcome
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.model.states import Operation, State, Transition
from tests.support.history import EXPERIMENT, drained, history_rig, reading, service, sql
from tests.support.old_journal import BOOT, frame, line, write_journal
from tests.support.run_records import configs_of, open_store, put_of

T0 = round(time.time()) - 3600.0
"""The retention leaves alone what is of this day."""
REF = {"experiment": EXPERIMENT, "number": 4}


def put(seq: int, text: str = "x") -> bytes:
    return line(
        seq, "put", T0 + seq, pv="ATTPC:Run:Title", who={"user": "ann"}, old="", new=f"{text} {seq}", ok=True
    )


def run(seq: int, phase: str, **facts: Any) -> bytes:
    known = {"ref": REF, "fleet": "fleet-a", "start_commanded_s": T0, "who": {"user": "ann"}} | facts
    return line(seq, "run", T0 + seq, phase=phase, run=known)


def stamp(seq: int) -> Stamp:
    return Stamp("ATTPC:", BOOT, seq)


@pytest.mark.parametrize(
    ("body", "record"),
    [
        (
            put(1),
            put_of(stamp(1), T0 + 1, "ATTPC:Run:Title", Who("ann"), "", "x 1", True),
        ),
        (
            line(2, "edit", 1.0, run=REF, changes={"run_class": 2, "comment": "", "quality": "Good"}),
            EditRecord(
                stamp(2),
                1.0,
                RunRef(EXPERIMENT, 4),
                RunChanges(run_class=RunClass.BEAM, comment="", quality=Quality.GOOD),
            ),
        ),
        (
            line(3, "operation", 1.0, module="cobo0", operation="Start", ok=False, code=4, duration_s=0.5),
            OperationEnded(
                stamp=stamp(3),
                time_s=1.0,
                module="cobo0",
                operation=Operation.START,
                ok=False,
                code=4,
                duration_s=0.5,
            ),
        ),
        (
            line(4, "state", 1.0, module="cobo0", old="Ready", new="Running", external=True, run=REF),
            StateChanged(
                stamp=stamp(4),
                time_s=1.0,
                module="cobo0",
                old=State.READY,
                new=State.RUNNING,
                transition=Transition.NONE,
                origin=Origin.EXTERNAL,
                run=RunRef(EXPERIMENT, 4),
            ),
        ),
        (
            line(5, "files", 1.0, run=REF, router="data0", state="Waiting"),
            RunFiles(
                stamp=stamp(5),
                time_s=1.0,
                experiment=EXPERIMENT,
                number=4,
                router="data0",
                sources=(),
                state="Waiting",
                files=0,
                data_bytes=0,
            ),
        ),
        (
            line(
                6,
                "configs",
                1.0,
                run=REF,
                configs=[
                    {"module": "cobo0", "part": "describe", "name": "cobo0", "source": "file", "text": 0},
                    {"module": "cobo1", "part": "describe", "name": "cobo1", "fault": "gone"},
                ],
                texts=["<Setup/>"],
            ),
            configs_of(
                stamp(6),
                1.0,
                RunRef(EXPERIMENT, 4),
                RunConfigText("cobo0", "describe", "cobo0", "<Setup/>", "file"),
                RunConfigText("cobo1", "describe", "cobo1", fault="gone"),
            ),
        ),
    ],
)
def test_lines_of_the_old_journal_are_understood(body: bytes, record: object) -> None:
    assert old_record(body) == record
    assert repr(old_record(body)) == repr(record)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ({"integer": 1}, 1),
        ({"float": 1.0}, 1.0),
        ({"string": "1"}, "1"),
        ({"float": "-inf"}, -math.inf),
        ({"float": "nan"}, math.nan),
    ],
)
def test_a_measured_value_keeps_its_type(raw: dict[str, Any], value: object) -> None:
    found = old_record(line(1, "measurement", 1.0, run=REF, observable="o", moment="start", value=raw))
    assert isinstance(found, MeasurementRecord)
    assert found.moment is Moment.START
    assert repr(found.value) == repr(value)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b'{"v":1}', b"[" * 100_000, line(1, "dream", 1.0), b"\xff", line(1, "put", 1.0)),
        line(
            1, "configs", 1.0, run=REF, configs=[{"module": "m", "part": "describe", "name": "n", "text": 7}]
        ),
    ],
)
def test_what_is_not_a_record_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        old_record(body)


def test_the_old_journal_is_read_from_where_reading_had_come_to(tmp_path: Path) -> None:
    first = len(frame(put(1)))
    segments = {3: [put(1), put(2)], 4: [put(3)]}
    write_journal(tmp_path, segments, (3, first))
    assert list(read_journal(tmp_path)) == [put(2), put(3)]
    for cursor in ((9, 0), (2, 5), None):
        write_journal(tmp_path, segments, cursor)
        (tmp_path / "cursor").write_bytes(b"" if cursor is None else (tmp_path / "cursor").read_bytes())
        assert list(read_journal(tmp_path)) == [put(1), put(2), put(3)]
    damaged = (tmp_path / "000000000003.jsonl").read_bytes().replace(b"x 1", b"y 1")
    (tmp_path / "000000000003.jsonl").write_bytes(damaged)
    (tmp_path / "000000000004.jsonl").write_bytes(frame(put(3)) + frame(put(4))[:-9])
    (tmp_path / "newer.records").write_bytes(frame(put(7)))
    assert list(read_journal(tmp_path)) == [put(7), put(2), put(3)]


async def test_a_journal_that_was_drained_in_part_counts_once(tmp_path: Path, dsn: str) -> None:
    folder = tmp_path / "state" / "plugins" / "run_history"
    bodies = [put(n) for n in range(1, 1201)]
    write_journal(folder / "journal", {1: bodies[:700], 2: [*bodies[700:], line(9999, "dream", 1.0)]}, None)
    async with open_store(dsn) as store:
        # Of a drain that was killed: its transactions are there, and no file has moved.
        await store.apply_many([old_record(body) for body in bodies[:800]])
        old = OldJournal(folder)
        assert not old.drained
        await old.drain(store, 5.0)
        assert old.drained
        await old.drain(store, 5.0)
        found = (await store.puts(PutFilter(), limit=5000)).puts
    assert sorted(p.new for p in found) == sorted(f"x {n}" for n in range(1, 1201))
    assert not (folder / "journal").exists()
    aside = tmp_path / "state" / "before-0.2" / "run_history" / "journal"
    assert sorted(path.name for path in aside.iterdir()) == ["000000000001.jsonl", "000000000002.jsonl"]
    assert OldJournal(folder).drained


async def test_an_ioc_of_version_01_is_upgraded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """Its last run stopped while the database was away; nothing of it is lost, and no number comes again."""
    folder = tmp_path / "state" / "plugins" / "run_history"
    ended = {"started_s": T0 + 3, "stopped_s": T0 + 60, "outcome": "stopped", "texts": {"title": "the last"}}
    begun = [run(1, "starting"), run(2, "started", started_s=T0 + 3), put(3)]
    write_journal(folder / "journal", {1: [*begun, put(4)], 2: [run(5, "stopped", **ended), put(6)]}, (1, 0))
    (folder / "numbers").write_bytes(frame(json.dumps([EXPERIMENT, 4, "token", T0]).encode()))
    (folder / "instance").write_text("an instance")
    async with open_store(dsn) as store:
        await store.apply_many([old_record(body) for body in begun])
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await drained(it)
        async with reading(dsn) as store:
            detail = await store.run(EXPERIMENT, 4)
            puts = (await store.puts(PutFilter(pv="ATTPC:Run:Title"))).puts
        assert (detail.run.stage, detail.run.outcome) == (Stage.ENDED, RunOutcome.STOPPED)
        assert [event.kind for event in detail.events] == ["starting", "started", "stopped"]
        assert (detail.run.title, detail.run.duration_s) == ("the last", 57.0)
        assert sorted(p.new for p in puts) == ["x 3", "x 4", "x 6"]
        await it.start_run()
        assert it.run.number == 5
        await it.ok("Run:Stop")
        await drained(it)
        assert service(it).writer.rejected == 0
        await it.stop_ioc()
        left = {path.name for path in folder.iterdir()}
        assert not left & {"journal", "numbers", "instance"}
        aside = {path.name for path in (tmp_path / "state" / "before-0.2" / "run_history").iterdir()}
        assert aside == {"journal", "numbers", "instance"}
        await it.start_ioc()
        await drained(it)
        async with sql(dsn) as connection:
            assert await connection.fetchval("SELECT count(*) FROM attpc.runs") == 2
            same = "SELECT count(*) FROM attpc.puts WHERE pv = 'ATTPC:Run:Title'"
            assert await connection.fetchval(same) == 3


def test_facts_of_a_run_in_the_old_journal() -> None:
    body = run(1, "stopped", outcome="interrupted", texts={"run_class": 2}, modules=[{"name": "cobo0"}])
    found = old_record(body)
    assert isinstance(found, RunRecord)
    assert (found.phase, found.run.outcome) == (Phase.STOPPED, RunOutcome.INTERRUPTED)
    assert (found.run.run_class, found.run.started_by) == (RunClass.BEAM, Who("ann"))
    assert found.modules[0].kind == "other"
