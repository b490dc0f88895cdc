"""libca inside the test's own process: order, completeness, long text, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aioca
import pytest
from epicscorelibs.ca import dbr

from attpc_ioc.ioc.ca import PV, Client
from attpc_ioc.ioc.ca.wire import Eca
from tests.ca.conftest import Rig
from tests.support.ca import CaPlace, eventually, libca_place


@pytest.fixture
def place() -> CaPlace:
    return libca_place()


@pytest.fixture(autouse=True)
async def no_channels_left(rig: Rig) -> AsyncIterator[None]:
    yield
    aioca.purge_channel_caches()


async def test_every_change_in_order(rig: Rig) -> None:
    seen: list[int] = []
    monitor = aioca.camonitor("T:long", lambda value: seen.append(int(value)), all_updates=True)
    await eventually(lambda: seen == [42])
    for batch in range(40):
        for number in range(50):
            rig["long"].post(1000 + batch * 50 + number)
        await asyncio.sleep(0)
    await eventually(lambda: seen[-1:] == [2999])
    assert seen == [42, *range(1000, 3000)]
    assert rig.server.stats.dropped == 0
    monitor.close()


async def test_refused_put_without_completion_harms_nothing(
    rig: Rig, capfd: pytest.CaptureFixture[str]
) -> None:
    """libca prints the exception that it gets, and goes on."""
    await aioca.caput("T:longout", 5000, wait=False)
    await eventually(lambda: len(rig.rejected) == 1)
    rig.refuse = "later"
    await aioca.caput("T:longout", 6, wait=False)
    await eventually(lambda: rig.server.stats.rejected == 2)
    rig.refuse = ""
    await aioca.caput("T:longout", 8, wait=False)
    await eventually(lambda: rig["longout"].value == 8)
    assert await aioca.caget("T:longout") == 8
    assert len(rig.server.clients()) == 1
    printed: list[str] = []

    def printed_times() -> int:
        printed.append(capfd.readouterr().err)
        return "".join(printed).count("Channel write request failed")

    await eventually(lambda: printed_times() == 2, "libca's words")


async def test_alarm_stamp_and_control_values(rig: Rig) -> None:
    rig["ai"].post(9.5, severity=2, status=3, stamp=1_700_000_000.25)
    value = await aioca.caget("T:ai", format=aioca.FORMAT_TIME)
    assert (value, value.severity, value.status) == (9.5, 2, 3)
    assert value.timestamp == pytest.approx(1_700_000_000.25, abs=1e-6)
    value = await aioca.caget("T:ai", format=aioca.FORMAT_CTRL)
    assert (value.units, value.precision, value.upper_alarm_limit) == ("MB/s", 3, 9)
    value = await aioca.caget("T:choice", format=aioca.FORMAT_CTRL)
    assert value.enums == ["None", "Idle", "Größe"]
    assert list(await aioca.caget("T:strings")) == ["one", "two", "drei µ"]


@pytest.mark.parametrize("text", ["", "plain", "Größe µ ☢ 🎉", "x" * 200, "ä" * 200])
async def test_long_text(rig: Rig, text: str) -> None:
    await aioca.caput("T:title", text, datatype=aioca.DBR_CHAR_STR, wait=True)
    assert rig["title"].value == text
    assert await aioca.caget("T:title", datatype=aioca.DBR_CHAR_STR) == text
    rig["title"].post("")
    data = text.encode("utf-16-be")
    units = [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)] or [0]
    await aioca.caput("T:title", units, datatype=dbr.DBR_LONG, wait=True)
    assert rig["title"].value == text


async def test_refusals(rig: Rig) -> None:
    for name, value, datatype in (
        ("T:title", "x" * 201, aioca.DBR_CHAR_STR),
        ("T:longout", 1.5, dbr.DBR_DOUBLE),
        ("T:ao", float("nan"), None),
        ("T:ao", [1.0, 2.0], None),
        ("T:choice", "Nonsense", dbr.DBR_STRING),
    ):
        result = await aioca.caput(name, value, datatype=datatype, wait=True, throw=False)
        assert not result.ok, name
    assert rig.puts == []
    rig.refuse = "not now"
    result = await aioca.caput("T:ao", 1.0, wait=True, throw=False)
    assert result.errorcode == Eca.PUTFAIL
    rig.refuse = ""
    assert (await aioca.caput("T:ao", 2.0, wait=True)).ok
    assert rig["ao"].value == 2.0
    assert (rig.server.stats.puts, rig.server.stats.rejected) == (6, 5)  # libca refused the array itself


async def test_put_without_completion_returns_at_once(rig: Rig) -> None:
    rig.hold = asyncio.Event()
    await aioca.caput("T:longout", 3)
    await eventually(lambda: len(rig.puts) == 1)
    assert rig["longout"].value == 7
    rig.hold.set()
    await eventually(lambda: rig["longout"].value == 3)


async def test_access_is_taken_away_and_given_back(rig: Rig) -> None:
    allowed = [True]

    def access(pv: PV, client: Client) -> tuple[bool, bool]:
        return True, allowed[0]

    rig.server._access = access
    info = await aioca.cainfo("T:longout")
    assert info.write
    allowed[0] = False
    rig.server.refresh_access()

    async def writable() -> bool:
        return bool((await aioca.cainfo("T:longout")).write)

    async def not_writable() -> bool:
        return not await writable()

    await eventually(not_writable)
    allowed[0] = True
    rig.server.refresh_access()
    await eventually(writable)


@pytest.mark.slow  # libca looks for what it lost after 10 s when it hears no beacon
async def test_monitors_come_back_after_a_restart(rig: Rig) -> None:
    seen: list[float] = []
    gone: list[bool] = []

    def update(value: object) -> None:
        if getattr(value, "ok", False):
            seen.append(float(value))  # type: ignore[arg-type]
        else:
            gone.append(True)

    monitors = [aioca.camonitor(n, update, notify_disconnect=True) for n in ("T:long", "T:ai")]
    await eventually(lambda: len(seen) == 2)
    await rig.server.stop()
    await eventually(lambda: len(gone) == 2)
    rig["long"].post(77)
    await rig.server.start()
    await eventually(lambda: 77.0 in seen and len(seen) == 4, limit_s=25)
    for monitor in monitors:
        monitor.close()
