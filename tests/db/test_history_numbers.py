"""Run numbers and the lease: two IOCs on one database and one experiment, two on one fleet."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from attpc_plugins.run_history.numbers.reserved import RECENT, Reserved, ReservedNumbers
from attpc_plugins.run_history.store.model.leases import Holder

from attpc_ioc.control.runs.numbers import set_next_number
from attpc_ioc.model.states import State
from tests.support.fakecontext import FakeContext
from tests.support.history import (
    EXPERIMENT,
    connected,
    drained,
    history_rig,
    message,
    reading,
    service,
    sql,
    until,
)
from tests.support.postgres import Databases
from tests.support.rig import Rig

OWNER = """
import asyncio, sys
from pathlib import Path
from attpc_ioc.log import get_logger
from attpc_ioc.plugin.faults import Faults
from attpc_plugins.run_history.supervisor import Supervisor
from attpc_plugins.run_history.numbers.owner import NumberOwner
from attpc_plugins.run_history.numbers.reserved import ReservedNumbers
from attpc_plugins.run_history.settings import RunHistorySettings
from tests.support.fakecontext import FakeContext, FixedPlace

async def main(dsn, folder, fleet):
    ctx = FakeContext(Path(folder), f"T{fleet}:")
    faults = Faults("run history", get_logger("test"), lambda text, bad: None)
    supervisor = Supervisor(lambda: FixedPlace(dsn), faults, ())
    task = asyncio.create_task(supervisor.run())
    owner = NumberOwner(ctx, RunHistorySettings(), supervisor, faults, ReservedNumbers(ctx),
                        fleet=fleet, boot=fleet)
    assert await supervisor.connected(20)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    # An IOC starts one run after the other.
    numbers = [await owner.reserve("e20009") for _ in range(100)]
    print(*numbers, flush=True)
    task.cancel()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_iocs_reserve_a_hundred_numbers_each_at_once(tmp_path: Path, dsn: str) -> None:
    children = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            OWNER,
            dsn,
            str(tmp_path / name),
            name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        children.append(child)
    given: list[list[int]] = []
    for child in children:
        assert child.stdout is not None
        assert (await child.stdout.readline()).strip() == b"ready"
    for child in children:
        assert child.stdin is not None
        child.stdin.write(b"go\n")
        await child.stdin.drain()
    for child in children:
        assert child.stdout is not None
        given.append([int(word) for word in (await child.stdout.read()).split()])
        assert await child.wait() == 0
    a, b = given
    assert len(set(a)) == len(set(b)) == 100
    assert sorted(a + b) == list(range(200)), "distinct, and without a gap"
    assert max(min(a), min(b)) < 150, "they were at it at the same time"


async def test_an_emptied_database_never_gives_a_number_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Databases
) -> None:
    async with database() as dsn, history_rig(tmp_path, monkeypatch, dsn) as it:
        for number in range(2):
            await it.start_run()
            assert it.run.number == number
            await it.ok("Run:Stop")
        await drained(it)
        async with sql(dsn) as connection:

            async def emptied() -> bool:
                # It locks table after table, and so does what the IOC reads just then: one gives way.
                with contextlib.suppress(asyncpg.DeadlockDetectedError):
                    await connection.execute("TRUNCATE attpc.experiments CASCADE")
                    return True
                return False

            await until(emptied, 20.0, "the database emptied")
        await it.ok("Run:Start")
        assert it.run.number == 2
        await it.ok("Run:Stop")
        await drained(it)
        async with reading(dsn) as store:
            assert [run.number for run in await store.last_runs()] == [2]


async def test_a_number_that_an_operator_set_counts_here_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        await it.ok("Run:Stop")
        await drained(it)
        experiment = it.run.experiment
        await it.stop_ioc()
        await set_next_number(tmp_path / "state", experiment, 124)
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.until(lambda: it.run.next_number == 124 and not it.run.checklist, what="the database")
        assert await it.get("Run:NextNumber_RBV") == "124"
        await it.ok("Run:Start")
        assert it.run.number == 124
        await it.ok("Run:Stop")


async def test_a_number_is_given_back_when_no_module_may_have_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.take_to(State.READY)
        it.fleet["mutant"].faults.fail("Configure")
        await it.put("Run:Start")
        assert "was released" in await it.get_text("Run:Message_RBV")
        it.fleet["mutant"].faults.clear()
        await drained(it)
        async with reading(dsn) as store:
            assert not await store.last_runs()
            assert await store.next_number(EXPERIMENT) == 0
        await it.until(lambda: it.run.next_number == 0, what="the same number again")
        await it.ok("GoTo", "Prepared")
        await it.start_run()
        assert it.run.number == 0
        await it.ok("Run:Stop")


def test_reserved_numbers_are_kept_and_know_their_starts(tmp_path: Path) -> None:
    rows = FakeContext(tmp_path)
    numbers = ReservedNumbers(rows)
    assert numbers.at_least("e") == 0
    numbers.use(Reserved("e", 4, "token", 10.0))
    again = ReservedNumbers(rows)
    assert again.at_least("e") == 5
    assert again.at_least("other") == 0
    assert again.attempt_of("e", 4, 11.0) == "token"
    again.give_back("e", 3)
    assert again.at_least("e") == 5, "only the last can be given back"
    again.give_back("e", 4)
    assert again.at_least("e") == 4
    again.use(Reserved("e", 4, "second", 20.0))
    third = ReservedNumbers(rows)
    assert third.attempt_of("e", 4, 21.0) == "second"
    assert third.attempt_of("e", 4, 12.0) == "token", "a late event is of the start that it belongs to"
    for number in range(5, 200):
        third.use(Reserved("e", number, f"start {number}", 20.0 + number))
    last = ReservedNumbers(rows)
    assert (last.attempt_of("e", 150, 300.0), last.attempt_of("e", 5, 300.0)) == ("start 150", "")
    assert len([key for key, value in rows.rows.items() if value is not None]) == 1 + RECENT


async def test_the_built_in_owner_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, section="first_number = 7") as it:
        await it.until(lambda: it.run.next_number == 7, what="the first number")
        await it.start_run()
        assert it.run.number == 7
        await it.ok("Run:Stop")
        built_in = it.app.host.plugins["run_numbers"].plugin
        assert built_in.next(EXPERIMENT) == 8  # type: ignore[attr-defined]


async def test_the_first_number_of_the_runs_section_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, run="first_number = 7") as it:
        await it.until(lambda: it.run.next_number == 7, what="the first number")
        await it.start_run()
        assert it.run.number == 7
        await it.ok("Run:Stop")
        assert it.run.next_number == 8


@contextlib.asynccontextmanager
async def other_ioc(dsn: str, it: Rig, ttl_s: float) -> AsyncIterator[Holder]:
    """Hold the lease of a rig's fleet, as another IOC on another host."""
    holder = Holder("OTHER:", "console2", "its boot", "its instance")
    fleet = service(it).lease.fleet
    async with reading(dsn) as store:
        async with sql(dsn) as connection:
            await connection.execute("DELETE FROM attpc.leases")
        assert (await store.acquire_lease(fleet, holder, ttl_s=ttl_s)).ours
        yield holder
        await store.release_lease(fleet, holder)


async def test_a_second_ioc_on_a_fleet_is_passive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, section="lease_s = 3") as it:
        await it.take_to(State.READY)
        async with other_ioc(dsn, it, 60.0):
            await it.until(lambda: "OTHER: on console2" in message(it), what="the first named")
            await it.refused("Run:Start", because="OTHER: on console2 commands this fleet")
            await it.refused("GoTo", "Idle", because="OTHER: on console2 commands this fleet")
            await it.ok("Run:Stop")
        await connected(it)
        await it.ok("Run:Start")
        await it.ok("Run:Stop")


async def test_an_expired_lease_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, section="lease_s = 3") as it:
        async with other_ioc(dsn, it, 2.0):
            await it.until(lambda: "OTHER: on console2" in message(it), what="the first named")
            await connected(it, 8.0)
        assert "OTHER:" not in message(it)


async def test_a_run_goes_on_and_is_recorded_when_the_lease_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, section="lease_s = 3") as it:
        await it.start_run()
        async with other_ioc(dsn, it, 60.0):
            await it.until(lambda: "still recorded" in message(it), what="the loss is said")
            await it.ok("Run:Stop")
            await drained(it)
        async with reading(dsn) as store:
            assert (await store.run(EXPERIMENT, 0)).run.stopped_at is not None


async def test_the_lease_is_given_back_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        fleet = service(it).lease.fleet
        await it.stop_ioc()
        async with sql(dsn) as connection:
            held = "SELECT EXISTS (SELECT FROM attpc.leases WHERE fleet = $1)"
            assert not await connection.fetchval(held, fleet)
