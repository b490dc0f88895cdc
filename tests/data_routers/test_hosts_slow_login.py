"""Hosts on which a login, or the start of the agent, takes longer than a look may take."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.host import HostError, HostRefused, HostTimeout
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.ssh.dial import Target
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.settings import Access, RouterSettings
from attpc_plugins.data_routers.watch.poll import Watch

from tests.data_routers.test_hosts_faults import known_at
from tests.support.datahosts import LIMITS, until, write_files
from tests.support.slowwire import Wire, wire
from tests.support.sshd import Sshd, sshd

QUICK = CallLimits(poll_s=1.0, read_s=5.0, files_s=5.0, checksums_s=5.0)
"""Looks are over before anybody is let in."""

PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def reached(
    staging: Path, server: Sshd, *, connect_s: float = 30.0, limits: CallLimits = QUICK, name: str = "CoBo0"
) -> AsyncIterator[SshHost]:
    """Give a host for the length of a block."""
    staging.mkdir(exist_ok=True)  # noqa: ASYNC240
    target = Target(
        "127.0.0.1", server.port, server.user, str(server.config), str(server.known_hosts), connect_s
    )
    router = RouterSettings(
        access=Access.SSH, host="of-the-target", sources=(name,), staging=str(staging), process=""
    )
    host = SshHost(router, target, limits, Stations())
    try:
        yield host
    finally:
        await host.disconnect()


@contextlib.asynccontextmanager
async def relayed(server: Sshd) -> AsyncIterator[tuple[Sshd, Wire]]:
    """Give a server as it is reached over a relay."""
    async with wire(server.port) as relay:
        yield await known_at(server, relay.port), relay


def logins(server: Sshd) -> int:
    return (server.folder / "sshd.log").read_text().count("Accepted publickey")


async def looks_until_answered(host: SshHost) -> list[str]:
    """Look again and again; return what the looks said that were not answered."""
    said: list[str] = []
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await host.poll(None)
                return said
            except HostTimeout as error:
                said.append(str(error))


async def test_a_login_goes_on_between_polls_and_is_made_once(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server, relayed(server) as (slow, relay):
        relay.open.clear()
        async with reached(tmp_path / "staging", slow) as host:
            for _ in range(3):
                with pytest.raises(HostTimeout, match=r"did not answer within 1 s; still connecting$"):
                    await host.poll(None)
            relay.open.set()
            await looks_until_answered(host)
        assert logins(server) == 1
        assert "[preauth]" not in (server.folder / "sshd.log").read_text()


@contextlib.asynccontextmanager
async def with_slow_shells(folder: Path) -> AsyncIterator[Sshd]:
    """Run a server whose login shells take 3 s before they read what they are to do."""
    async with sshd(folder, start=False) as server:
        with (server.folder / "sshd_config").open("a") as file:
            file.write('ForceCommand sleep 3; exec sh -c "$SSH_ORIGINAL_COMMAND"\n')
        server.start()
        yield server


async def test_an_agent_that_starts_slowly_comes_up_between_polls(tmp_path: Path) -> None:
    async with with_slow_shells(tmp_path / "ssh") as server:
        write_files(tmp_path, ["a.graw"])
        async with reached(tmp_path, server) as host:
            said = await looks_until_answered(host)
            assert said
            assert all("still connecting" in text for text in said)
            assert (await host.poll(None)).files == 1
            assert logins(server) == 1


async def test_requests_other_than_polls_wait_until_the_agent_is_there(tmp_path: Path) -> None:
    async with (
        with_slow_shells(tmp_path / "ssh") as server,
        reached(tmp_path / "staging", server, limits=replace(QUICK, files_s=2.0, read_s=2.0)) as host,
    ):
        assert await host.list_staging() == ()


async def test_connecting_ends_at_its_own_limit(tmp_path: Path, shared_sshd: Sshd) -> None:
    async with relayed(shared_sshd) as (slow, relay):
        relay.open.clear()
        async with reached(tmp_path / "staging", slow, connect_s=2.0) as host:
            began = time.monotonic()
            with pytest.raises(HostTimeout, match=r"did not answer within 2 s$"):
                await host.list_staging()
            assert 2.0 <= time.monotonic() - began < 8.0


async def test_a_shell_that_never_starts_the_agent_is_named(tmp_path: Path) -> None:
    async with (
        with_slow_shells(tmp_path / "ssh") as server,
        reached(tmp_path / "staging", server, connect_s=1.5) as host,
    ):
        with pytest.raises(HostTimeout, match=r"logged in, but its login shell .* within 1\.5 s$"):
            await host.list_staging()
        assert logins(server) == 1


async def test_why_a_slow_login_failed_stands_until_there_is_news(tmp_path: Path) -> None:
    async with sshd(tmp_path / "ssh") as server, relayed(server) as (slow, relay):
        authorized = server.authorized_keys.read_text()
        server.authorized_keys.write_text("")
        relay.delay_s = 0.4
        async with reached(tmp_path / "staging", slow) as host:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        await host.poll(None)
                    except HostTimeout:
                        continue
                    except HostRefused:
                        break
            for _ in range(6):
                with pytest.raises(HostRefused, match="accepts none of our SSH keys"):
                    await host.poll(None)
            server.authorized_keys.write_text(authorized)
            relay.delay_s = 0.0
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(HostError):
                        await host.poll(None)
                        break


async def test_a_slow_host_delays_no_polls_of_others(tmp_path: Path, shared_sshd: Sshd) -> None:
    async with (
        relayed(shared_sshd) as (slow, relay),
        reached(tmp_path / "slow", slow) as stuck,
        reached(tmp_path / "quick", shared_sshd, limits=LIMITS, name="CoBo1") as quick,
    ):
        relay.open.clear()
        seen: list[float] = []
        watches = [watch(stuck, lambda: None), watch(quick, lambda: seen.append(time.monotonic()))]
        tasks = [asyncio.create_task(one.run()) for one in watches]
        try:
            await until(lambda: watches[0].failures >= 2 and len(seen) >= 10, PATIENCE_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert watches[0].fault.endswith("still connecting")
        assert watches[1].failures == 0


def watch(host: SshHost, on_poll) -> Watch:
    return Watch(
        "CoBo0",
        host,
        period_s=0.2,
        timeout_s=1.0,
        wanted=lambda: None,
        busy=lambda: False,
        on_poll=on_poll,
    )


async def test_those_who_queue_at_a_silent_host_do_not_each_wait_for_it(
    tmp_path: Path, shared_sshd: Sshd
) -> None:
    async with relayed(shared_sshd) as (slow, relay):
        relay.open.clear()
        async with reached(tmp_path / "staging", slow, connect_s=6.0) as host:
            began = time.monotonic()
            calls = [asyncio.create_task(host.list_staging()) for _ in range(4)]
            await asyncio.wait(calls)
            assert all(isinstance(call.exception(), HostTimeout) for call in calls)
            assert time.monotonic() - began < 2 * 6.0
