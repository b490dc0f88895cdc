"""Whatever bytes a server sends, reading them ends in a reply or in one of our own errors."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.ecc.http1 import BrokenHttp, HttpReply, ReplyReader
from attpc_ioc.ecc.soap import StateReply, TextReply, read_state, read_text
from attpc_ioc.errors import EccBrokenReply, EccError
from attpc_ioc.model.states import State, Transition
from tests.support.ecc_raw import envelope, http, state_xml

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


def read(parts: list[bytes], error: Exception | None = None) -> HttpReply:
    reader = ReplyReader()
    for part in parts:
        reader.feed(part)
    return reader.finish(error)


@settings(max_examples=200, deadline=None)
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


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(), st.lists(pieces, max_size=10).map(b"".join)), st.integers(0, 40))
def test_any_bytes_end_in_a_reply_or_in_broken_http(data: bytes, cut: int):
    try:
        reply = read([data[:cut], data[cut:]])
    except BrokenHttp:
        return
    assert 200 <= reply.status <= 999


words = st.sampled_from(
    b"<ErrorCode> </ErrorCode> 0 7 <State> </State> <Transition> </Transition> <ErrorMessage/> <Text> "
    b"</Text> <ecc:ResponseState> </ecc:ResponseState> <ecc:ResponseText> </ecc:ResponseText> "
    b"<SOAP-ENV:Fault> </SOAP-ENV:Fault> <!----> &x; \0".split()
)
whole = st.lists(words, max_size=12).map(b"".join).map(lambda inner: envelope("@").replace(b"@", inner))


@settings(max_examples=400, deadline=None)
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
