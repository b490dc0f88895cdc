"""A hostile ECC server in a process of its own: which way it answers is told on stdin, line by line.

    python -m tests.security.hostile PORT

A line is `ALL:WAY`, for every call; `REST:WAY`, for every call but GetState; or `CONFIGURE:WAY`, for
Configure alone, in the state for that. The other calls are answered well. After each it says how many calls
it has answered in this way.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys

from tests.support.ecc_raw import envelope, state_xml, text_xml

from .peer import HostilePeer
from .ways import HTTP_WAYS, STREAM_WAYS, Way, at_once, http, xml_bodies

GOOD_STATE = http(envelope(state_xml(1)))
PREPARED = http(envelope(state_xml(3)))
OWN_CONFIG = "cobo10"
MOST_STATE = 60_000
MOST_TEXT = 1_000_000

_counter = itertools.count()


def _config(name: str) -> str:
    parts = "".join(
        f'<SubConfigId type="{t}">{name}</SubConfigId>' for t in ("describe", "prepare", "configure")
    )
    return f"<ConfigId>{parts}</ConfigId>"


def _list(*entries: str) -> bytes:
    text = f"<ConfigIdSet>{''.join(entries)}</ConfigIdSet>".replace("<", "&lt;")
    return envelope(text_xml(text))


async def _restless(writer: asyncio.StreamWriter, _good: bytes) -> None:
    """Another state and message with each poll, always in a transition: polled at the fastest pace."""
    number = next(_counter)
    message = f"{number} " + "é \x01" * (MOST_STATE // 5)
    writer.write(http(envelope(state_xml(number % 7, 1 + number % 9, message=message))))
    await writer.drain()


ECC_WAYS: dict[str, Way] = {
    name: at_once(http(envelope(inner)))
    for name, inner in {
        "code of 300 digits": state_xml(code="9" * 300),
        "code of 2^63": state_xml(code=2**63),
        "negative code": state_xml(code=-1),
        "state of 300 digits": state_xml(state="9" * 300),
        "state inf": state_xml(state="inf"),
        "transition 1e400": state_xml(transition="1e400"),
        "long message": state_xml(message="x" * MOST_STATE),
        "code and long message": state_xml(code=3, message="\x1b[2J" * (MOST_STATE // 4)),
        "wrappers": "<e:ResponseState><ErrorCode>0</ErrorCode><ErrorMessage>" * 1000,
        "long fault": f"<SOAP-ENV:Fault><faultstring>{'x' * MOST_STATE}</faultstring></SOAP-ENV:Fault>",
    }.items()
} | {"restless": _restless}

REST_WAYS: dict[str, Way] = {
    "many configs": at_once(http(_list(*(_config(f"e{n}") for n in range(4000))))),
    "long names": at_once(http(_list(*(_config("é" * 10_000) for n in range(15))))),
    "odd names": at_once(http(_list(*(_config(f"\x01{n}/") for n in range(4000))))),
    "broken list": at_once(http(_list(*["<ConfigId>"] * 60_000, "&"))),
    "broken entries": at_once(http(_list(*["<ConfigId><SubConfigId></ConfigId>"] * 15_000))),
}


def all_ways() -> dict[str, Way]:
    """Every way, by what is told on stdin."""
    everywhere = STREAM_WAYS | HTTP_WAYS | ECC_WAYS
    everywhere |= {f"XML {name}": at_once(http(body)) for name, body in xml_bodies(MOST_STATE).items()}
    rest = HTTP_WAYS | REST_WAYS
    rest |= {f"XML {name}": at_once(http(body)) for name, body in xml_bodies(MOST_TEXT).items()}
    good = {"good": at_once(GOOD_STATE)}
    groups = {"ALL": good | everywhere, "REST": rest, "CONFIGURE": STREAM_WAYS | rest}
    return {f"{group}:{name}": way for group, ways in groups.items() for name, way in ways.items()}


class Hostile(HostilePeer):
    """The server."""

    def __init__(self) -> None:
        super().__init__(all_ways(), "ALL:good")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection in the way that was told."""
        self.connections.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"Envelope>")
            if good := self._good(request):
                writer.write(good)
                await writer.drain()
            else:
                await self.misbehave(reader, writer, GOOD_STATE)
        self.connections.discard(writer)
        writer.close()

    def _good(self, request: bytes) -> bytes | None:
        """Return the good answer, None for a call that has none now."""
        group = self.told.partition(":")[0]
        if group == "CONFIGURE" and b"GetConfigIDs" in request:
            return http(_list(_config(OWN_CONFIG)))
        if group != "ALL" and b"GetState" in request:
            return PREPARED if group == "CONFIGURE" else GOOD_STATE
        return None


if __name__ == "__main__":
    hostile = Hostile()
    asyncio.run(hostile.run(hostile.serve, int(sys.argv[1])))
