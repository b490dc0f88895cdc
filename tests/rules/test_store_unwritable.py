"""The state directory: a disk that cannot be written refuses what needs it, and nothing else."""

from __future__ import annotations

import pytest

from attpc_ioc.errors import StateDirError
from attpc_ioc.model.command import RUN, ResultCode
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from tests.support.rig import rig
from tests.support.runs import boards_running, ready, running
from tests.support.state_dir import kept, make_unwritable, make_writable


async def test_not_writable_refuses_a_start_and_nothing_else(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        make_unwritable(state)
        message = await it.refused("Run:Start", because="cannot be written")
        assert str(state) in message
        assert it.fleet.log.sequence() == []
        assert it.run.state is RunState.STOPPED
        # It is known from now on, and shown before anybody tries.
        assert await it.get("Run:Ready_RBV") == "NotReady"
        assert "cannot be written" in await it.get_text("Run:Checklist_RBV")
        await it.ok("GoTo", "Prepared")
        await it.ok("GoTo", "Ready")
        make_writable(state)
        assert (await it.put_text("Run:Title", "writes again")).code == 0
        await it.until(lambda: not it.run.checklist, what="the disk back")
        await it.ok("Run:Start")
        # Nothing had run under it, so the number was not lost either.
        assert it.run.number == number


async def test_not_writable_in_a_run_does_not_refuse_the_stop(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch) as it:
        number = await running(it)
        make_unwritable(state)
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        assert it.run.state is RunState.STOPPED
        assert (await it.submit("Start", RUN)).code is ResultCode.REFUSED
        make_writable(state)
        await it.stop_ioc()
        # What could not be written meanwhile was written at the end.
        assert kept(state, "run")[""]["open"] is False
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.until_run(RunState.STOPPED)
        await it.ok("Run:Start")
        assert it.run.number == number + 1


async def test_a_folder_that_was_removed(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        (tmp_path / "state").rename(tmp_path / "removed")
        await it.ok("Run:Stop")
        assert (await it.submit("Start", RUN)).code is ResultCode.REFUSED
        (tmp_path / "state").mkdir()


async def test_adopt_needs_the_disk_too(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        for server in ("cobo0", "cobo1", "mutant"):
            await it.fleet.call(server, "Start")
        await it.until_all(State.RUNNING)
        make_unwritable(state)
        assert (await it.submit("Adopt", RUN)).code is ResultCode.REFUSED
        assert it.run.state is RunState.ORPHAN
        make_writable(state)


async def test_start_up_says_what_is_wrong_with_the_folder(tmp_path, monkeypatch):
    (tmp_path / "state").write_text("a file")
    async with rig(tmp_path, monkeypatch, start=False) as it:
        with pytest.raises(StateDirError, match=r"make it writable, or set ioc\.state_dir"):
            await it.start_ioc()
