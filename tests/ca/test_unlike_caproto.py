"""What caproto's own server does to clients, and this one does not.

Every test runs the same client action against both, each in a process of its own. On `caproto` it must show
the fault that this server was written for: should a new version of caproto have mended it, the test says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca.wire import Command, message
from tests.ca.raw import Raw, raw_client
from tests.support.ca import LOOPBACK, CaPlace, ca_place, caget, camonitor, caput
from tests.support.patience import PATIENCE_S

VALUE, ALARM, PROPERTY = 1, 4, 8
HERE = Path(__file__).parent
MANY = 400


class Twin:
    """One server of one kind."""

    def __init__(self, kind: str, place: CaPlace, process: asyncio.subprocess.Process) -> None:
        self.kind = kind
        self.place = place
        self.process = process

    @property
    def faulty(self) -> bool:
        """Whether the fault must be there."""
        return self.kind == "caproto"

    async def tell(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        answer = json.loads(await asyncio.wait_for(self.process.stdout.readline(), 30))
        assert isinstance(answer, dict)
        return answer

    @property
    def resident(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return float(status.split("VmRSS:")[1].split()[0]) / 1024

    async def post(self, name: str, value: Any, severity: int = 0) -> None:
        await self.tell(post=[[name, value, severity]])


@contextlib.asynccontextmanager
async def twin(kind: str, count: int = 0, **extra: str) -> AsyncIterator[Twin]:
    with contextlib.closing(ca_place()) as place:
        place.extra.update(extra)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / "twin.py"), kind, str(count)),
            env={**place.env, "PYTHONPATH": os.getcwd()},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 22,
        )
        try:
            assert process.stdout is not None
            assert await asyncio.wait_for(process.stdout.readline(), 20)
            await asyncio.to_thread(search, place.port, "T:long")
            yield Twin(kind, place, process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.communicate()


def search(port: int, name: str, sequence: int = 1) -> bytes:
    """Search until there is an answer, and return that."""
    payload = name.encode() + b"\0"
    payload += bytes(-len(payload) % 8)
    request = message(Command.VERSION, 1, 13, sequence) + message(Command.SEARCH, 5, 13, 1, 1, payload)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.05)
        for _ in range(400):
            with contextlib.suppress(OSError):
                sock.sendto(request, (LOOPBACK, port))
                return sock.recv(2000)
    raise TimeoutError("no search reply")


async def subscribe(raw: Raw, name: str, number: int, mask: int, dtype: ChannelType) -> Any:
    chan = await raw.channel(name)
    raw.send(caproto.EventAddRequest(dtype, 0, chan.sid, number, 0, 0, 0, mask))
    await raw.until(caproto.EventAddResponse)
    return chan


async def settled(raw: Raw) -> list[Any]:
    """The monitor updates that come until nothing has come for a while.

    Stock caproto answers an echo before it sends what was posted before; so silence is waited for.
    """
    seen = []
    with contextlib.suppress(TimeoutError):
        while True:
            command = await raw.read(0.25)
            if isinstance(command, caproto.EventAddResponse):
                seen.append(command)
    return seen


@pytest.mark.parametrize("kind", ["caproto", "here"])
async def test_a_stopped_monitor_stops_the_monitors_of_others(kind: str) -> None:
    names = [f"T:many{i}" for i in range(4)]
    # caproto's queue for one circuit has room for 10000 by default; it takes a minute to fill.
    small = {"CAPROTO_MAX_TOTAL_SUBSCRIPTION_BACKLOG": "300"}
    async with (
        twin(kind, len(names), **small) as server,
        camonitor(server.place, "T:numbers", *names) as stopped,
    ):
        await stopped.until(1 + len(names))
        os.kill(stopped.process.pid, signal.SIGSTOP)
        try:
            # The first fill what the operating system holds for the client, the others the server's queue.
            for number in range(60):
                await server.post("T:numbers", float(number))
            for number in range(1, 300, 10):
                await server.tell(
                    post=[[name, float(number + n), 0] for n in range(10) for name in names], slowly=True
                )
            async with camonitor(server.place, "T:long") as other:
                frozen = False
                for number in range(5):
                    await server.post("T:long", 10_000 + number)
                try:
                    await other.until_text(" 10004", 2.0)
                except TimeoutError:
                    frozen = True
                assert frozen is server.faulty
        finally:
            os.kill(stopped.process.pid, signal.SIGCONT)


async def updates_that_were_sent_stay_in_memory(server: Twin) -> None:
    async with raw_client(server.place.port) as raw:
        await subscribe(raw, "T:numbers", 1, VALUE, ChannelType.DOUBLE)
        before = 0.0
        for number in range(1, 121):
            await server.post("T:numbers", float(number))
            while (await raw.until(caproto.EventAddResponse)).data[0] != number:
                pass
            before = before or (server.resident if number == 20 else 0.0)
        kept_mb = server.resident - before
    assert (kept_mb > 8) is server.faulty, kept_mb


async def a_bad_enum_put_kills_every_later_caget(server: Twin) -> None:
    await caput(server.place, "-c", "-w", "1", "T:choice", "99")
    ran = await caget(server.place, "-w", "1", "T:choice")
    assert (ran.code == -signal.SIGABRT) is server.faulty, ran
    assert (ran.code == 0) is not server.faulty, ran


async def an_alarm_alternates_when_the_value_stays(server: Twin) -> None:
    seen = []
    for _ in range(4):
        await server.post("T:long", 5, 2)
        ran = await caget(server.place, "-d", "DBR_STS_LONG", "T:long")
        assert ran.code == 0
        seen.append("MAJOR" in ran.out)
    assert (seen != [True] * 4) is server.faulty, seen


async def event_masks_are_ignored(server: Twin) -> None:
    for mask in (ALARM, PROPERTY):
        await _event_mask_is_ignored(server, mask)


async def _event_mask_is_ignored(server: Twin, mask: int) -> None:
    async with raw_client(server.place.port) as raw:
        await subscribe(raw, "T:long", 1, mask, ChannelType.LONG)
        for number in range(1, 6):
            await server.post("T:long", number)
        assert bool(await settled(raw)) is server.faulty


async def clear_channel_ends_every_monitor_of_the_circuit(server: Twin) -> None:
    async with raw_client(server.place.port) as raw:
        one = await subscribe(raw, "T:long", 1, VALUE, ChannelType.LONG)
        await subscribe(raw, "T:ai", 2, VALUE, ChannelType.DOUBLE)
        raw.send(caproto.ClearChannelRequest(one.sid, one.cid))
        await raw.until(caproto.ClearChannelResponse)
        await server.post("T:long", 7)
        await server.post("T:ai", 8.0)
        await server.post("T:ai", 9.0)
        seen = [event for event in await settled(raw) if event.subscriptionid == 2]
        assert (len(seen) < 2) is server.faulty


async def search_replies_lack_the_sequence_number(server: Twin) -> None:
    reply = await asyncio.to_thread(search, server.place.port, "T:long", 4711)
    command, _, numbered, _, sequence, _ = struct.unpack_from(">HHHHII", reply)
    assert command == Command.VERSION
    assert ((numbered & 1, sequence) != (1, 4711)) is server.faulty


async def no_delay_is_off(server: Twin) -> None:
    async with raw_client(server.place.port):
        assert (await server.tell())["no_delay"] == [not server.faulty]


async def test_an_update_is_encoded_for_every_client() -> None:
    cost_us: dict[str, float] = {}
    for kind in ("caproto", "here"):
        async with twin(kind) as server, contextlib.AsyncExitStack() as stack:
            raws = [await stack.enter_async_context(raw_client(server.place.port)) for _ in range(20)]
            for raw in raws:
                await subscribe(raw, "T:ai", 1, VALUE, ChannelType.TIME_DOUBLE)
            began = (await server.tell())["cpu_s"]
            await server.tell(post=[["T:ai", float(number), 0] for number in range(1, 101)], slowly=True)
            for raw in raws:
                while (await raw.until(caproto.EventAddResponse)).data[0] != 100.0:
                    pass
            cost_us[kind] = ((await server.tell())["cpu_s"] - began) / 2000 * 1e6
    assert cost_us["here"] < cost_us["caproto"] / 3, cost_us


async def test_fields_cost_time_and_memory_whether_asked_for_or_not() -> None:
    """Each of some 400 PVs has `record=` in the stock server, as it must to have fields."""
    start_s: dict[str, float] = {}
    resident: dict[str, float] = {}
    for kind in ("caproto", "here"):
        async with twin(kind, MANY) as server:
            start_s[kind] = (await server.tell())["cpu_s"]
            resident[kind] = server.resident
            ran = await caget(server.place, "-t", *(f"T:many{i}.RTYP" for i in range(MANY)))
            assert ran.out.split() == ["ai"] * MANY
    assert resident["caproto"] - resident["here"] > 30, resident
    assert start_s["caproto"] > 1.3 * start_s["here"], start_s


async def a_text_is_as_long_as_the_first_one_was(server: Twin) -> None:
    text = "a title of more than five characters"
    await caput(server.place, "-c", "-S", "-w", "1", "T:title", text)
    ran = await caget(server.place, "-t", "-S", "-w", "1", "T:title")
    assert (ran.out.strip() != text) is server.faulty


async def the_units_field_is_empty_though_the_control_type_has_them(server: Twin) -> None:
    ran = await caget(server.place, "-d", "DBR_CTRL_DOUBLE", "T:ai")
    assert "MB/s" in ran.out
    ran = await caget(server.place, "-t", "T:ai.EGU")
    assert (ran.out.strip() != "MB/s") is server.faulty


FAULTS = (
    no_delay_is_off,
    search_replies_lack_the_sequence_number,
    updates_that_were_sent_stay_in_memory,
    event_masks_are_ignored,
    clear_channel_ends_every_monitor_of_the_circuit,
    an_alarm_alternates_when_the_value_stays,
    the_units_field_is_empty_though_the_control_type_has_them,
    a_text_is_as_long_as_the_first_one_was,
    a_bad_enum_put_kills_every_later_caget,
)
"""In this order: the first counts clients, and the last leaves the PV poisoned."""


@pytest.mark.parametrize("kind", ["caproto", "here"])
async def test_faults_of_a_server(kind: str) -> None:
    async with twin(kind) as server:
        for fault in FAULTS:
            await fault(server)


@pytest.mark.parametrize("kind", ["caproto", "here"])
async def test_a_beacon_that_nobody_takes_is_a_traceback(kind: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind((LOOPBACK, 0))
        nowhere = str(closed.getsockname()[1])
    async with twin(kind, EPICS_CAS_BEACON_PORT=nowhere, EPICS_CA_REPEATER_PORT=nowhere) as server:
        assert server.process.stderr is not None
        told = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while b"Traceback" not in told:
                    told += await server.process.stderr.read(65536) or b""
        assert (b"Traceback" in told) is server.faulty, told


async def test_connecting_4000_channels_is_slow() -> None:
    """Without the sequence number libca asks for a few names at a time, and waits before it asks for more."""
    took_s: dict[str, float] = {}
    names = [f"T:many{i % MANY}.{field}" for i in range(MANY) for field in ("RTYP", "DESC", "PREC", "EGU")]
    for kind in ("caproto", "here"):
        async with twin(kind, MANY) as server:
            began_s = time.monotonic()
            ran = await caget(server.place, "-t", "-w", str(PATIENCE_S), *names)
            took_s[kind] = time.monotonic() - began_s
            assert ran.code == 0
    assert took_s["here"] < took_s["caproto"] / 2, took_s
