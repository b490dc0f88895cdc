"""Runs back to back: the next one begins while the files of the last one are still written and closed."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from attpc_plugins.data_routers.events.sync import Sync
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.simulator.data.options import Access
from tests.data_routers.test_check_boards import told
from tests.data_routers.test_start_listing import AT_ONCE, closed, entries_of, moved
from tests.support.back_to_back import BUFFERED, OVERLAP, another_stream, check_all, ready, start_soon
from tests.support.data_rig import data_rig, section, shown, start_run, stop_run
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig
from tests.support.sshd import Sshd


@pytest.fixture(params=[Access.LOCAL, Access.SSH, "sshd"])
def files_way(request: pytest.FixtureRequest) -> Access | Sshd:
    """Give each way to a host whose files have names, and a real server."""
    return request.param if isinstance(request.param, Access) else request.getfixturevalue("shared_sshd")


async def closed_until(it: Rig, numbers: list[int]) -> None:
    """Wait until these runs are closed, whatever else is."""
    await it.until(
        lambda: all(e.state is CloseState.DONE for number in numbers for e in entries_of(it, number)),
        PATIENCE_S,
        f"runs {numbers} are closed",
    )


async def test_five_runs_back_to_back(tmp_path, monkeypatch, files_way):
    """With data that come late: all are in their run's folder, and no time is lost."""
    text = section(closing=OVERLAP)
    async with data_rig(
        tmp_path, monkeypatch, access=files_way, data=BUFFERED, text=text, durations=AT_ONCE, cobos=2
    ) as it:
        await ready(it)
        numbers, waits = [], []
        for _ in range(5):
            waits.append(await start_soon(it))
            numbers.append(it.run.number)
            await it.until(lambda: shown(it, "CoBo0:Router:Written_RBV") > 0.0, PATIENCE_S, "it is counted")
            await stop_run(it)
            assert any(e.state is not CloseState.DONE for e in entries_of(it, numbers[-1]))
        await closed(it, *numbers)
        check_all(it, numbers)
        assert sorted(waits)[2] < 1.0, waits
        for host in it.fleet.data:
            assert shown(it, f"{host.source}:Router:Clean_RBV") == 1


async def test_data_that_come_later_than_twice_the_quiet_time(tmp_path, monkeypatch):
    """As data of 60 s with 30 s: the run is closed, and the next is on, when its last data come."""
    text = section(closing={"quiet_s": 0.4})
    data = replace(BUFFERED, drain_s=0.1)
    async with data_rig(tmp_path, monkeypatch, data=data, text=text, durations=AT_ONCE, cobos=2) as it:
        await ready(it)
        numbers: list[int] = []
        host = it.fleet.data["CoBo[0]"]
        for _ in range(2):
            await start_soon(it)
            numbers.append(it.run.number)
            host.faults.late_s = 1.0
            await it.until(lambda: host.behind > 40, PATIENCE_S, "events that come late")
            await stop_run(it)
            await closed_until(it, numbers)
            host.faults.late_s = 0.0
        await it.until(lambda: not host.behind and not host.files(), PATIENCE_S, "all is in its folder")
        await closed(it, *numbers)
        check_all(it, numbers)


async def test_late_data_of_a_closed_run_are_no_events_of_the_next(tmp_path, monkeypatch):
    """They come while the next run is on: its boards are in step, and it has its own events only."""
    text = section(closing={"quiet_s": 0.4})
    data = replace(BUFFERED, drain_s=0.1)
    async with data_rig(tmp_path, monkeypatch, data=data, text=text, durations=AT_ONCE, cobos=2) as it:
        await ready(it)
        host = it.fleet.data["CoBo[0]"]
        await start_soon(it)
        first = it.run.number
        await it.until(lambda: shown(it, "CoBo0:Router:Events_RBV") > 40, PATIENCE_S, "events")
        host.faults.late_s = 60.0
        await it.until(lambda: host.behind > 20, PATIENCE_S, "events that come late")
        await stop_run(it)
        await closed_until(it, [first])
        await start_run(it)
        host.faults.late_s = 0.0
        tail = "late data are in their folder"
        await it.until(lambda: any(".late1." in name for name in moved(it, host, first)), PATIENCE_S, tail)
        await it.until(lambda: shown(it, "Run:Sync_RBV") == Sync.IN_STEP, PATIENCE_S, "in step")
        assert shown(it, "CoBo0:Router:Resets_RBV") == 0
        second = it.run.number
        await stop_run(it)
        await closed(it, first, second)
        check_all(it, [first, second])
        assert [entry.sync for entry in entries_of(it, second)] == [""] * 3


async def test_a_router_that_was_restarted_between_two_runs(tmp_path, monkeypatch, files_way):
    """What was in its buffers is lost; what comes after has new streams, which are the next run's."""
    text = section(closing=OVERLAP)
    async with data_rig(
        tmp_path, monkeypatch, access=files_way, data=BUFFERED, text=text, durations=AT_ONCE, cobos=2
    ) as it:
        await ready(it)
        numbers = []
        for _ in range(3):
            await start_soon(it)
            numbers.append(it.run.number)
            await stop_run(it)
            host = it.fleet.data["CoBo[0]"]
            host.writer.forget()
            host._buffer.clear()
        await closed(it, *numbers)
        check_all(it, numbers, short={host.name})


async def test_a_counter_that_was_reset_in_a_run(tmp_path, monkeypatch):
    """Both streams are the run's, where the run before cannot have data any more."""
    text = section(closing={"quiet_s": 0.3})
    data = replace(BUFFERED, drain_s=0.4)
    async with data_rig(tmp_path, monkeypatch, data=data, text=text, durations=AT_ONCE, cobos=2) as it:
        await ready(it)
        host = it.fleet.data["CoBo[1]"]
        numbers: list[int] = []
        for _ in range(3):
            await start_soon(it)
            numbers.append(it.run.number)
            if numbers[:-1]:
                await closed_until(it, numbers[:-1])
            grown = host.written_bytes
            await it.until(lambda grown=grown: host.written_bytes > grown + 400_000, PATIENCE_S, "more came")
            host.faults.reset = True
            await another_stream(it)
            await stop_run(it)
        await closed(it, *numbers)
        streams = check_all(it, numbers, short={host.name}, resets={host.name})
        assert all(len(of) == 2 for of in streams)


async def test_a_reset_that_may_be_of_either_run_is_said(tmp_path, monkeypatch):
    """The second stream begins soon after the start, while the run before is being closed."""
    text = section(closing={"quiet_s": 5.0})
    async with data_rig(
        tmp_path, monkeypatch, data=replace(BUFFERED, drain_s=0.3), text=text, durations=AT_ONCE, cobos=2
    ) as it:
        await ready(it)
        for _ in range(2):
            await start_soon(it)
            if it.run.number == 1:
                it.fleet.data["CoBo[1]"].faults.reset = True
                await another_stream(it)
            await stop_run(it)
        message = "CoBo1:Router:CloseMessage_RBV"
        await it.until(lambda: "more than one stream" in shown(it, message), PATIENCE_S, "it is said")
        assert shown(it, "CoBo1:Router:Close_RBV") == CloseState.FAILED
        await it.refused("Run:Start", because="the files of run 1 are not closed yet: Failed")
        # What it says is done to the letter.
        said = shown(it, message)
        _, told_ = await told(it.settings_file, "files", "check", 1)
        assert "do what is said above, then repeat the command" in told_
        assert "run 1: more than one stream of a sender began in this run" in said
        (command,) = re.findall(r"`attpc-ioc (.*?)`", said)
        code, told_ = await told(it.settings_file, *command.split())
        assert code == 0, told_
        assert shown(it, "CoBo1:Router:Close_RBV") == CloseState.DONE
