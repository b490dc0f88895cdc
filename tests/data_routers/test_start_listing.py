"""The folders are listed before the first board starts, and a run may begin once the one before is Done."""

from __future__ import annotations

from dataclasses import replace

import pytest
from attpc_plugins.data_routers.closing import service as closing_service
from attpc_plugins.data_routers.closing.closings import Closing
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.control.runs import run_control
from attpc_ioc.control.runs.run_control import PREPARED_S
from attpc_ioc.model.command import RUN
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.host import DataHost, Writing
from attpc_ioc.simulator.data.options import Access
from attpc_ioc.simulator.durations import Durations
from tests.support.closings import entries_of as on_disk
from tests.support.data_rig import ALL_ACCESS, QUICK_DATA, data_rig, section, shown, stop_run, submit_start
from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig

DONE = int(CloseState.DONE)
WAYS = [pytest.param(Access.LOCAL, id="local"), pytest.param(Access.SSH, id="ssh")]
AT_ONCE = Durations(
    describe_s=0.01,
    prepare_s=0.01,
    configure_s=0.0,
    start_s=0.0,
    stop_s=0.0,
    pause_s=0.0,
    resume_s=0.0,
    breakup_s=0.0,
    undo_s=0.0,
    jitter=0.0,
)
"""Boards that write as soon as they are told to, without any re-zero to speak of."""
EAGER = replace(QUICK_DATA, tick_s=0.005, drain_s=0.05)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a start wait for the listings as long as a busy machine takes."""
    monkeypatch.setattr(run_control, "PREPARED_S", PATIENCE_S)
    monkeypatch.setattr(closing_service, "LISTED_S", PATIENCE_S)


async def ready(it: Rig) -> None:
    await it.take_to(State.READY)
    await it.until(
        lambda: all(shown(it, f"{host.source}:Router:Files_RBV") is not None for host in it.fleet.data),
        20.0,
        "all hosts were looked at",
    )


async def start_over(it: Rig) -> int:
    """Start a run in spite of what is there; returns its number."""
    await it.ok("Run:Override")
    await submit_start(it)
    return it.run.number


async def closed(it: Rig, *numbers: int) -> None:
    def done() -> bool:
        return all(
            all(entry.state is CloseState.DONE for entry in entries_of(it, number)) for number in numbers
        )

    await it.until(
        lambda: done() and shown(it, "Run:Closing_RBV") == DONE, 30.0, f"runs {numbers} are closed"
    )


def entries_of(it: Rig, number: int) -> list[Closing]:
    return [entry for entry in on_disk(it.app.log.folder) if entry.run.number == number]


def moved(it: Rig, host: DataHost, number: int) -> set[str]:
    folder = host.staging / it.run.experiment / f"run_{number:04d}"
    return {path.name for path in folder.glob("*.graw")}


def left(host: DataHost) -> set[str]:
    return {path.name for path in host.staging.glob("*.graw")}


@pytest.mark.parametrize("access", WAYS)
async def test_strays_stay_where_they_are_at_every_start(tmp_path, monkeypatch, patient, access):
    text = section(closing={"quiet_s": 0.3})
    async with data_rig(
        tmp_path, monkeypatch, access=access, data=EAGER, text=text, durations=AT_ONCE, cobos=3
    ) as it:
        hosts = list(it.fleet.data)
        for host in hosts:
            (host.staging / "stray.graw").write_bytes(b"of nobody")
        await ready(it)
        for _ in range(6):
            number = await start_over(it)
            assert all(entry.settled and entry.before is not None for entry in entries_of(it, number))
            await it.until(lambda: all(len(left(host)) > 1 for host in hosts), 20.0, "data was written")
            await stop_run(it)
            await closed(it, number)
            for host in hosts:
                assert left(host) == {"stray.graw"}
                assert moved(it, host, number)
                assert "not known" not in shown(it, f"{host.source}:Router:CloseMessage_RBV")


@pytest.mark.parametrize("access", WAYS)
async def test_files_of_a_run_that_waits_stay_that_runs(tmp_path, monkeypatch, patient, access):
    text = section(closing={"quiet_s": 1.5})
    async with data_rig(
        tmp_path, monkeypatch, access=access, data=EAGER, text=text, durations=AT_ONCE, cobos=3
    ) as it:
        hosts = list(it.fleet.data)
        await ready(it)
        for _ in range(4):
            numbers, files = [], []
            for _ in range(2):
                before = [left(host) for host in hosts]
                numbers.append(await start_over(it))
                assert all(entry.settled and not entry.mixed for entry in entries_of(it, numbers[-1]))
                await it.until(
                    lambda before=before: all(left(host) - b for host, b in zip(hosts, before, strict=True)),
                    20.0,
                    "data was written",
                )
                await stop_run(it)
                # What the router has kept comes now; the next run begins when that was written.
                await it.until(
                    lambda: all(host.writing is Writing.IDLE for host in hosts), 10.0, "all is kept"
                )
                files.append([left(host) - b for host, b in zip(hosts, before, strict=True)])
            assert not any(entry.mixed for number in numbers for entry in entries_of(it, number))
            await closed(it, *numbers[-1:])
            for number, names in zip(numbers, files, strict=True):
                for host, own in zip(hosts, names, strict=True):
                    assert moved(it, host, number) == own


async def test_a_host_that_does_not_list_holds_up_no_start_for_long(tmp_path, monkeypatch):
    async with data_rig(
        tmp_path, monkeypatch, access=Access.SSH, data=EAGER, durations=AT_ONCE, cobos=1
    ) as it:
        await ready(it)
        await it.until(lambda: not it.run.checklist, 10.0, f"a start is possible: {it.run.checklist}")
        gate = it.fleet.data["CoBo[0]"].gate
        assert gate is not None
        gate.hung = True
        taking = Stopwatch()
        outcome = await it.submit("Start", RUN)
        assert outcome.ok, outcome.message
        assert taking.s < PREPARED_S + 1.0
        gate.hung = False
        await stop_run(it)
        await closed(it, it.run.number)
    assert closing_service.LISTED_S < PREPARED_S


@pytest.mark.parametrize("access", ALL_ACCESS)
async def test_who_waits_for_done_may_start_at_once(tmp_path, monkeypatch, access):
    # Looks come rarely: what was seen last is from before the files were moved.
    text = section(watch={"period_s": 3.0, "timeout_s": 3.0}, closing={"quiet_s": 0.4})
    async with data_rig(
        tmp_path, monkeypatch, access=access, data=EAGER, text=text, durations=AT_ONCE, cobos=3
    ) as it:
        hosts = list(it.fleet.data)
        await ready(it)
        await it.until(lambda: not it.run.checklist, 10.0, f"a start is possible: {it.run.checklist}")
        for run in range(5):
            outcome = await it.submit("Start", RUN)
            assert outcome.ok, f"run {run}: {outcome.message}"
            await it.until(lambda: all(left(host) for host in hosts), 20.0, "data was written")
            await stop_run(it)
            await it.until(lambda: shown(it, "Run:Closing_RBV") != DONE, 10.0, "the closing begins")
            await it.until(lambda: shown(it, "Run:Closing_RBV") == DONE, 30.0, "the closing is done")
