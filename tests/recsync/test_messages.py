"""The messages of recsync, byte for byte."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attpc_ioc.recsync import Announcement, ProtocolError, RecordInfo, messages
from tests.support.recceiver import GREETING, announcement, ping

RECORDS = (
    RecordInfo(
        "T:State_RBV",
        "mbbi",
        {"recordDesc": "State of the fleet", "archive": "monitor@0.1", "alarm": ""},
        ("T:Alias",),
    ),
    RecordInfo("T:Rate_RBV", "ai", {"recordDesc": "Größe µ"}),
    RecordInfo("T:Go", "bo"),
)
INFOS = {"HOSTNAME": "daq0", "IOCNAME": "T", "ENGINEER": "", "RSRV_SERVER_PORT": "5064"}

RECORDED = """
> 524380010000000100
< 524300010000000800000000b7cba1f5
< 52430006000000140000000008000004484f53544e414d4564617130
< 52430006000000100000000007000001494f434e414d4554
< 524300060000001c0000000010000004525352565f5345525645525f504f525435303634
< 5243000300000017000000010004000b6d626269543a53746174655f524256
< 524300030000000f0000000101000007543a416c696173
< 5243000600000024000000010a0000127265636f7264446573635374617465206f662074686520666c656574
< 524300060000001a000000010700000b617263686976656d6f6e69746f7240302e31
< 5243000300000014000000020002000a6169543a526174655f524256
< 524300060000001c000000020a00000a7265636f7264446573634772c3b6c39f6520c2b5
< 524300030000000e0000000300020004626f543a476f
< 524300050000000400000000
> 52438002000000042ebfb0ba
< 52430002000000042ebfb0ba
"""
"""A conversation with recceiver 1.9.5, which listed exactly these records, infos and the alias, and took
the answer to its ping; `>` is what it sent. The upload is cut at its messages here."""


def _recorded(side: str) -> bytes:
    return bytes.fromhex("".join(line[2:] for line in RECORDED.splitlines() if line.startswith(side)))


def test_a_conversation_is_the_recorded_one():
    said = messages.client_greeting(0xB7CBA1F5) + b"".join(messages.upload(INFOS, RECORDS))
    assert said + messages.pong(bytes.fromhex("2ebfb0ba")) == _recorded("<")
    assert GREETING + ping(0x2EBFB0BA) == _recorded(">")


def test_an_announcement_is_read():
    assert messages.read_announcement(announcement(45929, 7) + b"more", "10.0.0.5") == Announcement(
        "10.0.0.5", 45929, 7, direct=True
    )
    assert messages.read_announcement(announcement(1, 2, "10.0.0.9"), "10.0.0.5") == Announcement(
        "10.0.0.9", 1, 2, direct=False
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        announcement(5)[:15],
        announcement(5, magic=b"CR"),
        announcement(5, version=1),
        announcement(0),
        announcement(5, address="0.0.0.0"),
        announcement(5, address="224.0.0.1"),
    ],
)
def test_what_is_no_announcement_is_refused(data):
    with pytest.raises(ProtocolError):
        messages.read_announcement(data, "10.0.0.5")


@given(st.binary(max_size=40))
def test_no_datagram_does_more_than_be_refused(data):
    try:
        found = messages.read_announcement(b"RC\0\0" + data, "10.0.0.5")
    except ProtocolError:
        return
    assert 0 < found.port < 65536


@given(st.text(max_size=20), st.text(max_size=400))
def test_texts_have_the_length_that_is_said(key, value):
    data = messages.add_info(3, "k" + key, value)
    record, key_length, value_length = struct.unpack("!IBxH", data[8:16])
    assert record == 3
    assert len(data) == 16 + key_length + value_length
    assert b"\0" not in data[16:]
    data[16 : 16 + key_length].decode()
    data[16 + key_length :].decode()


def test_a_text_that_is_too_long_is_cut_between_characters():
    data = messages.add_info(1, "k" * 300, "ä" * 40_000)
    assert struct.unpack("!BxH", data[12:16]) == (255, 65534)
    assert data[16 + 255 :].decode() == "ä" * 32_767
