"""The ECC client: what it understands, what it sends, and what it refuses to send."""

import time

import pytest

from attpc_ioc.ecc import EccClient, PartialConfig
from attpc_ioc.errors import EccBrokenReply, EccBusy, EccError, EccRefused, EccTimeout, EccUnreachable
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.states import Operation, State, Transition
from tests.support.ecc_client import CONFIG, SOURCES, client_of
from tests.support.ecc_raw import envelope, http, raw_server, state_xml, text_xml


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


def test_every_error_is_an_ecc_error():
    for kind in (EccUnreachable, EccTimeout, EccBrokenReply, EccRefused, EccBusy):
        assert issubclass(kind, EccError)
