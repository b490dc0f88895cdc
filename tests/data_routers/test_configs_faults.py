"""Configuration files in times of trouble: hosts that do not answer, a backup folder that takes nothing."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from attpc_plugins.data_routers.configs.spool import BackupFault, Spool
from attpc_plugins.data_routers.hosts import limits
from attpc_plugins.data_routers.state import Records

from attpc_ioc.errors import StateDirError
from attpc_ioc.model.events import RunConfigs
from attpc_ioc.model.run import RunRef
from attpc_ioc.model.states import State
from tests.support.closings import records_in
from tests.support.data_rig import SECTION, shown
from tests.support.denied import denied
from tests.support.pages import ROOT
from tests.support.probe import Probe
from tests.support.rig import rig
from tests.support.thorough import examples

RUN = RunRef("e1", 7)
FILES = {f"{part}-{name}.xcfg": os.urandom(3000) for part in ("describe", "configure") for name in ("a", "b")}


@pytest.fixture(params=["gone", "hung"])
async def address(request):
    """Give the port of a host that refuses every connection, or takes them and says nothing."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if request.param == "gone":
        server.close()
        await server.wait_closed()
    yield port
    server.close()


async def test_a_host_that_does_not_answer_costs_a_run_nothing(tmp_path, monkeypatch, address):
    monkeypatch.setattr(limits, "READ_S", 1.0)
    text = f"""
[[{SECTION}.ecc]]
access = "ssh"
host = "127.0.0.1"
port = {address}
user = "attpc"
xcfg = "/configs"
"""
    probe = Probe()
    async with rig(tmp_path, monkeypatch, plugins=[("probe", probe)], **{SECTION: text}) as it:
        await it.take_to(State.READY)
        await it.until(lambda: not it.run.checklist, what="nothing against a start")
        began_s = time.monotonic()
        await it.ok("Run:Start")
        await it.ok("Run:Stop")
        assert time.monotonic() - began_s < 8.0, "nothing waits for the files"
        await it.until(lambda: shown(it, "Run:Configs_RBV") == 3, 60.0, "what is missing is told")
        found = {(c.module, c.part): c for event in probe.of(RunConfigs) for c in event.configs}
        assert found["cobo0", "configure"].source == "reply"
        assert "<Setup" in found["cobo0", "configure"].text, "the reply to Configure has the files"
        assert "127.0.0.1" in found["cobo0", "describe"].fault
        assert await it.get("Run:State_RBV") == "Stopped"
        # The next run of the same names is told of again.
        probe.told.clear()
        await it.ok("Run:Start")
        await it.until(lambda: len(probe.of(RunConfigs)) > 1, 60.0, "the next run's told")
        assert {event.number for event in probe.of(RunConfigs)} == {1}
        await it.ok("Run:Stop")


def spool_of(records: Records, tmp_path: Path) -> tuple[Spool, Path]:
    backup = tmp_path / "backup"
    backup.mkdir(exist_ok=True)
    return Spool(records, backup), backup


def copies(backup: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (backup / "e1" / "run_0007").iterdir()}


async def test_permission_is_denied(records, tmp_path):
    spool, backup = spool_of(records, tmp_path)
    await spool.put(RUN, FILES)
    with denied(backup), pytest.raises(BackupFault, match=r"e1/run_0007.*(ermission denied|not permitted)"):
        await spool.flush()
    assert spool.waiting() == [RUN]
    await spool.flush()
    assert copies(backup) == FILES


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have every write beyond a size fail, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_the_disk_takes_no_more(records, tmp_path):
    spool, backup = spool_of(records, tmp_path)
    await spool.put(RUN, FILES)
    with files_of_at_most(1000), pytest.raises(BackupFault, match="File too large"):
        await spool.flush()
    assert spool.waiting() == [RUN]
    await spool.flush()
    assert copies(backup) == FILES
    with files_of_at_most(1000), pytest.raises(StateDirError):
        await spool.put(RunRef("e1", 8), FILES)
    assert spool.waiting() == [], "half a run is none"


CHILD = """
import asyncio, sys
from pathlib import Path
from attpc_plugins.data_routers.configs.spool import Spool
from attpc_ioc.model.run import RunRef
from tests.support.closings import records_in

async def main():
    state, backup = map(Path, sys.argv[1:])
    async with records_in(state) as records:
        spool = Spool(records, backup)
        print("go", flush=True)
        number = 0
        while True:
            files = {f"f{n}.xcfg": bytes([number % 256, n]) * 2000 for n in range(4)}
            await spool.put(RunRef("e1", number), files)
            await spool.flush()
            print(number, flush=True)
            number += 1

asyncio.run(main())
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_the_same(tmp_path):
    backup = tmp_path / "backup"
    backup.mkdir()
    dice = random.Random(7)

    async def rest() -> None:
        async with records_in(tmp_path / "state") as records:
            spool = Spool(records, backup)
            await spool.flush()
            assert spool.waiting() == []

    for _ in range(examples(6, 40)):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "state"), str(backup)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        time.sleep(dice.uniform(0.0, 0.06))
        child.send_signal(signal.SIGKILL)
        told = child.stdout.read().split()
        child.wait()
        child.stdout.close()
        asyncio.run(rest())
        for number in map(int, told):
            folder = backup / "e1" / f"run_{number:04d}"
            assert {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix == ".xcfg"} == {
                f"f{n}.xcfg": bytes([number % 256, n]) * 2000 for n in range(4)
            }
