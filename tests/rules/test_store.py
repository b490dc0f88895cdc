"""The state directory: one owner at a time."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from attpc_ioc.control.runs.numbers import set_next_number
from attpc_ioc.errors import StateDirError
from attpc_ioc.eventlog import EventLog
from attpc_ioc.model.command import RUN
from attpc_ioc.model.run import UNNAMED
from attpc_ioc.model.states import State
from tests.support.forked import PIPE, SHELL, forked
from tests.support.rig import rig


async def test_the_lock_keeps_a_second_ioc_out(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        process = await forked(SHELL, "run", it.settings_file, env=it.place.env, stdout=PIPE, stderr=PIPE)
        out, err = await asyncio.wait_for(process.communicate(), 20)
        assert process.returncode == 1
        text = (out + err).decode()
        owner = f"process {os.getpid()} on {socket.gethostname()}, prefix {it.prefix}"
        assert f"another IOC ({owner}) is using it" in text
        assert "Traceback" not in text
        # The first is not disturbed, and next-number is refused as well.
        with pytest.raises(StateDirError, match="another IOC"):
            await set_next_number(tmp_path / "state", UNNAMED, 5)
        await it.take_to(State.READY)
        assert (await it.submit("Start", RUN)).ok


async def test_the_lock_is_gone_with_its_process(tmp_path):
    first = EventLog(tmp_path)
    first.open()
    second = EventLog(tmp_path)
    with pytest.raises(StateDirError, match=rf"another IOC \(process {os.getpid()} on [^,]*\) is using it"):
        second.open()
    await first.close()
    second.open()
    await second.close()


async def test_a_lock_that_says_nothing_is_a_lock(tmp_path):
    first = EventLog(tmp_path, "ATTPC:")
    first.open()
    (tmp_path / "lock").write_text("")
    with pytest.raises(StateDirError, match=r"another IOC \(process unknown\) is using it"):
        EventLog(tmp_path).open()
    (tmp_path / "lock").write_text("1234\n")
    with pytest.raises(StateDirError, match=r"another IOC \(process 1234\) is using it"):
        EventLog(tmp_path).open()
    await first.close()
