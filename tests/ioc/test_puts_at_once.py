"""Setpoints are set within the turn that read the put; only a promise to have it on record makes it wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from attpc_ioc.ioc.ca import Client, PutRejected
from attpc_ioc.ioc.publish import Publisher
from attpc_ioc.ioc.puts import PutHandler
from attpc_ioc.ioc.records import make_records
from attpc_ioc.ioc.stamps import StampClock
from attpc_ioc.model.command import Put
from tests.support.fakecontrol import FakeController
from tests.support.fleets import make_fleet, make_settings, table_of

CLIENT = Client(1, "127.0.0.1:1", "user", "host")


class Bench:
    """A put handler on a controller; `recorded` is what its log of puts gives back."""

    def __init__(self, recorded: asyncio.Future[Any] | None = None) -> None:
        settings = make_settings()
        table = table_of(settings)
        self.control = FakeController(make_fleet(settings))
        self.pvs = make_records(table)
        publisher = Publisher(table, self.pvs, StampClock())
        publisher.publish_all(self.control.fleet)
        self.control.subscribe(publisher.on_change)
        self.puts: list[Put] = []

        def on_put(put: Put) -> asyncio.Future[Any] | None:
            self.puts.append(put)
            return recorded

        self._handler = PutHandler(self.control, publisher, table, on_put)

    def put(self, name: str, value: object) -> Awaitable[None] | None:
        return self._handler.put(self.pvs[f"T:{name}"], value, CLIENT)


async def test_a_setpoint_is_set_read_back_and_logged_when_the_put_returns():
    bench = Bench()
    assert bench.put("Run:Title", "carbon") is None
    assert bench.pvs["T:Run:Title"].value == "carbon"
    assert [(put.pv, put.new, put.ok) for put in bench.puts] == [("T:Run:Title", "carbon", True)]


async def test_a_refused_setpoint_is_refused_and_logged_at_once():
    bench = Bench()
    bench.control.refuse = "not now"
    with pytest.raises(PutRejected, match="not now"):
        bench.put("Run:Title", "carbon")
    assert [(put.ok, put.reason) for put in bench.puts] == [(False, "not now")]


@pytest.mark.parametrize("refuse", ["", "not now"])
async def test_it_is_answered_when_it_is_on_record(refuse):
    recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    bench = Bench(recorded)
    bench.control.refuse = refuse
    waiting = bench.put("Run:Title", "carbon")
    assert waiting is not None
    assert [value for _, _, value, _ in bench.control.sets] == ([] if refuse else ["carbon"])
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    assert not task.done()
    recorded.set_result(None)
    if refuse:
        with pytest.raises(PutRejected, match=refuse):
            await task
    else:
        await task


async def test_a_record_that_takes_too_long_holds_nobody_up():
    bench = Bench(asyncio.get_running_loop().create_future())
    waiting = bench.put("Run:Title", "carbon")
    assert waiting is not None
    await asyncio.wait_for(waiting, 2)


async def test_a_command_is_awaited():
    bench = Bench()
    bench.control.go.clear()
    waiting = bench.put("Ecc:cobo0:Describe", 1)
    assert waiting is not None
    task = asyncio.ensure_future(waiting)
    await asyncio.sleep(0)
    assert len(bench.control.commands) == 1
    assert not task.done()
    bench.control.go.set()
    await task
    assert [put.ok for put in bench.puts] == [True]
