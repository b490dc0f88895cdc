"""Control characters that a client writes, or has in its name, reach no other client and no record."""

from __future__ import annotations

import caproto
import pytest
from caproto import ChannelType

from tests.ca.raw import Raw, raw_client
from tests.ioc.test_records_clients import Ioc, ioc  # noqa: F401  (fixture)

PUTFAIL = caproto.CAStatus.ECA_PUTFAIL.value


async def put(raw: Raw, name: str, text: str) -> object:
    """Write long text and return the status of the answer."""
    sid = (await raw.channel(name)).sid
    data = text.encode()
    raw.send(caproto.WriteNotifyRequest(data, ChannelType.CHAR, len(data), sid, 7))
    return (await raw.until(caproto.WriteNotifyResponse)).status


@pytest.mark.parametrize("char", ["\x1b", "\x9b", "\x07", "\x7f", "\r"])
async def test_a_text_with_a_control_character_is_refused_by_name(ioc: Ioc, char: str):  # noqa: F811
    async with raw_client(ioc.place.port) as raw:
        assert await put(raw, "T:Run:Title", f"beam{char}[2Jred") == PUTFAIL
    shown = await ioc.get("Refused_RBV", "-S")
    assert "Run:Title: character 5 of the text is the control character \\" in shown
    assert ioc.control.sets == []
    (recorded,) = ioc.puts
    assert not recorded.ok
    assert "control character" in recorded.reason


async def test_lines_tabs_and_all_scripts_are_taken(ioc: Ioc):  # noqa: F811
    text = "two\nlines\r\nof\tµ ☢ שלום\u200f 👩\u200d🔬"
    async with raw_client(ioc.place.port) as raw:
        assert await put(raw, "T:Run:Title", text) == caproto.CAStatus.ECA_NORMAL.value
    assert [recorded.new for recorded in ioc.puts] == [text]


async def test_a_client_s_name_is_escaped_from_the_beginning(ioc: Ioc):  # noqa: F811
    async with raw_client(ioc.place.port, user="ann\x1b[2J\u202e") as raw:
        await put(raw, "T:Run:Title", "beam")
        await put(raw, "T:Run:MaxDuration", "-1")
    assert {recorded.who.user for recorded in ioc.puts} == {"ann\\x1b[2J\\u202e"}
    assert "ann\\x1b[2J\\u202e@bench" in str(ioc.server.pvs["T:Refused_RBV"].value)
