"""Data hosts that are broken or hostile, in more than 20 ways each over SSH and as a sentry.

Whatever a host does ends as a `HostError` with a short, printable reason, or as figures that fit everywhere;
it costs the IOC neither memory nor its turn.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import psutil
import pytest
from attpc_plugins.data_routers.hosts.host import HostError
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.sentry import HttpSentryHost
from attpc_plugins.data_routers.hosts.ssh.dial import Target
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.settings import Access, RouterSettings

from tests.support.hostile_hosts import SENTRY_WAYS, SSH_WAYS, hostile, slowest_turn

LIMITS = CallLimits(poll_s=1.0, read_s=1.0, files_s=1.0, checksums_s=1.0)
LASTS_S = 2.0
MEMORY = 32 << 20
TURN_S = 0.5
"""The goal is 0.05 s; the machine that runs the tests may be busy with others."""

WAYS = [("ssh", way) for way in SSH_WAYS] + [("sentry", way) for way in SENTRY_WAYS]

HARMLESS = {
    ("ssh", "answers twice"),
    ("sentry", "says less than it sends"),
    ("sentry", "tells control characters"),
}
"""Ways in which an answer may be right all the same."""


def ssh_host(port: int, known: str, folder: Path, limits: CallLimits = LIMITS) -> SshHost:
    known_hosts, config = folder / "known_hosts", folder / "config"
    known_hosts.write_text(known)
    config.write_text("")
    router = RouterSettings(access=Access.SSH, host="127.0.0.1", sources=("CoBo0",), staging="/data")
    target = Target("127.0.0.1", port, "attpc", str(config), str(known_hosts), 2.0)
    return SshHost(router, target, limits, Stations())


def sentry_host(port: int) -> HttpSentryHost:
    router = RouterSettings(access=Access.SENTRY, host="127.0.0.1", port=port, sources=("CoBo0",))
    return HttpSentryHost(router, LIMITS)


@pytest.mark.parametrize(("kind", "way"), WAYS, ids=[f"{kind}-{way.replace(' ', '-')}" for kind, way in WAYS])
async def test_a_hostile_host_costs_neither_memory_nor_turns(tmp_path: Path, kind: str, way: str) -> None:
    memory = psutil.Process().memory_info
    async with hostile(kind, way) as it:
        host = ssh_host(it.port, it.known, tmp_path) if kind == "ssh" else sentry_host(it.port)
        try:
            reasons = []
            before = most = memory().rss
            async with slowest_turn() as slowest:
                end = time.monotonic() + LASTS_S
                while time.monotonic() < end:
                    try:
                        polled = await asyncio.wait_for(host.poll(None), 10)
                        assert 0 <= polled.files < 2**31
                        assert 0 <= polled.data_bytes < 2**63
                        assert polled.note.isprintable()
                    except HostError as error:
                        reasons.append(str(error))
                    most = max(most, memory().rss)
                    await asyncio.sleep(0.05)
                assert slowest() < TURN_S
        finally:
            await host.disconnect()
    assert most - before < MEMORY
    assert reasons or (kind, way) in HARMLESS
    assert all(reason.isprintable() and len(reason) <= 4000 for reason in reasons)


@pytest.mark.parametrize("way", ["sends packets to be ignored", "asks without end"])
async def test_a_host_that_floods_beside_its_answers_loses_the_connection(tmp_path: Path, way: str) -> None:
    async with hostile("ssh", way) as it:
        patient = CallLimits(poll_s=30, read_s=30, files_s=30, checksums_s=30)
        host = ssh_host(it.port, it.known, tmp_path, patient)
        try:
            if way == "asks without end":
                assert (await host.poll(None)).process
            with pytest.raises(HostError, match="it sends unrequested data"):
                await host.poll(None)
        finally:
            await host.disconnect()
