"""What a service manager is told, at a real socket: readiness, signs of life, status, the end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from attpc_ioc.systemd import ServiceManager
from tests.support.ca import caget
from tests.support.manager import manager
from tests.support.process import ATTPC_IOC, environment, started
from tests.support.rig import rig

BLOCKING_PLUGIN = """\
import asyncio
import time
from pathlib import Path

from attpc_ioc.plugin import hookimpl


async def hang(sign):
    while not sign.exists():
        await asyncio.sleep(0.02)
    time.sleep(60)


@hookimpl
async def attpc_startup(ctx):
    ctx.spawn(hang(Path(__file__).with_name("hang")))
"""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket."""
    with tempfile.TemporaryDirectory(prefix="attpc-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("abstract", [False, True])
async def test_a_service_reports_its_state(short: Path, abstract: bool) -> None:
    async with manager(None if abstract else short) as it:
        environ = {"NOTIFY_SOCKET": it.name, "WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid())}
        service = ServiceManager(environ)
        assert environ == {}, "a child would tell its own state as the service's"
        assert service.watchdog_s == 0.3
        service.ready()
        line = "one"
        task = asyncio.create_task(service.run(lambda: line))
        try:
            alive = await it.until("WATCHDOG", "1", count=4)
            assert max(b - a for a, b in pairwise(alive)) < 0.3
            line = "two\nREADY=0 lines"
            await it.until("STATUS", "two READY=0 lines")
            line = "a plugin says \x1b[2J\u2028\udcff"
            await it.until("STATUS", r"a plugin says \x1b[2J \udcff")
            service.reloading()
            await it.until("MONOTONIC_USEC")
            assert it.names.count("READY") == 1
            service.ready()
            await it.until("READY", count=2)
            service.stopping()
            await it.until("STOPPING", "1")
        finally:
            task.cancel()
            service.close()
        order = [name for name in it.names if name not in ("WATCHDOG", "MONOTONIC_USEC")]
        assert order == ["READY", "STATUS", "STATUS", "STATUS", "RELOADING", "READY", "STOPPING", "STATUS"]


async def test_a_manager_that_does_not_read_holds_nothing_up(short: Path) -> None:
    path = short / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(path))
        deaf.settimeout(5)
        service = ServiceManager({"NOTIFY_SOCKET": str(path)})
        for number in range(2000):
            service.status(f"{number}")
        service.ready()
        backlog = 0
        while deaf.recv(1000) != b"STATUS=0":
            backlog += 1
        # What could not be sent comes with the next message, the newest of each kind.
        task = asyncio.create_task(service.run(lambda: "now"))
        try:
            while (text := await asyncio.to_thread(deaf.recv, 1000)) and b"READY" not in text:
                backlog += 1
        finally:
            task.cancel()
            service.close()
        assert text == b"STATUS=now\nREADY=1"
        assert backlog < 2000


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "often"},
        {"NOTIFY_SOCKET": "/nowhere/notify", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"},
    ],
)
async def test_without_a_manager_nothing_is_said_and_nothing_fails(environ: dict[str, str]) -> None:
    service = ServiceManager(environ)
    assert service.watchdog_s == 0.0
    service.ready()
    service.status("fine")
    task = asyncio.create_task(service.run(lambda: "fine"))
    await asyncio.sleep(0)
    service.stopping()
    service.close()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_ioc_is_ready_when_channel_access_answers(tmp_path, monkeypatch, short) -> None:
    async with rig(tmp_path, monkeypatch, cobos=2, start=False) as it, manager(short) as systemd:
        env = environment(it.place, tmp_path, {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "3000000"})
        async with started(ATTPC_IOC, "run", it.settings_file, env=env, folder=tmp_path) as ioc:
            await systemd.until("READY", "1")
            ran = await caget(it.place, "-t", f"{it.prefix}IOC:PROCESS_ID")
            assert ran.out.split() == [str(ioc.process.pid)]
            await systemd.until("STATUS", "Idle; run Stopped; 3 of 3 ECC servers reachable")
            alive = await systemd.until("WATCHDOG", "1", count=3)
            assert alive[-1] - alive[0] < 3.0
            ioc.process.send_signal(signal.SIGHUP)
            await systemd.until("READY", count=2)
            await systemd.until("RELOADING", "1")
            code, took_s = await ioc.end(signal.SIGTERM)
            assert (code, took_s < 2.0) == (0, True), ioc.text
        await systemd.until("STOPPING", "1")
        assert systemd.status == "ending"
        assert systemd.names.count("READY") == 2


async def test_why_it_cannot_start_is_its_status(tmp_path, monkeypatch, short) -> None:
    async with rig(tmp_path, monkeypatch, cobos=1, start=False) as it, manager(short) as systemd:
        file, good = tmp_path / "wrong.toml", it.settings_file.read_text()
        (tmp_path / "obstacle").write_text("a file where a folder should be")
        faults = (
            (str(tmp_path / "state"), str(tmp_path / "obstacle" / "state"), "make it writable"),
            ('["127.0.0.1"]', '["192.0.2.1"]', "cannot be served on 192.0.2.1"),
        )
        for right, wrong, reason in faults:
            file.write_text(good.replace(right, wrong))
            env = environment(it.place, tmp_path, {"NOTIFY_SOCKET": systemd.name})
            async with started(ATTPC_IOC, "run", file, env=env, folder=tmp_path) as ioc:
                assert await ioc.wait() == 1, ioc.text
            await systemd.until("STATUS", reason)
        assert "READY" not in systemd.names


async def test_an_event_loop_that_hangs_gives_no_sign_of_life(tmp_path, monkeypatch, short) -> None:
    folder = tmp_path / "blocking"
    (folder / "attpc_blocking-1.dist-info").mkdir(parents=True)
    info = folder / "attpc_blocking-1.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: attpc-blocking\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[attpc_ioc]\nblocking = attpc_blocking\n")
    (folder / "attpc_blocking.py").write_text(BLOCKING_PLUGIN)
    async with rig(tmp_path, monkeypatch, cobos=1, start=False) as it, manager(short) as systemd:
        told = {"NOTIFY_SOCKET": systemd.name, "WATCHDOG_USEC": "1500000", "PYTHONPATH": str(folder)}
        env = environment(it.place, tmp_path, told)
        async with started(ATTPC_IOC, "run", it.settings_file, env=env, folder=tmp_path) as ioc:
            await systemd.until("WATCHDOG", count=2)
            (folder / "hang").touch()
            await systemd.silence("WATCHDOG", 1.5)
            # This is what systemd does then.
            ioc.process.send_signal(signal.SIGABRT)
            assert await ioc.wait() == -signal.SIGABRT
        assert "attpc_blocking.py" in ioc.text, "the log does not show where it hung"
