"""What a client hears of its puts: with completion and without, of a cleared channel, without the right."""

from __future__ import annotations

import asyncio
from typing import Any

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, Client, ServerLimits
from attpc_ioc.ioc.ca.server import NO_ACCESS, CAServer
from attpc_ioc.ioc.ca.wire import Eca
from tests.ca.conftest import Rig
from tests.ca.raw import Raw, raw_client
from tests.support.ca import LOOPBACK, CaPlace, caget, caput, eventually

LONG, STRING, CHAR = ChannelType.LONG, ChannelType.STRING, ChannelType.CHAR


def exceptions(seen: list[Any]) -> list[tuple[int, int, int, str]]:
    """Of exceptions: the channel's number at the client, the status, the command, and the text."""
    assert all(isinstance(one, caproto.ErrorResponse) for one in seen), seen
    return [
        (
            one.header.parameter1,
            one.header.parameter2,
            one.original_request.command,
            bytes(one.error_message).rstrip(b"\0").decode(),
        )
        for one in seen
    ]


async def test_put_ends_after_its_channel_was_cleared(rig: Rig) -> None:
    """No answer, as from softIoc; caproto's client ends the connection for one."""
    rig.hold = asyncio.Event()
    async with raw_client(rig.server.port) as raw:
        chan = await raw.channel("T:longout")
        other = await raw.channel("T:ao")
        raw.send(caproto.WriteNotifyRequest((9,), LONG, 1, chan.sid, 77))
        raw.send(caproto.WriteRequest((9,), LONG, 1, chan.sid, 78))
        await eventually(lambda: len(rig.puts) == 2)
        raw.send(caproto.ClearChannelRequest(chan.sid, chan.cid))
        await raw.until(caproto.ClearChannelResponse)
        rig.refuse = "later"
        rig.hold.set()
        await eventually(lambda: rig.server.stats.rejected == 2)
        assert await raw.echo() == []
        raw.send(caproto.WriteNotifyRequest((1.0,), ChannelType.DOUBLE, 1, other.sid, 79))
        assert (await raw.until(caproto.WriteNotifyResponse)).ioid == 79


async def test_refused_put_without_completion_is_reported(rig: Rig) -> None:
    """At once, and of one that fails later; of one that is done nothing is said."""
    async with raw_client(rig.server.port) as raw:
        chan = await raw.channel("T:longout")
        raw.send(caproto.WriteRequest((5000,), LONG, 1, chan.sid, 1))
        assert exceptions(await raw.echo()) == [(chan.cid, Eca.PUTFAIL, 4, "T:longout")]
        closed = await raw.channel("T:long")
        raw.send(caproto.WriteRequest((5,), LONG, 1, closed.sid, 2))
        assert exceptions(await raw.echo()) == [(closed.cid, Eca.NOWTACCESS, 4, "T:long")]
        raw.send(caproto.WriteRequest((5,), LONG, 1, chan.sid, 3))
        await eventually(lambda: rig["longout"].value == 5)
        assert await raw.echo() == []
        rig.refuse, rig.hold = "later", asyncio.Event()
        raw.send(caproto.WriteRequest((6,), LONG, 1, chan.sid, 4))
        await eventually(lambda: len(rig.puts) == 2)
        assert await raw.echo() == []
        rig.hold.set()
        await eventually(lambda: rig.server.stats.rejected == 3)
        assert exceptions([await raw.until(caproto.ErrorResponse)]) == [
            (chan.cid, Eca.PUTFAIL, 4, "T:longout")
        ]


async def test_caput_without_completion_warns(rig: Rig) -> None:
    """EPICS base's own program prints the refusal, and shows the value that is still there."""
    ran = await caput(rig.place, "T:longout", "5000")
    assert ran.code == 0
    assert "Channel write request failed" in ran.both
    assert "T:longout" in ran.both
    assert [line.split() for line in ran.out.splitlines()] == [
        ["Old", ":", "T:longout", "7"],
        ["New", ":", "T:longout", "7"],
    ]
    assert (await caget(rig.place, "-t", "T:longout")).out.strip() == "7"


class _Guarded:
    """A server on which nobody may write, with what it was told of refusals."""

    def __init__(self, place: CaPlace, limits: ServerLimits, pv: PV) -> None:
        self.reasons: list[str] = []
        self.server = CAServer(
            [pv],
            put=lambda pv, value, client: pv.post(value),
            on_rejected=self._rejected,
            access=lambda pv, client: (True, False),
            limits=limits,
            interfaces=[LOOPBACK],
            port=place.port,
        )

    def _rejected(self, pv: PV, client: Client, raw: str, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize("notify", [True, False])
async def test_too_long_put_of_one_who_may_not_write(rig: Rig, notify: bool) -> None:
    """The right is looked at first: what shows on operators' screens is not for those without it."""
    limits = ServerLimits(max_message_bytes=20_000)
    guarded = _Guarded(rig.place, limits, PV(rig["title"].spec, ""))
    await guarded.server.start()
    try:
        async with raw_client(guarded.server.port) as raw:
            chan = await raw.channel("T:title")
            await _put_too_much(raw, chan.sid, notify)
            if notify:
                told = await raw.until(caproto.WriteNotifyResponse)
                assert told.status.code_with_severity == Eca.NOWTACCESS
            else:
                told = await raw.until(caproto.ErrorResponse)
                assert exceptions([told]) == [(chan.cid, Eca.NOWTACCESS, 4, "T:title")]
            assert await raw.echo() == []
    finally:
        await guarded.server.stop()
    assert guarded.reasons == [NO_ACCESS]


async def _put_too_much(raw: Raw, sid: int, notify: bool) -> None:
    kind = caproto.WriteNotifyRequest if notify else caproto.WriteRequest
    raw.send(kind(b"x" * 30_000, CHAR, 30_000, sid, 5))
