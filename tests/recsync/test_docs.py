"""The page about ChannelFinder has what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from attpc_ioc.ioc.channel_finder import ENVIRONMENT
from tests.recsync.test_ioc import settings_of

PAGE = Path(__file__).parents[2] / "docs/how-to/channel-finder.md"


def test_its_settings_are_right():
    (block,) = re.findall(r"```toml\n\[channel_finder\]\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    section = settings_of(block).channel_finder
    assert section.enabled
    assert section.servers == ("192.168.41.5",)


def test_it_names_every_variable_that_is_sent():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in ENVIRONMENT if f"`{name}`" not in text] == []
