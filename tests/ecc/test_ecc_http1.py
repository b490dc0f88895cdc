"""Whatever bytes a server sends, reading them ends in a reply or in one of our own errors."""

import contextlib
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.ecc.http1 import BrokenHttp, HttpReply, ReplyReader
from attpc_ioc.ecc.messages import configs_in
from attpc_ioc.ecc.soap import StateReply, TextReply, read_state, read_text
from attpc_ioc.errors import EccBrokenReply, EccError, EccRefused
from attpc_ioc.model.states import State, Transition
from tests.support.ecc_raw import envelope, http, state_xml, text_xml
from tests.support.thorough import examples

GOOD = [
    http(b"hello"),
    http(b"hello", length=False),
    b"HTTP/1.0 500 Oh no\r\ncontent-LENGTH:  5 \r\n\r\nhello and more",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\nh\r\n4\r\nello\r\n0\r\nX: y\r\n\r\n",
]

pieces = st.sampled_from(
    b"HTTP/1.1 200 OK|HTTP/1.1 100 Continue|HTTP/1.1 |\r\n|\r\n\r\n|Content-Length: 4|"
    b"Transfer-Encoding: chunked|4|0|abcd|\xff|:|-1".split(b"|")
)


def read(parts: list[bytes], error: Exception | None = None, limit: int = 10_000) -> HttpReply:
    reader = ReplyReader(limit)
    for part in parts:
        reader.feed(part)
    return reader.finish(error)


@settings(max_examples=examples(100, 200), deadline=None)
@given(st.sampled_from(GOOD), st.lists(st.integers(0, 200), max_size=6))
def test_it_does_not_matter_how_a_reply_is_cut_into_pieces(reply: bytes, cuts: list[int]):
    at = [0, *sorted(cuts), len(reply)]
    assert read([reply[a:b] for a, b in pairwise(at)]).body == b"hello"


@pytest.mark.parametrize("reply", GOOD[:1] + GOOD[2:])
def test_a_reply_that_says_its_length_is_never_taken_for_whole_before_its_end(reply: bytes):
    for end in range(reply.index(b"hell" if b"hell" in reply else b"ello") + 3):
        with pytest.raises(BrokenHttp):
            read([reply[:end]])


def test_an_error_makes_a_reply_without_a_length_doubtful():
    with pytest.raises(BrokenHttp, match=r"cut off after 5 bytes .Connection reset by peer."):
        read([http(b"hello", length=False)], ConnectionResetError(104, "Connection reset by peer"))
    assert read([http(b"hello")], ConnectionResetError(104, "x")).body == b"hello"


@settings(max_examples=examples(150, 400), deadline=None)
@given(st.one_of(st.binary(), st.lists(pieces, max_size=10).map(b"".join)), st.integers(0, 40))
def test_any_bytes_end_in_a_reply_or_in_broken_http(data: bytes, cut: int):
    try:
        reply = read([data[:cut], data[cut:]])
    except BrokenHttp:
        return
    assert 200 <= reply.status <= 999


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LONG = {
    "a body": (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 10_000, "a reply of more than 10000 bytes"),
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\n", "a reply of more than 10000 bytes"),
    "small chunks": (CHUNKED + b"1\r\nx\r\n" * 2000, "a reply of more than 10000 bytes"),
    "a chunk's extension": (CHUNKED + b"1;" + b"x" * 10_000, "a reply of more than 10000 bytes"),
    "interim replies": (b"HTTP/1.1 100 Go\r\n\r\n" * 1000, "of more than (10000|16384) bytes"),
    "headers": (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 70, "more than 64 headers"),
    "headers after the chunks": (CHUNKED + b"0\r\n" + b"a: b\r\n" * 70, "more than 64 headers"),
    "gzip": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
        "Content-Encoding 'gzip'",
    ),
}


@pytest.mark.parametrize("what", TOO_LONG)
@pytest.mark.parametrize("piece", [7, 100_000])
def test_what_is_too_much_is_refused_however_it_is_cut(what: str, piece: int):
    data, text = TOO_LONG[what]
    with pytest.raises(BrokenHttp, match=text):
        read([data[at : at + piece] for at in range(0, len(data), piece)])


def test_an_endless_head_is_refused_before_it_ends():
    with pytest.raises(BrokenHttp, match="more than 10000 bytes"):
        read([b"HTTP/1.1 200 OK\r\na: ", *[b"x" * 1000] * 20])
    with pytest.raises(BrokenHttp, match="a head of more than 16384 bytes"):
        read([b"HTTP/1.1 200 OK\r\na: ", *[b"x" * 1000] * 20], limit=1_000_000)


def test_the_time_to_read_grows_with_the_length_only():
    """Chunks that come one by one once were read again from the first each time: minutes for this reply."""
    reader = ReplyReader(4_000_000)
    reader.feed(CHUNKED)
    began = time.process_time()
    for _ in range(100_000):
        reader.feed(b"1\r\nx\r\n")
    assert time.process_time() - began < 10.0
    assert reader.feed(b"0\r\n\r\n")
    assert len(reader.finish(None).body) == 100_000


SLOW = {
    "wrappers": ("<e:ResponseText><ErrorCode>0</ErrorCode><ErrorMessage>", ""),
    "ends": ("</ErrorMessage><Text>", "</Text></e:ResponseText>"),
    "states": ("</ErrorMessage> <State>1</State>", "\x00"),
    "spaces": (" " * 1000, "<"),
    "no UTF-8": ("\udcffa", "<"),
    "control characters": ("\x00", "<"),
    "references": ("&#0;", "<"),
    "nesting": ("<a>", ""),
}


@pytest.mark.parametrize("what", SLOW)
def test_no_text_that_is_no_xml_takes_long_to_read(what: str):
    many, end = SLOW[what]
    size = 60_000
    for before in (
        "",
        text_xml("@", message="@").partition("@")[0],
        state_xml(message="@").partition("@")[0],
    ):
        body = envelope(before + many * (size // len(many)) + end)
        reply = HttpReply(200, "OK", body)
        began = time.process_time()
        for reader in (read_state, read_text):
            with contextlib.suppress(EccError):
                reader(reply, "here")
        assert time.process_time() - began < 3.0


def test_no_list_of_configs_takes_long_to_read():
    for text in (
        "<ConfigId>" * 50_000,
        "<ConfigId></ConfigId>" * 20_000,
        "<a>" * 300_000,
        "</ConfigId>" * 90_000,
    ):
        began = time.process_time()
        with contextlib.suppress(EccError):
            assert configs_in(f"<ConfigIdSet>{text}&</ConfigIdSet>") == ()
        assert time.process_time() - began < 10.0


words = st.sampled_from(
    b"<ErrorCode> </ErrorCode> 0 7 <State> </State> <Transition> </Transition> <ErrorMessage/> <Text> "
    b"</Text> <ecc:ResponseState> </ecc:ResponseState> <ecc:ResponseText> </ecc:ResponseText> "
    b"<SOAP-ENV:Fault> </SOAP-ENV:Fault> <!----> &x; \0".split()
)
whole = st.lists(words, max_size=12).map(b"".join).map(lambda inner: envelope("@").replace(b"@", inner))


@settings(max_examples=examples(150, 400), deadline=None)
@given(st.one_of(st.binary(), whole), st.sampled_from([200, 404, 500]))
def test_any_body_ends_in_a_reply_or_in_an_error_of_ours(body: bytes, status: int):
    for reader, kind in ((read_state, StateReply), (read_text, TextReply)):
        try:
            assert isinstance(reader(HttpReply(status, "", body), "here"), kind)
        except EccError as error:
            shown = str(error)
        else:
            continue
        assert len(shown) < 500


@settings(max_examples=100, deadline=None)
@given(st.integers(-3, 12), st.integers(-3, 14))
def test_only_numbers_that_a_server_knows_become_states(state: int, transition: int):
    reply = HttpReply(200, "OK", envelope(state_xml(state, transition)))
    if 0 <= state <= 6 and 0 <= transition <= 9:
        assert read_state(reply, "here") == StateReply(State(state), Transition(transition), "")
    else:
        with pytest.raises(EccBrokenReply, match="no such"):
            read_state(reply, "here")


@pytest.mark.parametrize("encoding", ["bogus", "UTF-16", ""])
def test_a_declared_encoding_that_is_wrong_does_no_harm(encoding: str):
    body = envelope(state_xml()).replace(b"UTF-8", encoding.encode())
    assert read_state(HttpReply(200, "OK", body), "here").state is State.IDLE


numbers = st.one_of(
    st.integers().map(str),
    st.integers(0, 400).map(lambda digits: "1" + "0" * digits),
    st.floats().map(str),
    st.text("0123456789+-eE._ xinfa\u0663", max_size=30),
)


@settings(max_examples=examples(100, 300), deadline=None)
@given(numbers, numbers, numbers)
def test_any_numbers_end_in_ones_that_records_can_show_or_in_an_error(code: str, state: str, transition: str):
    for reader, inner in ((read_state, state_xml(state, transition, code)), (read_text, text_xml(code=code))):
        ended: object = None
        try:
            reader(HttpReply(200, "OK", envelope(inner)), "here")
        except EccRefused as error:
            ended = error.code
        except EccBrokenReply as error:
            ended = str(error)
        assert ended is None or (len(ended) < 500 if isinstance(ended, str) else 0 < int(str(ended)) < 2**31)
