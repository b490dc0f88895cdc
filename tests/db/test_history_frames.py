"""What the frames of runs say, from simulated data routers to PostgreSQL."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from attpc_plugins.data_routers.events.sync import Sync
from attpc_plugins.data_routers.watch.flow import Flow
from attpc_plugins.run_history.store.model.history import FramesCheck, RouterFiles, RunDetail

from attpc_ioc.settings import load_settings
from attpc_ioc.simulator.data.options import Access
from attpc_ioc.simulator.data.orders import Amounts, HostFault, switch
from tests.data_routers.test_events import in_step
from tests.support.ca import eventually
from tests.support.closed_runs import written
from tests.support.data_rig import data_rig, section, shown, start_run, stop_run
from tests.support.forked import PIPE, SHELL, STDOUT, forked
from tests.support.graw import read_graw
from tests.support.history import untroubled
from tests.support.rig import HISTORY, Rig
from tests.support.run_records import open_store

BOARDS = ("CoBo0", "CoBo1", "MuTAnT")


async def shell(it: Rig, *words: object) -> tuple[int, str]:
    process = await forked(
        SHELL, *map(str, words), "--settings", it.settings_file, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def bad_runs(it: Rig) -> list[int]:
    code, said = await shell(it, "history", "list", "--bad", "--experiment", it.run.experiment)
    assert code == 0, said
    return sorted(int(line.split()[0]) for line in said.splitlines()[1:])


async def recorded(
    it: Rig, dsn: str, number: int, check: FramesCheck = FramesCheck.NOT_RUN, hosts: int = 3
) -> RunDetail:
    """Return a run once all its files are recorded as closed, and as checked."""
    found: list[RunDetail] = []

    async def there() -> bool:
        async with open_store(dsn) as store:
            found[:] = [await store.run(it.run.experiment, number)]
        run = found[0].run
        return (run.files_state, run.frames_check, len(found[0].files)) == ("Done", check, hosts)

    await eventually(there, f"run {number} recorded")
    return found[0]


def of(detail: RunDetail, router: str) -> RouterFiles:
    return next(files for files in detail.files if files.router == router)


def folder(it: Rig, source: str, number: int) -> Path:
    host = next(host for host in it.fleet.data if host.source == source)
    return host.staging / it.run.experiment / f"run_{number:04d}"


def events_in(path: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for file in sorted(path.glob("*.graw")):
        found.setdefault(file.name.rsplit("_", 2)[0], []).extend(read_graw(file).events)
    return found


SYNC = {HostFault.DATA_RESET: Sync.RESET, HostFault.DATA_TORN: Sync.TORN}


async def take_run(it: Rig, fault: HostFault | None = None, **amounts: Any) -> int:
    """Take a run in which CoBo1 has a fault; return its number."""
    await start_run(it)
    # The values of the run before are shown until this one has been looked at.
    await it.until(lambda: all(written(host) for host in it.fleet.data), what="this run's data")
    await in_step(it, BOARDS)
    before = shown(it, "CoBo0:Router:Events_RBV")
    if fault is not None:
        await switch(it.fleet.data["CoBo[1]"], fault, amounts=Amounts(**amounts))
    # Those of more than a second: a stop may reach boards one after the other.
    await it.until(lambda: shown(it, "CoBo0:Router:Events_RBV") > before + 100, what="more events")
    if fault is HostFault.DATA_LOSE:
        await it.until(lambda: shown(it, "CoBo1:Router:Missing_RBV") > 5, what="missing events")
    if fault in SYNC:
        await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == SYNC[fault], what=f"{fault} seen")
    number = it.run.number
    await stop_run(it)
    return number


async def mend(it: Rig, fault: HostFault) -> None:
    await switch(it.fleet.data["CoBo[1]"], fault, on=False)


@pytest.mark.parametrize("access", [Access.SSH, Access.SENTRY])
async def test_from_the_frames_to_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, access: Access
) -> None:
    text = section(watch={"period_s": 0.5, "timeout_s": 5.0})
    more = {f"plugins.{HISTORY}": f'dsn = "{dsn}"', "limits": "run_number_s = 10.0"}
    async with data_rig(tmp_path, monkeypatch, access=access, text=text, start=False, **more) as it:
        if access is Access.SENTRY:  # whose frames are read beside it, as those of a local host
            document = tomlkit.parse(it.settings_file.read_text(encoding="utf-8"))
            routers: Any = document["plugins"]["data_routers"]  # type: ignore[index]
            for router, host in zip(routers["router"], it.fleet.data, strict=True):
                router |= {"staging": str(host.staging), "frames": "local"}
            it.settings_file.write_text(tomlkit.dumps(document), encoding="utf-8")
            it.settings = load_settings(it.settings_file)
        await it.start_ioc()
        await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()), what="fleet")
        await untroubled(it)

        good = await recorded(it, dsn, number := await take_run(it))
        for router in BOARDS:
            events = events_in(folder(it, router, number)).values()
            files = of(good, router)
            assert files.event_count == min(map(len, events)) > 30
            assert (files.missing_events, files.resets, files.damaged_frames) == (0, 0, 0)
            assert (files.first_event, files.last_event) == (0, (files.event_count or 0) - 1)
            assert (files.sync, files.frames_check) == ("", FramesCheck.NOT_RUN)
        assert good.run.event_count == min(files.event_count or 0 for files in good.files)
        assert (good.run.missing_events, good.run.resets, good.run.damaged_frames) == (0, 0, 0)
        assert good.run.unequal_events == 0

        gaps = await recorded(it, dsn, await take_run(it, HostFault.DATA_LOSE, factor=0.5))
        await mend(it, HostFault.DATA_LOSE)
        missing = sum(
            max(events) - min(events) + 1 - len(events)
            for events in events_in(folder(it, "CoBo1", gaps.run.number)).values()
        )
        assert of(gaps, "CoBo1").missing_events == gaps.run.missing_events == missing > 5
        assert of(gaps, "CoBo0").missing_events == 0

        reset = await recorded(it, dsn, await take_run(it, HostFault.DATA_RESET))
        await mend(it, HostFault.DATA_RESET)
        assert of(reset, "CoBo1").resets == reset.run.resets == 2  # of each AsAd
        assert of(reset, "CoBo1").event_count is reset.run.event_count is None
        assert of(reset, "CoBo1").sync == reset.run.sync == "Reset"
        assert (of(reset, "CoBo0").sync, of(reset, "CoBo0").resets) == ("", 0)
        numbers = [detail.run.number for detail in (good, gaps, reset)]
        assert await bad_runs(it) == numbers[1:]

        code, said = await shell(it, "files", "check", number)
        assert code == 0, said
        again = await recorded(it, dsn, number, FramesCheck.NO_FAULTS)
        assert [files.frames_check for files in again.files] == [FramesCheck.NO_FAULTS] * 3
        assert again.run.event_count == good.run.event_count
        assert await bad_runs(it) == numbers[1:]

        # A disk that forgets is found by a check, and then the run is one to look at.
        path = max(folder(it, "CoBo0", number).glob("*.graw"), key=lambda path: path.stat().st_size)
        with path.open("r+b") as file:
            file.seek(read_graw(path).frames[2].offset)
            file.write(bytes(64))
        code, said = await shell(it, "files", "check", number)
        assert code == 1, said
        assert "1 torn" in said
        worse = await recorded(it, dsn, number, FramesCheck.FAULTS)
        assert of(worse, "CoBo0").frames_check is FramesCheck.FAULTS
        assert of(worse, "CoBo1").frames_check is FramesCheck.NO_FAULTS
        assert worse.run.damaged_frames == of(worse, "CoBo0").damaged_frames == 1
        assert "frames: CoBo0_AsAd" in of(worse, "CoBo0").message
        assert await bad_runs(it) == numbers
        code, said = await shell(it, "history", "show", it.run.experiment, number)
        assert code == 0, said
        facts = {" ".join(line.split()) for line in said.splitlines()}
        missing = f"Missing events {worse.run.missing_events}"
        assert {"Check of frames faults", "Damaged frames 1", missing, "Files Done"} <= facts


async def test_a_run_in_which_a_board_failed_is_one_to_look_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """Found at its closing, also by what one board has fewer than the others; no check has been run."""
    more = {f"plugins.{HISTORY}": f'dsn = "{dsn}"', "limits": "run_number_s = 10.0"}
    async with data_rig(tmp_path, monkeypatch, text=section(), **more) as it:
        await untroubled(it)
        good = await recorded(it, dsn, await take_run(it))
        assert good.run.unequal_events == 0

        stopped = await recorded(it, dsn, await take_run(it, HostFault.DATA_STOP))
        await mend(it, HostFault.DATA_STOP)
        board, other = of(stopped, "CoBo1"), of(stopped, "CoBo0")
        assert board.last_event is not None
        assert other.last_event is not None
        assert stopped.run.unequal_events == other.last_event - board.last_event > 90
        assert stopped.run.event_count == board.event_count
        assert stopped.run.missing_events == stopped.run.resets == stopped.run.damaged_frames == 0

        torn = await recorded(it, dsn, await take_run(it, HostFault.DATA_TORN))
        assert (torn.run.damaged_frames, torn.run.sync) == (1, "Torn")
        bad = [stopped.run.number, torn.run.number]
        assert await bad_runs(it) == bad

        # What has not come when the run is closed is missing, until it comes.
        behind = await recorded(it, dsn, await take_run(it, HostFault.DATA_BEHIND, factor=0.01))
        number = behind.run.number
        assert behind.run.unequal_events is not None
        assert behind.run.unequal_events > 90
        assert await bad_runs(it) == [*bad, number]
        await mend(it, HostFault.DATA_BEHIND)

        async def complete() -> bool:
            async with open_store(dsn) as store:
                return (await store.run(it.run.experiment, number)).run.unequal_events == 0

        await eventually(complete, f"late data of run {number} counted")
        assert await bad_runs(it) == bad

        # A board without a single event, and one that takes no part.
        await switch(it.fleet.data["CoBo[1]"], HostFault.DATA_STOP)
        await start_run(it)
        await it.until(lambda: all(written(host) for host in it.fleet.data if host.source != "CoBo1"))
        bad.append(it.run.number)
        await stop_run(it)
        silent = await recorded(it, dsn, bad[-1])
        events = of(silent, "CoBo0").event_count
        assert (of(silent, "CoBo1").event_count, silent.run.event_count) == (0, events)
        assert silent.run.unequal_events == events
        code, said = await shell(it, "files", "check", bad[-1])
        assert code == 1, said
        assert f", {events:,} events, nothing damaged, no file: CoBo1\n" in said
        await it.ok("Ecc:cobo1:Enable", "No")
        await start_run(it)
        await it.until(lambda: all(written(host) for host in it.fleet.data if host.source != "CoBo1"))
        number = it.run.number
        await stop_run(it)
        without = await recorded(it, dsn, number, hosts=2)
        assert (without.run.unequal_events, without.run.frames_check) == (0, FramesCheck.NOT_RUN)
        assert await bad_runs(it) == bad


async def test_a_board_that_stopped_is_found_where_its_frames_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """A sentry shows no events; that no data came any more, while others did, is known.

    Where all have none any more there was no event, and that is no fault of a board.
    """
    more = {f"plugins.{HISTORY}": f'dsn = "{dsn}"', "limits": "run_number_s = 10.0"}
    text = section(limits={"dead_after_s": 3.0})
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, text=text, **more) as it:
        await untroubled(it)
        runs: list[RunDetail] = []
        for dead in ((), ("CoBo1",), BOARDS):
            await start_run(it)
            await it.until(lambda: all(shown(it, f"{b}:Router:Flow_RBV") == Flow.FLOWING for b in BOARDS))
            hosts = [host for host in it.fleet.data if host.source in dead]
            for host in hosts:
                await switch(host, HostFault.DATA_STOP)
            await it.until(
                lambda dead=dead: all(shown(it, f"{b}:Router:Flow_RBV") == Flow.DEAD for b in dead),
                what="no data",
            )
            number = it.run.number
            await stop_run(it)
            for host in hosts:
                await switch(host, HostFault.DATA_STOP, on=False)
            runs.append(await recorded(it, dsn, number))
        good, stopped, without_events = runs
        assert [detail.run.sync for detail in (good, stopped, without_events)] == ["", "Dead", ""]
        assert [of(stopped, board).sync for board in BOARDS] == ["", "Dead", ""]
        message = of(stopped, "CoBo1").message
        assert re.search(r"no data \(Dead\) since [\d:]+ until the run's end", message), message
        assert stopped.run.event_count is stopped.run.unequal_events is None
        assert await bad_runs(it) == [stopped.run.number]
        # A data router that is gone writes nothing, whatever the others do.
        await start_run(it)
        await it.until(lambda: all(shown(it, f"{b}:Router:Flow_RBV") == Flow.FLOWING for b in BOARDS))
        routers = [it.fleet.routers[server] for server in ("CoBo[0]", "CoBo[1]", "Mutant[master]")]
        for router in routers:
            await router.stop()
        await it.until(lambda: all(shown(it, f"{b}:Router:Flow_RBV") == Flow.DEAD for b in BOARDS))
        number = it.run.number
        await stop_run(it)
        for router in routers:
            await router.start()
        gone = await recorded(it, dsn, number)
        assert [of(gone, board).sync for board in BOARDS] == ["Dead"] * 3
        assert ", its process was gone since " in of(gone, "CoBo1").message
        assert await bad_runs(it) == [stopped.run.number, number]
