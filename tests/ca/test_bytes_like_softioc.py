"""The same messages to EPICS base's `softIoc` and to this server, whose replies are the same to the byte."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from attpc_ioc.ioc.ca.wire import Command
from tests.ca.test_messages_like_softioc import (
    ALWAYS,
    AO,
    DOUBLE,
    STS_DOUBLE,
    VALUE,
    Message,
    Talk,
    both,
    events,
    message,
    talk,
)
from tests.support.ca import LOOPBACK

DO_REPLY, NO_REPLY = 10, 5
BADTYPE = 114
ACKNOWLEDGEMENTS = (35, 36)
"""Taken by softIoc, refused here."""
COMPOUND = range(7, 39)
"""Values with an alarm, a stamp or limits, which libca never sends: softIoc takes some without an answer."""


def search(name: bytes, reply: int, number: int) -> bytes:
    return message(Command.SEARCH, reply, 13, number, number, name + b"\0")


def by_udp(port: int, *requests: bytes) -> bytes:
    """The datagram that comes for one of requests, of which the last is one that is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(message(Command.VERSION, 1, 13, 4711) + b"".join(requests), (LOOPBACK, port))
        return sock.recv(65536)


async def test_searches_are_answered_as_by_softioc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [
        search(b"C:none", DO_REPLY, 1),
        search(b"C:none", NO_REPLY, 2),
        search(b"C:ao", DO_REPLY, 3),
        search(b"C:ao", NO_REPLY, 4),
    ]
    async with both(tmp_path, monkeypatch) as (theirs, ours):
        udp, tcp = [], []
        for place in (theirs, ours):
            # Each server's own port is in what it answers.
            reply = await asyncio.to_thread(by_udp, place.port, *requests)
            udp.append(reply.replace(struct.pack(">H", place.port), b"pp"))
            async with talk(place.port) as it:
                got = await it.answers(*requests)
                tcp.append([replace(m, dtype=0) if m.dtype == place.port else m for m in got])
    assert udp[0] == udp[1]
    assert tcp[0] == tcp[1]
    assert [m.command for m in tcp[1]] == [Command.NOT_FOUND, Command.SEARCH, Command.SEARCH]
    assert [command for command, *_ in struct.iter_unpack(">H6x8x8x", udp[1][16:])] == [Command.SEARCH] * 2


def plain(got: list[Message]) -> list[Message]:
    """What came, without what each server chooses in exceptions.

    That is the channel's number in the request that they repeat; and behind the end of their text softIoc
    leaves what was in its memory.
    """

    def repeated(payload: bytes) -> bytes:
        text = payload[16:24].partition(b"\0")[0]
        return payload[:8] + payload[12:16] + text

    return [replace(m, payload=repeated(m.payload)) if m.command == Command.ERROR else m for m in got]


async def test_puts_of_every_type_are_answered_as_by_softioc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(tmp_path, monkeypatch) as (theirs, ours):
        for dtype in [*range(1, 42), 99, 0x8000, 0xFFFF]:
            if dtype in ACKNOWLEDGEMENTS:
                continue
            for ask in (Talk.put, Talk.write) if dtype not in COMPOUND else (Talk.put,):
                said = []
                for place in (theirs, ours):
                    async with talk(place.port) as it:
                        # softIoc disconnects the client after its answer to a type that does not exist.
                        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                            await it.answers(ask(it, AO, dtype, bytes(600)))
                        said.append(plain(it.got))
                assert said[0] == said[1], (dtype, ask.__name__)
                if dtype > 38 and ask is Talk.put:
                    assert [m.p1 for m in said[1]] == [BADTYPE]


async def held_back(port: int) -> list[Message]:
    """The events that come when they are on again, of four monitors of two PVs that had many."""
    async with talk(port) as it:
        await it.answers(
            it.monitor(AO, DOUBLE, VALUE, 1),
            it.monitor(ALWAYS, DOUBLE, VALUE, 2),
            it.monitor(AO, STS_DOUBLE, VALUE, 3),
            it.monitor(ALWAYS, STS_DOUBLE, VALUE, 4),
        )
        it.send(message(Command.EVENTS_OFF))
        for value in range(10, 80, 10):
            for which in (AO, ALWAYS) if value > 30 else (ALWAYS, AO):
                it.send(it.put(which, DOUBLE, struct.pack(">d", value + which)))
                assert events(await it.until(Command.WRITE_NOTIFY)) == []
        return [without_padding(m) for m in events(await it.answers(message(Command.EVENTS_ON)))]


def without_padding(event: Message) -> Message:
    """A DBR_STS_DOUBLE has four bytes before its value in which softIoc leaves what was there."""
    if event.dtype != STS_DOUBLE:
        return event
    return replace(event, payload=event.payload[:4] + bytes(4) + event.payload[8:])


async def test_events_held_back_end_with_the_newest_alone_as_from_softioc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with both(tmp_path, monkeypatch) as (theirs, ours):
        here = await held_back(ours.port)
        assert here == await held_back(theirs.port)
        assert sorted(m.p2 for m in here) == [1, 2, 3, 4]
