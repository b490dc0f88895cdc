"""What the frames of runs say, from simulated data routers to PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomlkit
from attpc_plugins.run_history.store.model.history import RouterFiles, RunDetail

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


async def recorded(it: Rig, dsn: str, number: int, checked: bool | None = None) -> RunDetail:
    """Return a run once all its files are recorded as closed, and as checked."""
    found: list[RunDetail] = []

    async def there() -> bool:
        async with open_store(dsn) as store:
            found[:] = [await store.run(it.run.experiment, number)]
        run = found[0].run
        return (run.files_state, run.checked, len(found[0].files)) == ("Done", checked, 3)

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


async def take_run(it: Rig, fault: HostFault | None = None, **amounts: Any) -> int:
    """Take a run in which CoBo1 has a fault; return its number."""
    await start_run(it)
    # The values of the run before are shown until this one has been looked at.
    await it.until(lambda: all(written(host) for host in it.fleet.data), what="this run's data")
    await in_step(it, BOARDS)
    before = shown(it, "Run:Events_RBV")
    if fault is not None:
        await switch(it.fleet.data["CoBo[1]"], fault, amounts=Amounts(**amounts))
    await it.until(lambda: shown(it, "Run:Events_RBV") > before + 30, what="more events")
    if fault is HostFault.DATA_LOSE:
        await it.until(lambda: shown(it, "CoBo1:Router:Missing_RBV") > 5, what="missing events")
    if fault is HostFault.DATA_RESET:
        await it.until(lambda: shown(it, "CoBo1:Router:Sync_RBV") == 4, what="the reset")
    number = it.run.number
    await stop_run(it)
    if fault is not None:
        await switch(it.fleet.data["CoBo[1]"], fault, on=False)
    return number


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
            assert (files.sync, files.checked) == ("", None)
        assert good.run.event_count == min(files.event_count or 0 for files in good.files)
        assert (good.run.missing_events, good.run.resets, good.run.damaged_frames) == (0, 0, 0)

        gaps = await recorded(it, dsn, await take_run(it, HostFault.DATA_LOSE, factor=0.5))
        missing = sum(
            max(events) - min(events) + 1 - len(events)
            for events in events_in(folder(it, "CoBo1", gaps.run.number)).values()
        )
        assert of(gaps, "CoBo1").missing_events == gaps.run.missing_events == missing > 5
        assert of(gaps, "CoBo0").missing_events == 0

        reset = await recorded(it, dsn, await take_run(it, HostFault.DATA_RESET))
        assert of(reset, "CoBo1").resets == reset.run.resets == 2  # of each AsAd
        assert of(reset, "CoBo1").event_count is reset.run.event_count is None
        assert of(reset, "CoBo1").sync == reset.run.sync == "Reset"
        assert (of(reset, "CoBo0").sync, of(reset, "CoBo0").resets) == ("", 0)
        numbers = [detail.run.number for detail in (good, gaps, reset)]
        assert await bad_runs(it) == numbers[1:]

        code, said = await shell(it, "files", "check", number)
        assert code == 0, said
        again = await recorded(it, dsn, number, checked=True)
        assert [files.checked for files in again.files] == [True] * 3
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
        worse = await recorded(it, dsn, number, checked=False)
        assert (of(worse, "CoBo0").checked, of(worse, "CoBo1").checked) == (False, True)
        assert worse.run.damaged_frames == of(worse, "CoBo0").damaged_frames == 1
        assert "frames: CoBo0_AsAd" in of(worse, "CoBo0").message
        assert await bad_runs(it) == numbers
        code, said = await shell(it, "history", "show", it.run.experiment, number)
        assert code == 0, said
        facts = {" ".join(line.split()) for line in said.splitlines()}
        missing = f"Missing events {worse.run.missing_events}"
        assert {"Frames checked bad", "Damaged frames 1", missing, "Files Done"} <= facts
