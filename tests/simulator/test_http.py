"""The HTTP section of the protocol, with raw sockets."""

from __future__ import annotations

import asyncio
import re

import aiohttp
import pytest

from attpc_ioc.simulator.client import exchange, post
from attpc_ioc.simulator.documents import config_id
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.messages import request_body
from attpc_ioc.simulator.server import EccServer, ServerOptions
from tests.support.simfleet import wait_until

GET_STATE = request_body("GetState")
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"


def enveloped(inner: str) -> bytes:
    return f'<s:Envelope xmlns:s="{SOAP}"><s:Body>{inner}</s:Body></s:Envelope>'.encode()


async def send(server: EccServer, data: bytes, timeout_s: float = 3) -> bytes:
    return await exchange(server.host, server.port, data, timeout_s)


@pytest.mark.parametrize(
    "head",
    [
        "",
        "SOAPAction: nonsense\r\n",
        "Connection: keep-alive\r\n",
        "Content-Type: image/png\r\n",
        "content-type: application/soap+xml; charset=utf-8\r\n",
    ],
)
async def test_reply_always_closes_and_heads_are_ignored(fleet: SimulatedFleet, head: str) -> None:
    reply = await send(fleet["cobo0"], post(GET_STATE, head))
    assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nConnection: close\r\n" in reply
    assert b"<State>1</State>" in reply


async def test_path_is_ignored(fleet: SimulatedFleet) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(fleet["cobo0"].url + "any/where?x=1", data=GET_STATE) as reply,
    ):
        assert reply.status == 200
        assert reply.headers["Connection"] == "close"
        assert "<ecc:ResponseState>" in await reply.text()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_only_post_is_allowed(fleet: SimulatedFleet, method: str) -> None:
    reply = await send(fleet["cobo0"], f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 405 ")


async def test_pipelined_second_request_is_dropped(fleet: SimulatedFleet) -> None:
    reply = await send(fleet["cobo0"], post(GET_STATE) + post(GET_STATE))
    assert reply.count(b"HTTP/1.1") == 1
    assert fleet["cobo0"].polls == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<hello/>",
        b"<a><b></a>",
        b'{"json": true}',
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body></s:Envelope>'.encode(),
        f'<s:Envelope xmlns:s="{SOAP}"></s:Envelope>'.encode(),
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body></s:Body></s:Envelope>'.encode(),
        b'<Envelope xmlns="urn:else"><Body/></Envelope>',
    ],
)
async def test_not_soap_closes_with_zero_bytes(fleet: SimulatedFleet, body: bytes) -> None:
    assert await send(fleet["cobo0"], post(body)) == b""


async def test_not_http_closes_with_zero_bytes(fleet: SimulatedFleet) -> None:
    assert await send(fleet["cobo0"], b"hello\r\n\r\n") == b""


async def test_no_end_of_envelope_no_reply(fleet: SimulatedFleet) -> None:
    cut = GET_STATE.replace(b"</soap:Envelope>", b"")
    with pytest.raises(TimeoutError):
        await send(fleet["cobo0"], post(cut), timeout_s=0.3)
    assert (await fleet.call("cobo0", "GetState")).state == 1


async def test_silent_connection_is_closed() -> None:
    assert ServerOptions().idle_s == 60
    options = ServerOptions(idle_s=0.2)
    async with SimulatedFleet(1, False, durations=INSTANT, options=options) as fleet:
        assert await send(fleet["cobo0"], b"") == b""
        assert await send(fleet["cobo0"], b"POST / HTTP/1.1\r\n") == b""
        assert fleet["cobo0"].open_connections == 0


@pytest.mark.parametrize(
    ("inner", "tag"),
    [
        ('<e:Nope xmlns:e="urn:ecc"/>', "e:Nope"),
        ('<e:GetState xmlns:e="urn:other"/>', "e:GetState"),
        ("<GetState/>", "GetState"),
        ('<e:getstate xmlns:e="urn:ecc"/>', "e:getstate"),
    ],
)
async def test_unknown_operation_or_namespace_is_a_fault(fleet: SimulatedFleet, inner: str, tag: str) -> None:
    reply = (await send(fleet["cobo0"], post(enveloped(inner)))).decode()
    assert reply.startswith("HTTP/1.1 500 ")
    assert "<faultcode>SOAP-ENV:Client</faultcode>" in reply
    assert f"Method '{tag}' not implemented: method name or namespace not recognized" in reply


async def test_request_in_small_pieces(fleet: SimulatedFleet) -> None:
    server = fleet["cobo0"]
    reader, writer = await asyncio.open_connection(server.host, server.port)
    for byte in post(GET_STATE):
        writer.write(bytes([byte]))
        await writer.drain()
    assert b"<State>1</State>" in await reader.read()
    writer.close()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%s\r\n" % (10, GET_STATE[:10])
        + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GET_STATE) - 10, GET_STATE[10:]),
        b"POST / HTTP/1.0\r\n\r\n" + GET_STATE,
        b"POST / HTTP/1.1\nContent-Length: %d\n\n" % len(GET_STATE) + GET_STATE,
    ],
    ids=["chunked", "no length", "bare newlines"],
)
async def test_other_ways_to_send(fleet: SimulatedFleet, request_bytes: bytes) -> None:
    assert b"<State>1</State>" in await send(fleet["cobo0"], request_bytes)


async def test_expect_continue(fleet: SimulatedFleet) -> None:
    reply = await send(fleet["cobo0"], post(GET_STATE, "Expect: 100-continue\r\n"))
    assert reply.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_connections_are_served_side_by_side(fleet: SimulatedFleet) -> None:
    """A thread for each connection: a half-sent request holds nobody up."""
    server = fleet["cobo0"]
    reader, writer = await asyncio.open_connection(server.host, server.port)
    whole = post(GET_STATE)
    writer.write(whole[:50])
    replies = await asyncio.gather(*(fleet.call("cobo0", "GetState") for _ in range(50)))
    assert {reply.state for reply in replies} == {1}
    writer.write(whole[50:])
    assert b"<State>1</State>" in await reader.read()
    writer.close()
    await wait_until(lambda: server.open_connections == 0)


async def test_long_reply_to_a_slow_reader(fleet: SimulatedFleet) -> None:
    server = fleet["cobo0"]
    await fleet.call("cobo0", "Describe")
    await fleet.call("cobo0", "Prepare")
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=4096)
    answer = asyncio.create_task(fleet.call("cobo0", "Configure"))
    assert (await answer).code == 0
    writer.write(post(request_body("Configure", config_id(fleet.config("cobo0")))))
    got = b""
    while piece := await reader.read(10_000):
        got += piece
        await asyncio.sleep(0)
    length = re.search(rb"Content-Length: (\d+)", got)
    assert length is not None
    assert len(got.partition(b"\r\n\r\n")[2]) == int(length[1]) > 370_000
    writer.close()
