"""Replies with texts that are no UTF-8 or no XML: the rest of them counts, code and state above all."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attpc_ioc.ecc.http1 import HttpReply
from attpc_ioc.ecc.messages import configs_in, senders_in
from attpc_ioc.ecc.soap import read_state, read_text
from attpc_ioc.ecc.xml import MAX_QUOTES, MAX_REFERENCES, MAX_TAGS, Bomb, parse
from attpc_ioc.errors import EccBrokenReply, EccBusy, EccRefused
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.states import Operation, State, Transition
from tests.support.ecc_client import CONFIG, SOURCES, client_of
from tests.support.ecc_raw import envelope, http, raw_server, state_xml, text_xml

MARK = b"@@@"
OPERATIONS = tuple(Operation)

BYTES = {
    "Latin-1": (b"caf\xe9", "caf\u00e9"),
    "UTF-8": ("café ä".encode(), "café ä"),
    "both": ("é".encode() + b" \xe9", "é é"),
    "cut UTF-8": (b"\xce", "\u00ce"),
    "a surrogate": (b"\xed\xa0\x80", None),
    "C1": (b"\x9b31m", "\ufffd31m"),
    "NUL": (b"a\x00b", "a\ufffdb"),
    "escape": (b"\x1b[31m", "\ufffd[31m"),
    "DEL": (b"\xff\x7f", "\u00ff\ufffd"),
    "a reference": (b"a&#x1;b", "a\ufffdb"),
    "a decimal reference": (b"a&#0;b", "a\ufffdb"),
    "a reference to a surrogate": (b"a&#xD800;b", "a\ufffdb"),
    "a reference beyond Unicode": (b"a&#x110000;&#99999999999;b", "a\ufffd\ufffdb"),
    "a good reference": (b"\x01&#xe9;&#9;&amp;", "\ufffd\u00e9\t&"),
    "a bare ampersand": (b"a & b", "a & b"),
    "a bare bracket": (b"a < b > c", "a < b > c"),
    "an unknown entity": (b"\xe9 &nope;", "é &nope;"),
    "an element that is not closed": (b"<a>", None),
    "a CDATA section that is not closed": (b"<![CDATA[ x", None),
    "a comment that is not closed": (b"<!-- x", None),
}


def reply(inner: str, spoil: bytes, status: int = 200) -> HttpReply:
    return HttpReply(status, "", envelope(inner).replace(MARK, spoil))


@pytest.mark.parametrize("what", BYTES)
def test_a_text_with_odd_bytes_is_read_and_so_is_the_rest(what: str) -> None:
    spoil, text = BYTES[what]
    state = read_state(reply(state_xml(5, 2, 0, "busy @@@!"), spoil), "here")
    assert (state.state, state.transition) == (State.RUNNING, Transition.PREPARE)
    answer = read_text(reply(text_xml("one @@@ two"), spoil), "here")
    with pytest.raises(EccRefused) as refused:
        read_text(reply(text_xml("@@@", 4, "no @@@"), spoil), "here")
    assert refused.value.code == 4
    with pytest.raises(EccBusy):
        read_text(reply(text_xml("", 4, "@@@ The ECC state machine is busy!"), spoil), "here")
    if text is not None:
        assert state.message == f"busy {text}!"
        assert answer.text == f"one {text} two"
        assert refused.value.message == f"no {text}"
    for shown in (state.message, answer.text, refused.value.message):
        shown.encode()
        assert "\x00" not in shown


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=40))
@example(b"</ErrorMessage><State>6</State>", b"</Text></ecc:ResponseText>")
@example(b"<!--", b"-->")
@example(b"<![CDATA[", b"]]>")
@example(b"<State>", b"<ErrorCode>9</ErrorCode>")
def test_no_bytes_in_the_texts_lose_code_and_state(first: bytes, second: bytes) -> None:
    def spoilt(inner: str) -> HttpReply:
        return HttpReply(200, "OK", envelope(inner).replace(b"@1@", first).replace(b"@2@", second))

    state = read_state(spoilt(state_xml(5, 2, 0, "a@1@b@2@c")), "here")
    assert (state.state, state.transition) == (State.RUNNING, Transition.PREPARE)
    answer = read_text(spoilt(text_xml("c@2@d", 0, "a@1@b")), "here")
    with pytest.raises(EccRefused, match=r"^code 8") as refused:
        read_text(spoilt(text_xml("c@2@d", 8, "a@1@b")), "here")
    for text in (state.message, answer.text, answer.message, str(refused.value)):
        assert "\x00" not in text.encode().decode()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_for_a_reply_are_reported_as_broken(body: bytes) -> None:
    for read in (read_state, read_text):
        with pytest.raises(EccBrokenReply):
            read(HttpReply(200, "OK", body), "here")


def test_a_fault_with_odd_bytes_shows_its_text() -> None:
    inner = "<SOAP-ENV:Fault><faultstring>Method 'caf@@@' is not there</faultstring></SOAP-ENV:Fault>"
    for spoil, text in ((b"\xe9", "é"), (b"\x01", "\ufffd")):
        with pytest.raises(EccBrokenReply, match=f"SOAP fault: Method 'caf{text}' is not there"):
            read_state(reply(inner, spoil, 500), "here")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("what", BYTES)
async def test_every_operation_over_http(operation: Operation, what: str) -> None:
    spoil, _ = BYTES[what]
    good = http(envelope(text_xml("@@@", 0, "@@@")).replace(MARK, spoil))
    bad = http(envelope(text_xml("@@@", 7, "@@@")).replace(MARK, spoil))
    async with raw_server(good) as server, client_of(server.url) as client, asyncio.timeout(10):
        assert (await client.transition(operation, CONFIG, SOURCES)).code == 0
        server.reply = bad
        with pytest.raises(EccRefused, match="code 7"):
            await client.transition(operation, CONFIG, SOURCES)
        server.reply = http(envelope(state_xml(4, 0, 0, "@@@")).replace(MARK, spoil))
        assert (await client.get_state()).state is State.READY


# ---------------------------------------------------------------------- the documents inside


def entry(describe: str, name: str) -> str:
    return (
        f'\t<ConfigId><SubConfigId type="describe">{describe}</SubConfigId><SubConfigId type="prepare">{name}'
        f'</SubConfigId><SubConfigId type="configure">{name}</SubConfigId></ConfigId>\n'
    )


@pytest.mark.parametrize("what", BYTES)
def test_one_odd_name_does_not_hide_the_other_configs(what: str) -> None:
    """Escaped or not inside the reply, which is XML in XML."""
    spoil, _ = BYTES[what]
    inner = f"<ConfigIdSet>\n{entry('cobo0', 'a')}{entry('cobo0', 'x@@@')}{entry('cobo0', 'z')}</ConfigIdSet>"
    escaped = inner.replace("&", "&amp;").replace("<", "&lt;")
    for spoilt in (spoil, spoil.replace(b"&", b"&amp;").replace(b"<", b"&lt;")):
        names = configs_in(read_text(reply(text_xml(escaped), spoilt), "here").text)
        assert {ConfigName("cobo0", "a", "a"), ConfigName("cobo0", "z", "z")} <= set(names)
        assert len(names) <= 3
        assert all(str(name).isprintable() for name in names)


def test_a_name_in_latin_1_is_shown_as_it_is_meant() -> None:
    inner = f"<ConfigIdSet>{entry('cobo0', 'caf@@@')}</ConfigIdSet>".replace("<", "&lt;")
    assert configs_in(read_text(reply(text_xml(inner), b"\xe9"), "here").text) == (
        ConfigName("cobo0", "café", "café"),
    )


def test_an_odd_sender_does_not_hide_the_others() -> None:
    text = '<DataSenderSet>\n\t<DataSender id="CoBo[0]" />\n\t<DataSender id="\x01&#x2;" />\n</DataSenderSet>'
    assert senders_in(text) == ("CoBo[0]", "\ufffd\ufffd")


@pytest.mark.parametrize("text", ["", "nonsense", "<ConfigIdSet>", "<a><ConfigId/></a>", "\x01"])
def test_a_reply_that_is_not_a_list_is_reported_as_that(text: str) -> None:
    with pytest.raises(EccBrokenReply, match="no ConfigIdSet but"):
        configs_in(text)


@pytest.mark.parametrize(
    ("piece", "most", "what"),
    [
        (b"<b/>", MAX_TAGS, "tags"),
        (b'"', MAX_QUOTES, "quotes"),
        (b"&#1;", MAX_REFERENCES, "character references"),
    ],
)
def test_what_no_server_sends_is_refused_before_it_costs(piece: bytes, most: int, what: str) -> None:
    with pytest.raises(Bomb, match=f"more than {most} {what}"):
        parse(b"<a>" + piece * (most + 1) + b"</a>")
    assert parse(b"<a>" + piece * (most - 2) + b"</a>").tag == "a"
