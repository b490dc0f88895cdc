"""The state directory: one owner, and files that are whole at every moment."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading

import pytest

from attpc_ioc.control.numbers import set_next_number
from attpc_ioc.control.store import StateStore
from attpc_ioc.errors import StateDirError
from attpc_ioc.model.command import RUN
from attpc_ioc.model.run import UNNAMED
from attpc_ioc.model.states import State
from tests.support.rig import rig


async def test_the_lock_keeps_a_second_ioc_out(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "attpc_ioc.cli", "run", str(it.settings_file),
            env=it.place.env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
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
    first = StateStore(tmp_path)
    first.open()
    second = StateStore(tmp_path)
    with pytest.raises(StateDirError, match=rf"another IOC \(process {os.getpid()} on [^,]*\) is using it"):
        second.open()
    await first.close()
    second.open()
    await second.close()


async def test_a_lock_that_says_nothing_is_a_lock(tmp_path):
    first = StateStore(tmp_path, "ATTPC:")
    first.open()
    (tmp_path / "lock").write_text("")
    with pytest.raises(StateDirError, match=r"another IOC \(process unknown\) is using it"):
        StateStore(tmp_path).open()
    (tmp_path / "lock").write_text("1234\n")
    with pytest.raises(StateDirError, match=r"another IOC \(process 1234\) is using it"):
        StateStore(tmp_path).open()
    await first.close()


async def test_a_file_is_whole_at_every_moment(tmp_path):
    store = StateStore(tmp_path)
    store.open()
    writer = asyncio.create_task(store.run())
    stop, bad, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            try:
                document = json.loads((tmp_path / "run.json").read_text())
                seen.add(document["n"])
                if len(document["filler"]) != document["n"] * 100:
                    bad.append(document["n"])
            except FileNotFoundError:
                continue
            except ValueError as error:
                bad.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(60):
            store.save("run", {"n": n, "filler": "x" * n * 100})
            await store.flush()
    finally:
        stop.set()
        await asyncio.to_thread(reader.join)
    assert bad == []
    assert len(seen) > 3
    # Many in a row: the newest counts. Ending in the middle of a write loses nothing.
    for n in range(100, 200):
        store.save("run", {"n": n, "filler": "x" * n * 1000})
    await asyncio.sleep(0)
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await store.close()
    assert json.loads((tmp_path / "run.json").read_text())["n"] == 199
