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
SOAP12 = "http://www.w3.org/2003/05/soap-envelope"


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


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_is_allowed(fleet: SimulatedFleet, method: str) -> None:
    reply = await send(fleet["cobo0"], f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 405 ")
    assert f"HTTP {method} method not implemented".encode() in reply
    assert b"\r\nAllow:" not in reply


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
async def test_methods_that_ask_for_nothing_get_nothing(fleet: SimulatedFleet, method: str) -> None:
    reply = await send(fleet["cobo0"], f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b"\r\n\r\n")


async def test_pipelined_second_request_is_dropped(fleet: SimulatedFleet) -> None:
    reply = await send(fleet["cobo0"], post(GET_STATE) + post(GET_STATE))
    assert reply.count(b"HTTP/1.1") == 1
    assert fleet["cobo0"].polls == 1


@pytest.mark.parametrize(
    "body",
    [
        b"hello",
        b"<hello/>",
        b"<a><b></a>",
        b'{"json": true}',
        f'<s:Envelope xmlns:s="{SOAP}"><s:Body></s:Envelope>'.encode(),
        b'<Envelope xmlns="urn:else"><Body/></Envelope>',
    ],
)
async def test_not_soap_closes_with_zero_bytes(fleet: SimulatedFleet, body: bytes) -> None:
    assert await send(fleet["cobo0"], post(body)) == b""


@pytest.mark.parametrize("garbage", [b"hello\r\n\r\n", b"\r\n\r\n", b"POST /\r\n\r\n" + GET_STATE])
async def test_a_garbage_request_line_waits(fleet: SimulatedFleet, garbage: bytes) -> None:
    with pytest.raises(TimeoutError):
        await send(fleet["cobo0"], garbage, timeout_s=0.3)


@pytest.mark.parametrize(
    "request_bytes",
    [
        GET_STATE,
        b"\r\n" + GET_STATE,
        b"POST / HTTP/1.1\r\nContent-Length: 40\r\n\r\n" + GET_STATE,
        b"POST / HTTP/1.1\r\nContent-Length: 99999\r\n\r\n" + GET_STATE,
        b"POST / HTTP/1.1\r\nContent-Length: nonsense\r\n\r\n" + GET_STATE,
    ],
    ids=["no head", "an empty line before it", "too short", "too long", "no number"],
)
async def test_xml_is_answered_whatever_the_head_says(fleet: SimulatedFleet, request_bytes: bytes) -> None:
    assert b"<State>1</State>" in await send(fleet["cobo0"], request_bytes)


async def test_heads_and_ends_of_replies(fleet: SimulatedFleet) -> None:
    for call in (GET_STATE, request_body("GetConfigIDs"), enveloped("<nope/>"), request_body("Start")):
        head, _, body = (await send(fleet["cobo0"], post(call))).partition(b"\r\n\r\n")
        assert b"\r\nX-Frame-Options: SAMEORIGIN\r\n" in head
        assert body.endswith(b"</SOAP-ENV:Envelope>\r\n")
        assert f"\r\nContent-Length: {len(body)}\r\n".encode() in head


HEADER = '<s:Header><x:Key xmlns:x="urn:x" s:mustUnderstand="{}"/></s:Header>'
CALL = '<s:Body><e:GetState xmlns:e="urn:ecc"/></s:Body>'
UNDERSTOOD = "The data in element 'x:Key' must be understood but cannot be processed"


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("", "Client", "Data required for operation"),
        ("<s:Envelope/>", "Client", "Validation constraint violation: element tag expected"),
        ("<s:Envelope><s:Body/></s:Envelope>", "Client", "Method 's:Body' not implemented: {}"),
        ("<s:Envelope><s:Body><y:GetState/></s:Body></s:Envelope>", "Client", "Method 'y:GetState' {}"),
        (f"<s:Envelope>{HEADER.format(1)}{CALL}</s:Envelope>", "MustUnderstand", UNDERSTOOD),
        (f"<s:Envelope>{HEADER.format('true')}{CALL}</s:Envelope>", "MustUnderstand", UNDERSTOOD),
    ],
    ids=["empty", "no Body", "empty Body", "unbound prefix", "must understand", "must understand too"],
)
@pytest.mark.parametrize("version", [SOAP, SOAP12])
async def test_faults_by_kind(fleet: SimulatedFleet, version: str, body: str, code: str, text: str) -> None:
    body = body.replace("<s:Envelope", f'<s:Envelope xmlns:s="{version}"')
    reply = (await send(fleet["cobo0"], post(body.encode()))).decode()
    assert reply.startswith("HTTP/1.1 500 ")
    unknown = "not implemented: method name or namespace not recognized"
    assert text.replace("not implemented: {}", unknown).replace("{}", unknown) in reply
    if version == SOAP or not body:
        assert f"<faultcode>SOAP-ENV:{code}</faultcode>" in reply
    else:
        assert f"<SOAP-ENV:Value>SOAP-ENV:{code.replace('Client', 'Sender')}</SOAP-ENV:Value>" in reply


@pytest.mark.parametrize(("header", "answered"), [(HEADER.format(0), True), ("<s:Header/>", True)])
async def test_other_headers_are_ignored(fleet: SimulatedFleet, header: str, answered: bool) -> None:
    body = f'<s:Envelope xmlns:s="{SOAP}">{header}{CALL}</s:Envelope>'.encode()
    assert (b"<State>1</State>" in await send(fleet["cobo0"], post(body))) is answered


@pytest.mark.parametrize(("version", "kind"), [(SOAP, "text/xml"), (SOAP12, "application/soap+xml")])
async def test_a_call_is_answered_in_its_version_of_soap(
    fleet: SimulatedFleet, version: str, kind: str
) -> None:
    for operation, config in (("GetState", ""), ("GetConfigIDs", ""), ("Describe", config_id("cobo0/e/e"))):
        body = request_body(operation, config).replace(SOAP.encode(), version.encode())
        reply = (await send(fleet["cobo0"], post(body))).decode()
        assert f'<SOAP-ENV:Envelope xmlns:SOAP-ENV="{version}"' in reply
        assert f"\r\nContent-Type: {kind}; charset=utf-8\r\n" in reply
        assert "<ErrorCode>0</ErrorCode>" in reply


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
