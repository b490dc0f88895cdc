"""What of the IOC's warnings goes to the history: so many of one source in an hour, and then their number."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from attpc_plugins.run_history.pvs import log_feed
from attpc_plugins.run_history.pvs.log_feed import RECORDS_PER_HOUR, LogFeed
from attpc_plugins.run_history.store.model.records import LogRecord

from attpc_ioc.log import get_logger


async def test_one_source_has_so_many_entries_an_hour_and_then_a_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr(log_feed.time, "monotonic", lambda: now[0])
    entries: list[LogRecord] = []
    feed = LogFeed(entries.append, lambda: None, lambda: None)
    feed.attach()
    try:
        loud, quiet = (logging.getLogger(f"attpc_ioc.tests.{name}") for name in ("loud", "quiet"))
        for number in range(RECORDS_PER_HOUR + 70):
            loud.warning("line %d", number)
            now[0] += 0.1  # below what is recorded in a second
            await asyncio.sleep(0)
        quiet.warning("another")
        await asyncio.sleep(0)
        assert [entry.text for entry in entries[-2:]] == [f"line {RECORDS_PER_HOUR - 1}", "another"]
        assert feed.count == RECORDS_PER_HOUR + 71
    finally:
        feed.detach()
    assert len(entries) == RECORDS_PER_HOUR + 2
    assert (entries[-1].source, entries[-1].text) == (
        "attpc_ioc.tests.loud",
        "70 lines are in the log of the IOC only: too many within an hour",
    )


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "fault of data taking"),
        ({"router": "CoBo1", "reason": "it is gone"}, "fault of data taking (router CoBo1): it is gone"),
        ({"state": "Failed", "message": "a\nb"}, "fault of data taking (state Failed): a b"),
        ({"waited_s": 1.5, "kept_as": "x"}, "fault of data taking (waited 1.5 s, kept as x)"),
        ({"reason": ""}, "fault of data taking"),
    ],
)
async def test_an_entry_is_in_words(keys: dict[str, object], text: str) -> None:
    entries: list[LogRecord] = []
    feed = LogFeed(entries.append, lambda: None, lambda: None)
    feed.attach()
    try:
        get_logger("attpc_ioc.tests.words").warning("fault of data taking", **keys)
        await asyncio.sleep(0)
    finally:
        feed.detach()
    assert [entry.text for entry in entries] == [text]
