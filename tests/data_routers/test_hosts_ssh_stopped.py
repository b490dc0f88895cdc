"""A host whose sshd has stopped without a word: what each that asks of it is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.host import HostTimeout
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.link import Link, Target
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.settings import Access, RouterSettings

from tests.support.patience import PATIENCE_S
from tests.support.rig import open_files
from tests.support.simfleet import wait_until
from tests.support.sshd import Sshd, sshd

LIMITS = CallLimits(poll_s=1.5, read_s=5.0, files_s=5.0)


def host(staging: Path, name: str, target: Target, stations: Stations) -> SshHost:
    router = RouterSettings(
        access=Access.SSH, host="of-the-target", sources=(name,), staging=str(staging), process=""
    )
    return SshHost(router, target, LIMITS, stations)


async def answers(host: SshHost) -> None:
    """Poll until it answers: on a busy machine a login takes longer than a poll."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with contextlib.suppress(HostTimeout):
                await host.poll(None)
                return
            await asyncio.sleep(0.05)


async def test_each_message_says_how_long_the_host_was_silent(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server:
        target = Target(
            "127.0.0.1", server.port, server.user, str(server.config), str(server.known_hosts), 3.0
        )
        stations = Stations()
        hosts = [host(tmp_path, name, target, stations) for name in ("CoBo0", "CoBo1", "CoBo2")]
        for each in hosts:
            await answers(each)
            await each.list_staging()
        assert server.process is not None
        for process in (server.process.pid, *(below.pid for below in server.offspring())):
            os.kill(process, signal.SIGSTOP)
        try:
            # The second round finds the agents of the first given up: new ones get no answer either, and
            # the connection is closed under those who still wait.
            for _ in range(3):
                said = [
                    await each for each in asyncio.as_completed([*map(looked, hosts), *map(listed, hosts)])
                ]
                for text in said:
                    silent = rf"{re.escape(str(target))} did not answer within [1-5](\.\d+)? s"
                    assert re.fullmatch(rf"{silent}(; still connecting)?", text)
        finally:
            for each in hosts:
                await each.disconnect()


async def looked(host: SshHost) -> str:
    with pytest.raises(HostTimeout) as silent:
        await host.poll(None)
    return str(silent.value)


async def listed(host: SshHost) -> str:
    with pytest.raises(HostTimeout) as silent:
        await host.list_staging()
    return str(silent.value)


async def test_a_connection_that_is_closed_while_it_is_made_leaves_no_socket(
    tmp_path: Path, shared_sshd: Sshd
) -> None:
    config = tmp_path / "config"
    config.write_text(
        shared_sshd.config.read_text(encoding="utf-8") + "\nHost *\n  Compression no # copied\n",
        encoding="utf-8",
    )
    target = Target(
        "127.0.0.1", shared_sshd.port, shared_sshd.user, str(config), str(shared_sshd.known_hosts)
    )
    before, wait_s, made = open_files(), 0.0, False
    while not made:
        link = Link(target)
        making = asyncio.ensure_future(link.connection())
        done, _ = await asyncio.wait({making}, timeout=wait_s)
        made = bool(done)
        await link.close()
        await asyncio.gather(making, return_exceptions=True)
        wait_s += 0.0005
    await wait_until(
        lambda: not {file for file in open_files() - before if file.startswith("socket:")}, PATIENCE_S
    )
