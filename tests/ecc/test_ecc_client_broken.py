"""The ECC client: replies that are broken, cut or of another kind, each told apart and shown."""

import asyncio

import pytest

from attpc_ioc.errors import EccBrokenReply, EccBusy, EccRefused
from attpc_ioc.model.states import Operation, State
from tests.support.ecc_client import CONFIG, SOURCES, Call, ask_state, client_of, ways
from tests.support.ecc_raw import envelope, http, raw_server, state_xml, text_xml

BROKEN = {
    "nothing": (b"", "."),
    "no HTTP": (b"hello\r\n\r\n", "."),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "."),
    "half a body": (http(envelope(state_xml()))[:-40], "."),
    "no body": (http(b""), "an empty reply"),
    "no XML": (http(b"hello"), "not XML .*'hello'"),
    "cut XML without a length": (http(envelope(state_xml())[:-9], length=False), "not XML"),
    "no envelope": (http(b"<a/>"), "no SOAP reply: '<a/>'"),
    "no body element": (http(envelope("")), "no SOAP reply"),
    "another call's": (
        http(envelope("<ecc:Response><ErrorCode>0</ErrorCode></ecc:Response>")),
        "another call's",
    ),
    "another namespace": (http(envelope('<ResponseText xmlns="x"/>')), "another call's"),
    "a DTD": (http(b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"), "a reply with a DTD"),
    "404": (http(b"", "404 Not Found"), "HTTP 404 Not Found"),
    "405 with a text": (
        http(b"<html>no</html>", "405 Method Not Allowed"),
        "HTTP 405 Method Not Allowed.*no",
    ),
    "500 with a good reply": (http(envelope(state_xml()), "500 Internal Server Error"), "HTTP 500"),
    "a fault": (
        http(
            envelope(
                "<SOAP-ENV:Fault><faultcode>SOAP-ENV:Client</faultcode>"
                "<faultstring>Method 'X' not implemented</faultstring></SOAP-ENV:Fault>"
            ),
            "500 Internal Server Error",
        ),
        "SOAP fault: Method 'X' not implemented$",
    ),
    "a fault without a text": (http(envelope("<SOAP-ENV:Fault/>"), "500 Oh"), "SOAP fault: '<SOAP-ENV:Fault"),
    "a redirect": (http(b"", "302 Found"), "HTTP 302"),
    "too long": (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n", "."),
    "a bad length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "."),
    "a bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", "."),
}


@ways
@pytest.mark.parametrize("what", BROKEN)
async def test_a_broken_reply_is_reported_and_shown(call: Call, what: str):
    reply, text = BROKEN[what]
    async with raw_server(reply) as server, client_of(server.url) as client:
        with pytest.raises(EccBrokenReply, match=text) as caught:
            await call(client)
        assert server.url in str(caught.value)
        assert len(str(caught.value)) < 600
        assert len(server.requests) == 1, "nothing is sent twice"


FIELDS = {
    "no code": ("<State>1</State><Transition>0</Transition>", "a reply without ErrorCode"),
    "code no number": ("<ErrorCode>x</ErrorCode>", "ErrorCode is not a number: 'x'"),
    "code empty": ("<ErrorCode/>", "ErrorCode is not a number"),
    "code underscored": ("<ErrorCode>1_0</ErrorCode>", "ErrorCode is not a number: '1_0'"),
    "no state": ("<ErrorCode>0</ErrorCode><Transition>0</Transition>", "a reply without State"),
    "no transition": ("<ErrorCode>0</ErrorCode><State>1</State>", "a reply without Transition"),
    "state 7": ("<ErrorCode>0</ErrorCode><State>7</State><Transition>0</Transition>", "no such state as 7"),
    "state -1": (
        "<ErrorCode>0</ErrorCode><State>-1</State><Transition>0</Transition>",
        "no such state as -1",
    ),
    "state 1.5": (
        "<ErrorCode>0</ErrorCode><State>1.5</State><Transition>0</Transition>",
        "State is not a number: '1.5'",
    ),
    "transition 10": (
        "<ErrorCode>0</ErrorCode><State>1</State><Transition>10</Transition>",
        "transition as 10",
    ),
    "a huge number": (f"<ErrorCode>{'9' * 5000}</ErrorCode>", "ErrorCode is not a number: '9"),
}


@pytest.mark.parametrize("what", FIELDS)
async def test_numbers_that_no_server_knows_are_broken_replies(what: str):
    fields, text = FIELDS[what]
    reply = http(envelope(f"<ecc:ResponseState>{fields}</ecc:ResponseState>"))
    async with raw_server(reply) as server, client_of(server.url) as client:
        with pytest.raises(EccBrokenReply, match=text) as caught:
            await client.get_state()
    assert len(str(caught.value)) < 400


@ways
async def test_a_reply_without_end_is_broken(call: Call):
    async def flood(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 1_000_000)
            await writer.drain()

    async with raw_server(flood) as server, client_of(server.url, poll_timeout_s=20) as client:
        with pytest.raises(EccBrokenReply, match=r"a reply of more than (65536|1048576) bytes"):
            await call(client)


@ways
async def test_a_reset_connection_is_a_broken_reply(call: Call):
    async def reset(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with raw_server(reset) as server, client_of(server.url) as client:
        with pytest.raises(EccBrokenReply, match="ended without a"):
            await call(client)
        assert len(server.requests) == 1


@ways
async def test_a_code_other_than_0_is_refused(call: Call):
    message = "Could not start run\n(Ice::ConnectionRefusedException) &lt;node&gt;"
    wrapper = state_xml if call is ask_state else text_xml
    reply = http(envelope(wrapper(code=4, message=message)))
    async with raw_server(reply) as server, client_of(server.url) as client:
        with pytest.raises(EccRefused) as caught:
            await call(client)
    assert type(caught.value) is EccRefused
    assert caught.value.code == 4
    assert caught.value.message == "Could not start run\n(Ice::ConnectionRefusedException) <node>"


async def test_busy_is_an_error_of_its_own():
    reply = http(envelope(text_xml(code=2, message="The ECC state machine is busy!")))
    async with raw_server(reply) as server, client_of(server.url) as client:
        with pytest.raises(EccBusy) as caught:
            await client.transition(Operation.PREPARE, CONFIG, SOURCES)
    assert caught.value.code == 2


@pytest.mark.parametrize("length", [True, False])
async def test_a_reply_in_pieces_and_one_ended_by_closing(length: bool):
    async def dribble(_request: bytes, writer: asyncio.StreamWriter) -> None:
        for byte in http(envelope(state_xml(2)), length=length):
            writer.write(bytes([byte]))
            await asyncio.sleep(0)

    async with raw_server(dribble) as server, client_of(server.url) as client:
        assert (await client.get_state()).state is State.DESCRIBED


@ways
@pytest.mark.parametrize("stay_open", [False, True])
async def test_chunks_and_a_server_that_does_not_close(call: Call, stay_open: bool):
    text = "&lt;ConfigIdSet/&gt;"
    body = envelope(state_xml(2) if call is ask_state else text_xml(text))

    async def chunked(_request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (body[:50], body[50:51], body[51:]):
            writer.write(b"%x;x=y\r\n%s\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        if stay_open:
            await asyncio.Event().wait()

    async with raw_server(chunked) as server, client_of(server.url) as client:
        assert await call(client) is not None


async def test_each_call_has_room_for_what_real_servers_send_and_a_limit():
    """Configure's reply at the AT-TPC has 370 kB, with the quotes of its files escaped or not."""
    line = '&lt;Node id="CoBo" name=&quot;é&quot;/&gt;\n'
    long = (Operation.CONFIGURE, http(envelope(text_xml(line * 18_000))))
    for operation, reply in (long, (Operation.PREPARE, http(envelope(text_xml(line * 1000))))):
        async with raw_server(reply) as server, client_of(server.url) as client:
            assert len((await client.transition(operation, CONFIG, SOURCES)).text) > 20_000
            server.reply = http(envelope(text_xml(line * 60_000)))
            with pytest.raises(EccBrokenReply, match=f"{operation} at .*: a reply of more than") as caught:
                await client.transition(operation, CONFIG, SOURCES)
            assert len(str(caught.value)) < 400


@pytest.mark.parametrize("code", ["-1", str(2**31), str(2**63), "9" * 400, "inf", "1e9"])
async def test_a_code_that_no_record_can_show_is_a_broken_reply(code: str):
    async with raw_server(http(envelope(text_xml(code=code)))) as server, client_of(server.url) as client:
        with pytest.raises(EccBrokenReply, match="ErrorCode is"):
            await client.transition(Operation.PREPARE, CONFIG, SOURCES)


@ways
async def test_a_long_message_is_cut(call: Call):
    wrapper = state_xml if call is ask_state else text_xml
    reply = http(envelope(wrapper(code=4, message="x" * 50_000)))
    async with raw_server(reply) as server, client_of(server.url) as client:
        with pytest.raises(EccRefused, match=r"^code 4: x{4000}[.]{3}$"):
            await call(client)
