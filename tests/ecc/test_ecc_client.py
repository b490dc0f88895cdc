"""The client against bare sockets: every way in which a call can end, and what went over the wire."""

import asyncio
import gc
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from attpc_ioc.ecc import EccClient, PartialConfig
from attpc_ioc.errors import EccBrokenReply, EccBusy, EccError, EccRefused, EccTimeout, EccUnreachable
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.states import Operation, State, Transition
from tests.support.ecc_raw import envelope, http, own_sockets_to, raw_server, state_xml, text_xml, until

CONFIG = ConfigName("cobo0", "e1", "e1")
SOURCES = (SourceView("CoBo0", "CoBo[0]", "cobo0", (DataLinkView("d", "127.0.0.1", 46005, "TCP"),)),)


@asynccontextmanager
async def client_of(url: str, **limits: float):
    client = EccClient(url, name="cobo0", **limits)
    try:
        yield client
    finally:
        await client.close()


def ask_state(client: EccClient) -> Awaitable[object]:
    return client.get_state()


def ask_configs(client: EccClient) -> Awaitable[object]:
    return client.get_config_ids()


def prepare(client: EccClient) -> Awaitable[object]:
    return client.transition(Operation.PREPARE, CONFIG, SOURCES)


ways = pytest.mark.parametrize("call", [ask_state, ask_configs, prepare])
Call = Callable[[EccClient], Awaitable[object]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def test_an_observation_says_what_was_seen_and_when():
    async with raw_server(http(envelope(state_xml(3, 0)))) as server, client_of(server.url) as client:
        before = time.monotonic()
        seen = await client.get_state()
        after = time.monotonic()
    assert (seen.state, seen.transition, seen.message) == (State.PREPARED, Transition.NONE, "")
    assert before <= seen.asked_at_s <= seen.seen_at_s <= after
    assert 0 < seen.round_trip_ms <= (after - before) * 1e3


async def test_a_message_with_code_0_is_information():
    reply = http(envelope(state_xml(3, 3, message="\n The ECC state machine is busy!")))
    async with raw_server(reply) as server, client_of(server.url) as client:
        seen = await client.get_state()
    assert (seen.transition, seen.message) == (Transition.CONFIGURE, "The ECC state machine is busy!")


@pytest.mark.parametrize("message", ["<ErrorMessage/>", "<ErrorMessage></ErrorMessage>", ""])
async def test_an_empty_message_comes_in_three_ways(message: str):
    state = f"<ErrorCode>0</ErrorCode>{message}<State> 1\n</State><Transition>0</Transition>"
    text = f"<ErrorCode>0</ErrorCode>{message}<Text/>"
    reply = http(envelope(f"<ecc:ResponseState>{state}</ecc:ResponseState>"))
    async with raw_server(reply) as server, client_of(server.url) as client:
        assert (await client.get_state()).message == ""
        server.reply = http(envelope(f"<ecc:ResponseText>{text}</ecc:ResponseText>"))
        answer = await client.transition(Operation.START, CONFIG, SOURCES)
    assert (answer.code, answer.message, answer.text) == (0, "", "")


async def test_what_goes_over_the_wire():
    async with raw_server(http(envelope(text_xml()))) as server, client_of(server.url) as client:
        await client.transition(Operation.CONFIGURE, CONFIG, SOURCES)
        with pytest.raises(EccBrokenReply):
            await client.get_config_ids()
        server.reply = http(envelope(state_xml()))
        await client.get_state()
        configure, configs, state = server.requests
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST / HTTP/1.1\r\n")
        lines = {line.lower() for line in head.split(b"\r\n")}
        assert {b"connection: close", b'soapaction: ""', b"host: %s" % server.url[7:-1].encode()} <= lines
        assert b"content-length: %d" % len(body) in lines
    assert b"><configID>&lt;ConfigId&gt;&lt;SubConfigId" in configure
    assert b"</configID><table>&lt;DataLinkSet&gt;" in configure
    assert b':GetConfigIDs xmlns:ns0="urn:ecc"/>' in configs
    assert b':GetState xmlns:ns0="urn:ecc"/>' in state


async def test_a_reply_of_370_kb_arrives_whole():
    text = "&lt;x&gt; é\n" * 46_000
    reply = http(envelope(text_xml(text)))
    assert len(reply) > 370_000
    async with raw_server(reply) as server, client_of(server.url) as client:
        answer = await client.transition(Operation.CONFIGURE, CONFIG, SOURCES)
    assert answer.text == "<x> é\n" * 46_000
    assert answer.duration_s > 0


async def test_configs_are_asked_for():
    ids = "&lt;ConfigIdSet&gt;\n\t&lt;ConfigId&gt;" + "".join(
        f'&lt;SubConfigId type="{part}"&gt;e1&lt;/SubConfigId&gt;'
        for part in ("describe", "prepare", "configure")
    )
    reply = http(envelope(text_xml(ids + "&lt;/ConfigId&gt;\n&lt;/ConfigIdSet&gt;")))
    async with raw_server(reply) as server, client_of(server.url) as client:
        assert await client.get_config_ids() == (ConfigName("e1", "e1", "e1"),)


@ways
async def test_no_server_is_unreachable(call: Call):
    async with client_of(f"http://127.0.0.1:{free_port()}/") as client:
        with pytest.raises(EccUnreachable, match=rf"^no connection to {client.url}: Connection refused$"):
            await call(client)


@ways
async def test_no_such_host_is_unreachable(call: Call):
    async with client_of("http://no-such-host.invalid:8083/") as client:
        with pytest.raises(EccUnreachable, match=r"^no connection to http://no-such-host.invalid:8083/"):
            await call(client)


async def test_a_name_that_cannot_be_one_is_unreachable():
    async with client_of(f"http://{'a' * 80}.invalid:8083/") as client:
        with pytest.raises(EccUnreachable, match=r"^no connection to http://aaa"):
            await client.get_state()


@ways
async def test_a_full_backlog_is_unreachable(call: Call):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        # The kernel takes one connection more than the backlog, and lets the rest wait.
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(address)
        try:
            async with client_of(f"http://127.0.0.1:{address[1]}/", connect_timeout_s=0.2) as client:
                with pytest.raises(EccUnreachable, match=r"within 0.2 s$"):
                    await call(client)
        finally:
            for sock in waiting:
                sock.close()


async def hang(_request: bytes, _writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def test_no_answer_is_a_timeout_of_polls_and_configs():
    async with raw_server(hang) as server, client_of(server.url, poll_timeout_s=0.1) as client:
        with pytest.raises(EccTimeout, match=rf"^GetState from {server.url}: no answer within 0.1 s$"):
            await client.get_state()
        with pytest.raises(EccTimeout, match=r"GetConfigIDs from .*: no answer within 0.1 s"):
            await client.get_config_ids(timeout_s=0.1)


async def test_a_transition_waits_on():
    go = asyncio.Event()

    async def answer_later(_request: bytes, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(http(envelope(text_xml())))

    limits = {"poll_timeout_s": 0.05, "connect_timeout_s": 0.05}
    async with raw_server(answer_later) as server, client_of(server.url, **limits) as client:
        task = asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, SOURCES))
        done, _ = await asyncio.wait([task], timeout=0.3)
        assert not done
        go.set()
        assert (await task).duration_s >= 0.3


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
async def test_a_broken_reply_is_told_and_shown(call: Call, what: str):
    reply, text = BROKEN[what]
    async with raw_server(reply) as server, client_of(server.url) as client:
        with pytest.raises(EccBrokenReply, match=text) as caught:
            await call(client)
        assert server.url in str(caught.value)
        assert len(str(caught.value)) < 600
        assert len(server.requests) == 1, "nothing is sent twice"


FIELDS = {
    "no code": ("<State>1</State><Transition>0</Transition>", "a reply without ErrorCode"),
    "code no number": ("<ErrorCode>x</ErrorCode>", "ErrorCode is no number: 'x'"),
    "code empty": ("<ErrorCode/>", "ErrorCode is no number"),
    "code underscored": ("<ErrorCode>1_0</ErrorCode>", "ErrorCode is no number: '1_0'"),
    "no state": ("<ErrorCode>0</ErrorCode><Transition>0</Transition>", "a reply without State"),
    "no transition": ("<ErrorCode>0</ErrorCode><State>1</State>", "a reply without Transition"),
    "state 7": ("<ErrorCode>0</ErrorCode><State>7</State><Transition>0</Transition>", "no such state as 7"),
    "state -1": (
        "<ErrorCode>0</ErrorCode><State>-1</State><Transition>0</Transition>",
        "no such state as -1",
    ),
    "state 1.5": (
        "<ErrorCode>0</ErrorCode><State>1.5</State><Transition>0</Transition>",
        "State is no number: '1.5'",
    ),
    "transition 10": (
        "<ErrorCode>0</ErrorCode><State>1</State><Transition>10</Transition>",
        "transition as 10",
    ),
    "a huge number": (f"<ErrorCode>{'9' * 5000}</ErrorCode>", "ErrorCode is no number: '9"),
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
        with pytest.raises(EccBrokenReply, match="a reply of more than 16777216 bytes"):
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


async def test_busy_is_told_apart():
    reply = http(envelope(text_xml(code=2, message="The ECC state machine is busy!")))
    async with raw_server(reply) as server, client_of(server.url) as client:
        with pytest.raises(EccBusy) as caught:
            await client.transition(Operation.PREPARE, CONFIG, SOURCES)
    assert caught.value.code == 2


async def test_what_could_harm_a_server_is_not_sent():
    bad_link = (SourceView("CoBo0", "CoBo[0]", "cobo0", (DataLinkView("d", "data0", 46005, "TCP"),)),)
    async with raw_server(http(envelope(text_xml()))) as server, client_of(server.url) as client:
        with pytest.raises(ValueError, match="blank"):
            await client.transition(Operation.DESCRIBE, PartialConfig(" "), SOURCES)
        with pytest.raises(ValueError, match="IPv4"):
            await client.transition(Operation.DESCRIBE, CONFIG, bad_link)
        assert server.requests == []
        await client.transition(Operation.UNDO, PartialConfig(), ())
    assert server.requests[0].count(b"&gt;unused&lt;") == 3


@pytest.mark.parametrize("url", ["https://127.0.0.1:8083/", "127.0.0.1:8083", "http://", ""])
def test_an_address_of_another_form_is_refused(url: str):
    with pytest.raises(ValueError, match="http://HOST:PORT/"):
        EccClient(url, name="x")


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


async def test_calls_overlap_and_leave_nothing_open():
    release = asyncio.Event()

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"GetState" in request:
            writer.write(http(envelope(state_xml(2, 2))))
        else:
            await release.wait()
            writer.write(http(envelope(text_xml())))

    async with raw_server(answer) as server, client_of(server.url) as client:
        transitions = [
            asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, ())) for _ in range(5)
        ]
        seen = await asyncio.gather(*(client.get_state() for _ in range(50)))
        assert {s.transition for s in seen} == {Transition.PREPARE}
        release.set()
        assert [r.code for r in await asyncio.gather(*transitions)] == [0] * 5
        await until(lambda: not server.open)


@ways
async def test_cancelling_a_call_leaves_nothing_open(call: Call):
    async with raw_server(hang) as server, client_of(server.url, poll_timeout_s=30) as client:
        task = asyncio.ensure_future(call(client))
        await until(lambda: server.requests)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: not own_sockets_to(server.port))
        assert len(asyncio.all_tasks()) <= 2, "this test's and the server's"


async def test_a_cancelled_poll_never_leaves_an_error_unread(caplog: pytest.LogCaptureFixture):
    async with raw_server(http(envelope(state_xml()))) as server, client_of(server.url) as client:
        # Cancelled after each possible number of turns of the loop, connecting included.
        for turns in range(12):
            task = asyncio.create_task(client.get_state())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
    gc.collect()
    assert caplog.records == []


async def test_closing_ends_a_transition_and_what_comes_later():
    async with raw_server(hang) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, ()))
        await until(lambda: server.requests)
        await client.close()
        await client.close()
        with pytest.raises(EccBrokenReply):
            await task
        with pytest.raises(EccUnreachable, match="this client is closed"):
            await client.get_config_ids()


async def test_a_host_that_vanishes_is_noticed_by_keep_alive():
    async with raw_server(hang) as server, client_of(server.url) as client:
        task = asyncio.create_task(client.transition(Operation.PREPARE, CONFIG, ()))
        await until(lambda: server.requests)
        (sock,) = own_sockets_to(server.port)
        with sock:
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            tcp = [socket.TCP_NODELAY, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in tcp] == [1, 10, 5, 4]
        task.cancel()
        await asyncio.wait([task])


def test_every_error_is_an_ecc_error():
    for kind in (EccUnreachable, EccTimeout, EccBrokenReply, EccRefused, EccBusy):
        assert issubclass(kind, EccError)


async def test_a_hosts_name_is_looked_up_now_and_then_only(monkeypatch: pytest.MonkeyPatch):
    loop = asyncio.get_running_loop()
    asked: list[object] = []
    look_up = loop.getaddrinfo

    async def counted(host: str, *args: object, **more: object) -> object:
        asked.append(host)
        return await look_up(host, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "getaddrinfo", counted)
    async with raw_server(http(envelope(state_xml()))) as server:
        asked.clear()
        async with client_of(f"http://localhost:{server.port}/") as client:
            for _ in range(5):
                await client.get_state()
            assert asked == ["localhost"]
            await server.stop()
            for _ in range(2):
                with pytest.raises(EccUnreachable):
                    await client.get_state()
            assert asked == ["localhost"] * 2, "a failure asks anew, the address may have changed"
