"""A server with a private corner of Channel Access for each test; nothing may be left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PutRejected, PVSpec, ServerLimits, Value
from tests.support.ca import LOOPBACK, CaPlace, ca_place


def specs() -> list[PVSpec]:
    return [
        PVSpec("T:bi", "bi", ChannelType.ENUM, labels=("Idle", "Busy"), label_severities={1: 2}),
        PVSpec("T:bo", "bo", ChannelType.ENUM, labels=("Done", "Busy"), writable=True),
        PVSpec("T:state", "mbbi", ChannelType.ENUM, labels=("Off", "Idle", "Ready"), desc="state of things"),
        PVSpec("T:choice", "mbbo", ChannelType.ENUM, labels=("None", "Idle", "Größe"), writable=True),
        PVSpec("T:long", "longin", ChannelType.LONG, units="µm", hopr=100, lopr=-5),
        PVSpec("T:longout", "longout", ChannelType.LONG, drvl=0, drvh=1000, writable=True),
        PVSpec(
            "T:ai",
            "ai",
            ChannelType.DOUBLE,
            units="MB/s",
            precision=3,
            hopr=10,
            lopr=0,
            hihi=9,
            high=8,
            limit_severities={"HHSV": 2, "HSV": 1},
            mdel=1.0,
            adel=5.0,
        ),
        PVSpec("T:ao", "ao", ChannelType.DOUBLE, drvl=-10, drvh=10, precision=1, writable=True),
        PVSpec("T:string", "stringin", ChannelType.STRING, desc="a short text"),
        PVSpec("T:text", "lsi", ChannelType.CHAR, max_elements=1024),
        PVSpec("T:title", "lsi", ChannelType.CHAR, max_elements=1024, max_chars=200, writable=True),
        PVSpec("T:strings", "waveform", ChannelType.STRING, max_elements=50),
        PVSpec("T:numbers", "waveform", ChannelType.DOUBLE, max_elements=20_000),
    ]


@dataclass
class Rig:
    """The server, its PVs, and what was put."""

    place: CaPlace
    server: CAServer
    pvs: dict[str, PV]
    puts: list[tuple[str, Value, Client]] = field(default_factory=list)
    rejected: list[tuple[str, str, str]] = field(default_factory=list)
    refuse: str = ""
    hold: asyncio.Event | None = None

    async def put(self, pv: PV, value: Value, client: Client) -> None:
        self.puts.append((pv.name, value, client))
        if self.hold is not None:
            await self.hold.wait()
        if self.refuse:
            raise PutRejected(self.refuse)
        pv.post(value)

    def on_rejected(self, pv: PV, client: Client, raw: str, reason: str) -> None:
        self.rejected.append((pv.name, raw, reason))

    def __getitem__(self, name: str) -> PV:
        return self.pvs[f"T:{name}"]


INITIAL: dict[str, Value] = {
    "bi": 1,
    "bo": 0,
    "state": 2,
    "choice": 0,
    "long": 42,
    "longout": 7,
    "ai": 1.5,
    "ao": 0.5,
    "string": "Grüße",
    "text": "long text: " + "äöü" * 30,
    "title": "",
    "strings": ("one", "two", "drei µ"),
    "numbers": (1.0, 2.5, -3.0),
}


@pytest.fixture
def place() -> Iterator[CaPlace]:
    made = ca_place()
    yield made
    made.close()


@pytest.fixture
def limits() -> ServerLimits:
    """Override to test with others."""
    return ServerLimits()


@pytest.fixture
async def rig(place: CaPlace, limits: ServerLimits, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    place.put_into(monkeypatch)
    pvs = {spec.name: PV(spec, INITIAL[spec.name[2:]]) for spec in specs()}
    made: list[Rig] = []
    server = CAServer(
        pvs.values(),
        put=lambda pv, value, client: made[0].put(pv, value, client),
        on_rejected=lambda *args: made[0].on_rejected(*args),
        limits=limits,
        interfaces=[LOOPBACK],
        port=place.port,
    )
    made.append(Rig(place, server, pvs))
    before = asyncio.all_tasks()
    await server.start()
    yield made[0]
    start = asyncio.get_running_loop().time()
    await server.stop()
    assert asyncio.get_running_loop().time() - start < 10.0
    assert server.clients() == []
    left = {task for task in asyncio.all_tasks() - before if task.get_name().startswith("put ")}
    assert not left
