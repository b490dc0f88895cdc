"""The shell command that lists puts: who wrote what to which PV, and what became of it."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attpc_plugins.run_history.store.model.history import Run, RunDetail, Stage

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunOutcome
from tests.support.history_shell import Shell
from tests.support.run_records import Stamps, open_store, put_of

BEGIN = datetime(2026, 3, 2, 9, 59, tzinfo=UTC)
"""A minute before run 2 of e1, which is on until 11:00 of the next day."""

ANN, BOB = Who("ann", "console1", "10.0.0.1:40000"), Who("bob", "console2", "10.0.0.2:40000")
OVER_PVA, BY_WEB = (Who("eve", "10.0.0.3", "10.0.0.3:40000", via) for via in ("pva", "web"))

PUTS = (
    (0, "T:Run:Title", ANN, "", "before, the run", True, ""),
    (70, "T:Run:Start", ANN, "Done", "Run", True, ""),
    (120, "T:Run:Title.DESC", BOB, "Title", "x", False, "no write access"),
    (180, "T:Ecc:cobo0:Enable", BOB, "Yes", "No", False, "a run is on"),
    (240, "T:RunXTitle", BOB, "a", "b", True, ""),
    (90_062, "T:Run:Stop", BOB, "Done", "Stop", True, ""),
    (90_100, "T:Run:Title", BOB, "a", "after", True, ""),
)
"""When, in seconds after `BEGIN`; PV, who, old, new, ok, reason. The run stops at 90,060 s."""


@pytest.fixture
def audited(full: Shell, dsn: str) -> Shell:
    async def fill() -> None:
        stamps = Stamps()
        async with open_store(dsn) as store:
            await store.apply_many([put_of(stamps(), BEGIN.timestamp() + s, *rest) for s, *rest in PUTS])

    asyncio.run(fill())
    return full


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [6, 5, 4, 3, 2, 1, 0]),
        (["--limit", "2"], [6, 5]),
        (["--pv", "T:Run:Title"], [6, 0]),
        (["--pv", "T:Run:*"], [6, 5, 2, 1, 0]),
        (["--pv", "*Run?Title"], [6, 4, 0]),
        (["--pv", "T:Run_Title*"], []),
        (["--pv", "%"], []),
        (["--pv", "*Title*", "--failed"], [2]),
        (["--failed"], [3, 2]),
        (["--who", "ann"], [1, 0]),
        (["--who", "bob@console2", "--failed"], [3, 2]),
        (["--who", "@console1"], [1, 0]),
        (["--who", "bob@console1"], []),
        (["--since", "2026-03-02T10:01:00Z", "--until", "2026-03-02T10:02:00+00:00"], [2]),
        (["--run", "e1:2"], [5, 4, 3, 2, 1]),
        (["--run", "e1:2", "--who", "ann"], [1]),
        (["--run", "e1:1"], []),
        (["--run", "e1:3"], [6, 5]),
    ],
)
def test_filters(audited: Shell, options: list[str], found: list[int]) -> None:
    text = audited.run("history", "puts", "--format", "csv", *options)
    rows = list(csv.DictReader(io.StringIO(text)))
    told = [datetime.fromisoformat(row["put_at"]) for row in rows]
    assert told == [BEGIN + timedelta(seconds=PUTS[n][0]) for n in found]
    assert [(row["pv"], row["new"]) for row in rows] == [(PUTS[n][1], PUTS[n][4]) for n in found]
    lines = audited.run("history", "puts", "--format", "json", *options).splitlines()
    assert [json.loads(line)["pv"] for line in lines] == [PUTS[n][1] for n in found]
    assert len(audited.run("history", "puts", *options).splitlines()) == len(found) + 1


def test_what_is_shown_of_a_put(audited: Shell) -> None:
    (row,) = csv.DictReader(io.StringIO(audited.run("history", "puts", "--format", "csv", "--pv", "*.DESC")))
    assert {name: row[name] for name in ("user", "host", "address", "old", "new", "ok", "reason")} == {
        "user": "bob",
        "host": "console2",
        "address": BOB.address,
        "old": "Title",
        "new": "x",
        "ok": "no",
        "reason": "no write access",
    }
    (line,) = audited.run("history", "puts", "--format", "json", "--pv", "*.DESC").splitlines()
    put = json.loads(line)
    assert (put["who"], put["ok"], put["reason"]) == (
        {"user": "bob", "host": "console2", "address": BOB.address},
        False,
        "no write access",
    )
    shown = audited.run("history", "puts", "--run", "e1:2").splitlines()
    assert shown[0].split() == ["time", "PV", "old", "new", "by", "from", "protocol", "outcome"]
    assert shown[1].split() == [
        *("2026-03-03", "11:00:02", "T:Run:Stop", "Done", "Stop", "bob@console2", BOB.address, "ca", "ok")
    ]
    assert "failed: a run is on" in shown[3]


async def test_the_protocol_of_a_put(audited: Shell, dsn: str) -> None:
    """Channel Access is what clients come by that name none; of old rows it is not known."""
    later_s = BEGIN.timestamp() + 200_000
    async with open_store(dsn) as store:
        stamps = Stamps("protocols")
        await store.apply_many(
            [
                put_of(stamps(), later_s + number, "T:By", who, "", "x", True, "")
                for number, who in enumerate((ANN, OVER_PVA, BY_WEB))
            ]
        )
        async with store._use() as connection:
            await connection.execute(
                "INSERT INTO attpc.puts (put_at, pv, ok) VALUES (to_timestamp($1), 'T:By', true)", later_s - 1
            )
    words = ("history", "puts", "--pv", "T:By")
    text = await asyncio.to_thread(audited.run, *words, "--format", "csv")
    by_csv = [row["protocol"] for row in csv.DictReader(io.StringIO(text))]
    text = await asyncio.to_thread(audited.run, *words, "--format", "json")
    by_json = [json.loads(line).get("protocol", "") for line in text.splitlines()]
    text = await asyncio.to_thread(audited.run, *words)
    at = text.index("protocol")
    by_table = [line[at : at + 8].strip() for line in text.splitlines()[1:]]
    assert by_csv == by_json == by_table == ["web", "pva", "ca", ""]


async def test_a_run_that_is_on_has_all_puts_since_its_start(
    audited: Shell, dsn: str, tmp_path: Path
) -> None:
    """One whose end nobody knows has those until the next run's start."""
    runs = tmp_path / "on.csv"
    runs.write_text(
        "experiment,number,started_at\ne8,1,2026-03-02T10:02:30Z\ne9,1,2026-12-01T00:00:00Z\n",
    )
    await asyncio.to_thread(audited.run, "history", "import", runs)
    later = datetime(2026, 12, 9, tzinfo=UTC).timestamp()
    async with open_store(dsn) as store:
        await store.apply_many([put_of(Stamps("later")(), later, "T:Late", ANN, "", "x", True, "")])
    for run, found in (("e8:1", ["T:RunXTitle"]), ("e9:1", ["T:Late"]), ("e2:1", [])):
        text = await asyncio.to_thread(audited.run, "history", "puts", "--format", "json", "--run", run)
        assert [json.loads(line)["pv"] for line in text.splitlines()] == found


def test_more_than_are_listed_is_reported(audited: Shell) -> None:
    result = audited.call("history", "puts", "--limit", 3)
    assert result.stderr == "these are the newest 3; there are more (--limit)\n"
    assert audited.call("history", "puts", "--limit", 0).stderr == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "soon"], "'soon' is not a time"),
        (["--since", "2026-03-03", "--until", "2026-03-02"], "2026-03-03 is not before --until 2026-03-02"),
        (["--run", "e1:9"], "no run 9"),
        (["--run", "e1:x"], "'x' is not a run number"),
        (["--run", "1"], "no experiment is current"),
    ],
)
def test_what_is_refused(audited: Shell, options: list[str], said: str) -> None:
    assert said in audited.fails("history", "puts", *options)


async def test_the_puts_of_a_run_are_those_of_its_ioc(audited: Shell, dsn: str) -> None:
    """Two IOCs on one database: puts to the other are not of this run, nor are its runs an end."""
    begin_s = datetime(2026, 5, 1, tzinfo=UTC).timestamp()
    stamps = {ioc: Stamps("boot-of-two", ioc) for ioc in ("ONE:", "TWO:")}

    def run(ioc: str, number: int, start_s: float, stop_s: float | None) -> RunDetail:
        def time(seconds: float) -> datetime:
            return datetime.fromtimestamp(begin_s + seconds, UTC)

        ended = stop_s is not None
        return RunDetail(
            Run(
                "two",
                number,
                Stage.ENDED if ended else Stage.RUNNING,
                started_at=time(start_s),
                stopped_at=None if stop_s is None else time(stop_s),
                outcome=RunOutcome.STOPPED if ended else None,
                ioc=ioc,
            )
        )

    async with open_store(dsn) as store:
        await store.import_runs(
            [
                run("ONE:", 1, 0, 100),
                run("TWO:", 2, 10, None),
                run("ONE:", 3, 200, 300),
                run("TWO:", 4, 400, 500),
            ]
        )
        await store.apply_many(
            [
                put_of(stamps[ioc](), begin_s + at_s, f"{ioc}Run:Title", ANN, "", f"{at_s}", True, "")
                for at_s in (50, 250, 450)
                for ioc in stamps
            ]
        )
    for number, found in (
        (1, ["ONE:50"]),
        (2, ["TWO:250", "TWO:50"]),  # without an end: until that IOC's next run, not the other's
        (3, ["ONE:250"]),
        (4, ["TWO:450"]),
    ):
        text = await asyncio.to_thread(
            audited.run, "history", "puts", "--format", "json", "--run", f"two:{number}"
        )
        puts = [json.loads(line) for line in text.splitlines()]
        assert [f"{put['ioc']}{put['new']}" for put in puts] == found
