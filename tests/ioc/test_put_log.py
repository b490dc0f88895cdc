"""The put log: a line for every put, a count for what is too much of one client, and all on record."""

from __future__ import annotations

import asyncio
import logging

import caproto
import pytest

from attpc_ioc.ioc.put_log import LINES_ALL, LINES_EACH, REFUSED_ALL, REFUSED_EACH, PutLog
from attpc_ioc.model.command import Put, Who
from attpc_ioc.plugin import hookimpl
from tests.ca.raw import raw_client
from tests.support.ca import eventually
from tests.support.rig import rig

LOGGER = "attpc_ioc.ioc.put_log"


def told(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    """The keys of all lines of an event, in their order."""
    return [vars(r)["keys"] for r in caplog.records if r.name == LOGGER and r.getMessage() == event]


def put(who: Who, *, ok: bool = True) -> Put:
    return Put("T:Run:Title", who, "old", "new", ok=ok, reason="" if ok else "not now")


ANN, BOB = Who("ann", "console1", "10.0.0.1:40000"), Who("bob", "console2", "10.0.0.2:40000")


async def test_a_line_of_a_put_over_pvaccess_says_so(caplog):
    caplog.set_level(logging.INFO)
    log = PutLog(lambda _put: None)
    log.add(put(Who("eve", "10.0.0.3", "10.0.0.3:40000", via="pva")))
    log.close()
    (keys,) = told(caplog, "put")
    assert (str(keys["who"]), keys["address"], keys["via"]) == ("eve@10.0.0.3", "10.0.0.3:40000", "pva")


async def test_a_line_has_everything_of_a_put(caplog):
    caplog.set_level(logging.INFO)
    seen: list[Put] = []
    log = PutLog(seen.append)
    log.add(put(ANN))
    log.add(put(BOB, ok=False))
    log.close()
    assert [(str(keys.pop("who")), keys) for keys in told(caplog, "put")] == [
        (
            "ann@console1",
            {"pv": "T:Run:Title", "address": ANN.address, "old": "old", "new": "new", "ok": True},
        ),
        (
            "bob@console2",
            {
                "pv": "T:Run:Title",
                "address": BOB.address,
                "old": "old",
                "new": "new",
                "ok": False,
                "reason": "not now",
            },
        ),
    ]
    assert [r.levelname for r in caplog.records] == ["INFO", "WARNING"]
    assert told(caplog, "puts left out of the log") == []
    assert len(seen) == 2


async def test_what_is_too_much_of_one_client_is_counted_and_hurts_no_other(caplog):
    caplog.set_level(logging.INFO)
    seen: list[Put] = []
    log = PutLog(seen.append, window_s=0.05)
    for number in range(LINES_EACH + 30):
        log.add(put(ANN, ok=number % 2 == 0))
    log.add(put(BOB))
    assert [str(keys["who"]) for keys in told(caplog, "put")] == ["ann@console1"] * LINES_EACH + [
        "bob@console2"
    ]
    await eventually(lambda: bool(told(caplog, "puts left out of the log")))
    (keys,) = told(caplog, "puts left out of the log")
    assert (str(keys["who"]), keys["address"]) == ("ann@console1", ANN.address)
    assert (keys["puts"], keys["refused"]) == (30, 15)
    assert len(seen) == LINES_EACH + 31
    caplog.clear()
    log.add(put(ANN))  # a new time has begun
    assert len(told(caplog, "put")) == 1
    log.close()


async def test_a_client_that_connects_anew_for_every_put_is_too_much_as_well(caplog):
    caplog.set_level(logging.INFO)
    log = PutLog(lambda _put: None)
    for port in range(LINES_ALL + 25):
        log.add(put(Who(f"user{port}", "console1", f"10.0.0.1:{port}")))
    log.close()
    assert len(told(caplog, "put")) == LINES_ALL
    left_out = told(caplog, "puts left out of the log")
    assert len(left_out) == 11
    assert (left_out[-1]["clients"], sum(int(str(keys["puts"])) for keys in left_out)) == (15, 25)


async def test_the_record_is_complete_where_the_log_is_not(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    heard: list[Put] = []

    class Listener:
        @hookimpl
        def attpc_event(self, event):
            if isinstance(event, Put):
                heard.append(event)

    many = LINES_EACH + 40
    async with rig(tmp_path, monkeypatch, plugins=[("listener", Listener())]) as it:
        async with raw_client(it.place.port, "script") as raw:
            channel = await raw.channel(it.prefix + "Run:MaxDuration")
            for number in range(many):
                raw.send(
                    caproto.WriteNotifyRequest(
                        [float(number - 5)], caproto.ChannelType.DOUBLE, 1, channel.sid, number
                    )
                )
            for _ in range(many):
                await raw.until(caproto.WriteNotifyResponse)
        await eventually(lambda: len(heard) == many)
        assert [p.ok for p in heard] == [number >= 5 for number in range(many)]
        assert [p.new for p in heard[5:]] == [f"{number} s" for number in range(many - 5)]
        assert [p.old for p in heard[6:]] == [p.new for p in heard[5:-1]]
    assert len(told(caplog, "put")) == LINES_EACH
    (keys,) = told(caplog, "puts left out of the log")
    assert (str(keys["who"]), keys["puts"], keys["refused"]) == ("script@bench", 40, 0)
    assert not [task for task in asyncio.all_tasks() if "put" in task.get_name()]


def test_refused_puts_of_one_host_are_counted_and_the_count_is_recorded(caplog):
    """Whatever ports they come from; accepted ones stay complete, and other hosts' refused ones too."""

    async def flood() -> list[Put]:
        seen: list[Put] = []
        log = PutLog(seen.append)
        for port in range(2000):
            log.add(put(Who("ann", "console1", f"10.0.0.1:{port}"), ok=False))
            if port % 100 == 0:
                log.add(put(ANN))
        log.add(put(BOB, ok=False))
        log.record_refused()
        log.record_refused()
        log.close()
        return seen

    seen = asyncio.run(flood())
    assert sum(p.ok for p in seen) == 20
    *single, count = [p for p in seen if not p.ok]
    assert [p.who.host for p in single] == ["console1"] * REFUSED_EACH + ["console2"]
    assert {p.reason for p in single} == {"not now"}
    assert (count.pv, str(count.who), count.old, count.new) == ("T:Run:Title", "ann@console1", "", "")
    assert count.reason == (
        f"{2000 - REFUSED_EACH} more puts from this host were refused within 60 s and only counted; "
        "the last: not now"
    )
    assert len(told(caplog, "put")) <= REFUSED_ALL + 20


async def test_refused_puts_of_all_hosts_are_bounded_and_a_new_minute_begins():
    seen: list[Put] = []
    log = PutLog(seen.append, refused_s=0.05)
    for number in range(300):
        log.add(put(Who("u", "h", f"10.0.{number}.1:1"), ok=False))
    await eventually(lambda: len(seen) == REFUSED_ALL + 11, "the counts were not recorded")
    assert seen[-1].reason.startswith("190 more puts from 190 hosts were refused")
    log.add(put(BOB, ok=False))
    assert seen[-1].reason == "not now"
    log.close()


async def test_a_flood_of_refused_puts_is_a_few_records(tmp_path, monkeypatch):
    heard: list[Put] = []

    class Listener:
        @hookimpl
        def attpc_event(self, event):
            if isinstance(event, Put):
                heard.append(event)

    many = 1000
    async with rig(tmp_path, monkeypatch, plugins=[("listener", Listener())]) as it:
        async with raw_client(it.place.port, "script") as raw:
            channel = await raw.channel(it.prefix + "GoTo")
            for number in range(many):
                raw.send(
                    caproto.WriteNotifyRequest(
                        [b"nowhere"], caproto.ChannelType.STRING, 1, channel.sid, number
                    )
                )
            for _ in range(many):
                await raw.until(caproto.WriteNotifyResponse, 30)
        await it.stop_ioc()
    counted = [p for p in heard if "only counted" in p.reason]
    minutes = len(counted)
    assert counted
    assert len(heard) <= minutes * (REFUSED_EACH + 1)
    assert sum(int(p.reason.split()[0]) for p in counted) + len(heard) - minutes == many
