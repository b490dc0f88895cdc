"""The tables over PVAccess: Fleet, Routers, History and Alarms, by p4p's client and EPICS base's programs."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from p4p.client.asyncio import Context

from attpc_ioc.ioc.tables import PERIOD_S
from attpc_ioc.model.states import Severity, Status
from attpc_ioc.pva import Column, TableState
from attpc_ioc.pva.values import NO_READ_ACCESS
from attpc_ioc.pvs.row import Reading
from attpc_ioc.pvs.system import ALARM_LEVELS
from tests.ioc.test_every_pv import HISTORY
from tests.support.ca import camonitor, eventually, run
from tests.support.data_rig import data_rig
from tests.support.pva import p4p_client, pva_server, pvget, pvput
from tests.support.rig import Rig

OF_THEMSELVES = {"DiskFree_RBV", "DiskUsed_RBV", "TimeToFull_RBV"}
"""Columns whose values change without an event."""


def cells(value: Any) -> dict[str, list[Any]]:
    """The columns of a table."""
    return {name: list(column) for name, column in value["value"].todict().items()}


def row(value: Any, name: str, column: str = "Name") -> dict[str, Any]:
    """The row of a table that has `name` in a column; empty where there is none."""
    columns = cells(value)
    if name not in columns[column]:
        return {}
    number = columns[column].index(name)
    return {key: column[number] for key, column in columns.items()}


def stamp(value: Any) -> tuple[int, int]:
    return value["timeStamp.secondsPastEpoch"], value["timeStamp.nanoseconds"]


def alarm(value: Any) -> tuple[str, str]:
    return ALARM_LEVELS[value["alarm.severity"]], value["alarm.message"]


class Watch:
    """What a monitor of a table has brought."""

    def __init__(self, client: Context, name: str) -> None:
        self.values: list[Any] = []
        self._subscription = client.monitor(name, self._see, notify_disconnect=False)

    async def _see(self, value: Any) -> None:
        self.values.append(value)

    @property
    def last(self) -> Any:
        return self.values[-1]

    def close(self) -> None:
        self._subscription.close()


async def test_tables_of_an_ioc(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **HISTORY) as it:
        async with p4p_client(it.place) as client:
            await cells_are_their_pvs(it, client, "Fleet", "Ecc:{}:{}")
            await cells_are_their_pvs(it, client, "Routers", "{}:Router:{}")
            await the_history_is_whole(it, client)
            await updates_are_few_and_the_last_is_right(it, client)
            await a_stopped_server_is_seen(it, client)
        await programs_show_them(it)
        pvaccess = it.app.server.pvaccess
        await eventually(lambda: pvaccess.stats.pvs == 0, what="no table followed")
        assert all(table.follower is None for table in pvaccess.tables)


async def cells_are_their_pvs(it: Rig, client: Context, table: str, pv: str) -> None:
    """Each cell is the value of its PV, an enum's by its label, in the PV's type."""
    value = await client.get(it.prefix + table)
    found = cells(value)
    assert value.getID() == "epics:nt/NTTable:1.0"
    assert list(found)[:2] == ["Name", "Severity"]
    assert list(found) == value["labels"]
    assert len(found["Name"]) == 3
    stamps = []
    for column in list(found)[2:]:
        for number, name in enumerate(found["Name"]):
            scalar = await client.get(it.prefix + pv.format(name, column))
            stamps.append(stamp(scalar))
            if scalar.getID() == "epics:nt/NTEnum:1.0":
                expected, code = scalar["value.choices"][scalar["value.index"]], "s"
            else:
                expected, code = scalar["value"], scalar.type()["value"]
            assert value.type()["value"][column] == f"a{code}", column
            if column not in OF_THEMSELVES:
                assert found[column][number] == expected, (name, column)
    assert min(stamps) <= stamp(value) <= max(stamps)


async def the_history_is_whole(it: Rig, client: Context) -> None:
    """Titles longer than an EPICS string; no row of which a column has not come yet."""
    watch = Watch(client, it.prefix + "History")
    await eventually(lambda: watch.values)
    assert alarm(watch.last) == ("Invalid", "COMM")  # it has no database here
    publish = it.app.server.publisher.publish
    title = "Größe: a title that is longer than forty characters, as people write them"
    for part, values in (("Number", (7.0, 6.0)), ("Title", (title, "old")), ("Duration", (60.0, 61.0))):
        publish(f"{it.prefix}History:{part}_RBV", values)
    for part in ("Class", "Start", "Quality"):
        publish(f"{it.prefix}History:{part}_RBV", ("a", "b"))
    await eventually(lambda: row(watch.last, title, "Title_RBV"))
    assert row(watch.last, title, "Title_RBV") == {
        "Number_RBV": 7, "Title_RBV": title, "Class_RBV": "a", "Start_RBV": "a", "Duration_RBV": 60,
        "Quality_RBV": "a",
    }  # fmt: skip
    assert alarm(watch.last) == ("Ok", "")
    assert watch.last.type()["value"]["Number_RBV"] == "al"
    watch.close()


async def updates_are_few_and_the_last_is_right(it: Rig, client: Context) -> None:
    """Five in a second at most, each with the columns that differ, all cells of one moment."""

    def publish(text: str | Reading) -> None:
        for server in ("cobo0", "cobo1"):
            it.app.server.publisher.publish(f"{it.prefix}Ecc:{server}:Message_RBV", text)

    watch = Watch(client, it.prefix + "Fleet")
    await eventually(lambda: watch.values)
    before, began = len(watch.values), time.monotonic()
    for number in range(1, 301):
        publish(str(number))
        await asyncio.sleep(0.003)
    await eventually(lambda: row(watch.last, "cobo1")["Message_RBV"] == "300")
    assert 2 < len(watch.values) - before <= 2 + (time.monotonic() - began) / PERIOD_S
    assert all(len(set(cells(value)["Message_RBV"][:2])) == 1 for value in watch.values)
    changed = watch.last.changedSet(expand=True)
    assert "value.Message_RBV" in changed
    assert "value.State_RBV" not in changed
    publish(Reading("300", Severity.INVALID, Status.COMM))
    await eventually(lambda: row(watch.last, "cobo1")["Severity"] == "Invalid")
    assert alarm(watch.last) == ("Invalid", "COMM")
    publish("")
    watch.close()


async def a_stopped_server_is_seen(it: Rig, client: Context) -> None:
    online = f"{it.prefix}Ecc:cobo1:Online_RBV"
    fleet, alarms = Watch(client, it.prefix + "Fleet"), Watch(client, it.prefix + "Alarms")
    await eventually(lambda: fleet.values and alarms.values)
    assert row(alarms.last, online, "PV") == {}
    it.fleet["cobo1"].kill()
    await eventually(lambda: row(fleet.last, "cobo1")["State_RBV"] == "Offline")
    await eventually(lambda: row(alarms.last, online, "PV"))
    assert row(fleet.last, "cobo1")["Severity"] == "Invalid"
    assert row(fleet.last, "cobo0")["Severity"] == "Ok"
    assert alarm(fleet.last) == ("Invalid", "COMM")
    shown = row(alarms.last, online, "PV")
    assert (shown["Severity"], shown["Status"]) == ("Major", "COMM")
    assert "not reachable" in shown["Reason"]
    assert time.time() - time.mktime(time.strptime(shown["Since"][:19], "%Y-%m-%dT%H:%M:%S")) < 120
    severities = [ALARM_LEVELS.index(one) for one in cells(alarms.last)["Severity"]]
    assert severities == sorted(severities, reverse=True)
    it.fleet["cobo1"].revive()
    await eventually(lambda: row(alarms.last, online, "PV") == {})
    await eventually(lambda: row(fleet.last, "cobo1")["Severity"] == "Ok")
    for watch in (fleet, alarms):
        watch.close()


async def programs_show_them(it: Rig) -> None:
    names = [it.prefix + table for table in ("Fleet", "Routers", "History", "Alarms")]
    for name in names:
        ran = await pvget(it.place, name)
        assert ran.code == 0, ran.both
        assert ran.out.startswith(name), ran.out
    info = await run(it.place, "pvinfo", "-w", "20", *names)
    assert (info.code, info.out.count("epics:nt/NTTable:1.0")) == (0, 4), info.both
    for _ in range(4):
        async with camonitor(it.place, "-M", "raw", names[0], name="pvmonitor") as monitor:
            shown = monitor.lines
            await eventually(lambda of=shown: any("cobo1" in line or "bad_weak_ptr" in line for line in of))
        # A first value that comes early makes it say so, and it never shows that PV.
        if not any("bad_weak_ptr" in line for line in shown):
            break
    else:
        raise AssertionError("pvmonitor shows no table")
    ran = await pvput(it.place, names[3], "value=1")
    assert "it cannot be written" in ran.both, ran.both


class Counting:
    """A table that is made anew all the time."""

    def __init__(self, name: str) -> None:
        self.name, self.desc = name, "Counts"
        self.columns = (Column("count", "i"), Column("text", "s"))
        self.follower: Any = None
        self.count = 0

    def make(self) -> TableState:
        return TableState(((self.count,), (str(self.count),)), 0, 0, self.count)


async def test_clients_that_come_and_go_never_see_an_old_table():
    """A table is closed without clients, and opened for the next one; what may not be read is hidden."""
    table, may_read = Counting(f"T{secrets.token_hex(3)}:table"), True
    async with pva_server(tables=[table], readable=lambda _name: may_read) as (server, place):
        going = True

        async def change() -> None:
            while going:
                table.count += 1
                if table.follower is not None:
                    table.follower()
                await asyncio.sleep(0.0005)

        async def come_and_go() -> None:
            for _ in range(20):
                async with p4p_client(place) as client:
                    for _ in range(3):
                        # What a client finds when another has just left may be older by a turn of the loop.
                        before = table.count - 1
                        found = cells(await client.get(table.name))
                        assert found["count"][0] >= before
                        assert found["text"] == [str(found["count"][0])]

        changing = asyncio.create_task(change())
        try:
            await asyncio.gather(*(come_and_go() for _ in range(4)))
            async with p4p_client(place) as client:
                watch = Watch(client, table.name)
                await eventually(lambda: len(watch.values) > 3)
                may_read = False
                await server.refresh_access()
                await eventually(lambda: alarm(watch.last) == ("Invalid", NO_READ_ACCESS))
                assert cells(watch.last)["count"] == []
                may_read = True
                await server.refresh_access()
                await eventually(lambda: alarm(watch.last)[0] == "Ok" and cells(watch.last)["count"])
                watch.close()
            await eventually(lambda: table.follower is None)
        finally:
            going = False
            await changing
