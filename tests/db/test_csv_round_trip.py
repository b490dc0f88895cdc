"""What is exported is imported exactly: through files, and from one database to another."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
from contextlib import aclosing
from pathlib import Path

import pytest
from attpc_plugins.run_history.exchange import csv_file, json_file
from attpc_plugins.run_history.exchange.number_set import NumberSet
from attpc_plugins.run_history.exchange.source import Format, RunFile
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import RunDetail
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.histories import run_details
from tests.support.postgres import Databases
from tests.support.thorough import examples

SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def exported(details: list[RunDetail], kind: Format) -> str:
    if kind is Format.JSON:
        return "".join(json_file.run_line(detail) for detail in details)
    return csv_file.header_text() + "".join(csv_file.run_text(detail) for detail in details)


def same(one: RunDetail, other: RunDetail) -> bool:
    """Return whether runs are equal; `repr` because a value may be no number, which equals nothing."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("kind", [Format.CSV, Format.JSON])
@given(details=st.lists(run_details(), max_size=4, unique_by=lambda d: (d.run.experiment, d.run.number)))
@settings(SHARED, max_examples=examples(25, 60))
def test_through_a_file(tmp_path: Path, kind: Format, details: list[RunDetail]) -> None:
    file = tmp_path / "runs"
    file.write_text(exported(details, kind), encoding="utf-8", newline="")
    source = RunFile(file) if details or kind is Format.CSV else RunFile(file, kind)
    assert source.format is kind
    assert source.check().count == len(details)
    assert list(map(repr, source.runs())) == list(map(repr, details))


@given(detail=run_details())
@settings(SHARED, max_examples=examples(20, 50))
def test_other_programs_read_the_same(detail: RunDetail) -> None:
    text = csv_file.header_text() + csv_file.run_text(detail)
    (row,) = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    # An apostrophe may be in front, so that no spreadsheet takes the cell for a formula.
    title, comment = csv_file.plain_text(row["title"]), csv_file.plain_text(row["comment"])
    assert (title, comment) == (detail.run.title, detail.run.comment)
    assert row["number"] == str(detail.run.number)
    if detail.measurements:
        assert [m["observable"] for m in json.loads(row["measurements"])] == [
            m.observable for m in detail.measurements
        ]
    assert "\n" not in json_file.run_line(detail)[:-1]


def test_the_header_is_stable() -> None:
    assert csv_file.header_text() == (
        "experiment,number,class,title,operator,comment,quality,started_at,stopped_at,duration_s,outcome,reason,"
        "members,lost,config_name,stage,reserved_at,start_commanded_at,last_running_at,stop_commanded_at,"
        "started_by,started_by_host,started_by_address,stopped_by,stopped_by_host,stopped_by_address,adopted,"
        "fleet,ioc,modules,measurements,events,edits,files,configs,"
        "files_state,event_count,missing_events,resets,damaged_frames,sync,unequal_events,frames_check\n"
    )


@given(
    details=st.lists(
        run_details(), min_size=1, max_size=8, unique_by=lambda d: (d.run.experiment, d.run.number)
    )
)
@settings(SHARED, max_examples=8)
def test_from_one_database_to_another(database: Databases, tmp_path: Path, details: list[RunDetail]) -> None:
    async def export(store: Store, kind: Format) -> str:
        async with aclosing(store.stream()) as runs:
            return exported([detail async for detail in runs], kind)

    async def work() -> None:
        async with database() as first, database() as second:
            one, other = await Store.connect(first), await Store.connect(second)
            try:
                await one.import_runs(details)
                for kind in (Format.CSV, Format.JSON):
                    text = await export(one, kind)
                    file = tmp_path / f"runs.{kind}"
                    file.write_text(text, encoding="utf-8", newline="")
                    source = RunFile(file)
                    assert source.check().count == len(details)
                    for detail in details:
                        found = await one.run(detail.run.experiment, detail.run.number)
                        assert same(csv_file.in_order(found), detail)
                await other.import_runs(RunFile(tmp_path / "runs.csv").runs())
                assert await export(other, Format.JSON) == await export(one, Format.JSON)
            finally:
                await one.close()
                await other.close()

    asyncio.run(work())


@given(st.lists(st.integers(0, 2**31 - 1) | st.integers(65500, 65600), max_size=60))
def test_sets_of_numbers(numbers: list[int]) -> None:
    found = NumberSet()
    assert [found.add(n) for n in numbers] == [n not in numbers[:at] for at, n in enumerate(numbers)]
    assert list(found) == sorted(set(numbers))
    assert len(found) == len(set(numbers))
    assert [n for first, last in found.ranges() for n in range(first, last + 1)] == sorted(set(numbers))
    assert all(b[0] > a[1] + 1 for a, b in itertools.pairwise(found.ranges()))
