"""The event log: events come back as they were, in order; what is kept belongs to them."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from attpc_ioc.eventlog.rows import KIND_OF, KINDS, LONG_CHARS, from_row, text_of, to_row
from attpc_ioc.model import events
from attpc_ioc.model.command import Put, Reason, Who
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.run import RunClass, RunInfo, RunOutcome, RunRef, RunTexts
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.model.states import Kind, Operation, State, Transition
from tests.support.state_dir import change, kept, opened, query

READERS = ("history", "other")
STAMP = Stamp("T:", "b", 1)
RUN = RunInfo(
    7,
    "e20009",
    ("cobo0", "mutant"),
    RunTexts("a title", "me", RunClass.BEAM),
    began_s=1.5,
    started_s=2.5,
    stopped_s=3.5,
    last_seen_running_s=3.0,
    who=Who("me", "here", "10.0.0.1:4"),
    stopped_by=Who("you", "there"),
    loaded={"cobo0": "a/b/c"},
    urls={"cobo0": "http://cobo0:8083"},
    lost_ever=("cobo0",),
    adopted=True,
    outcome=RunOutcome.INTERRUPTED,
    reason="why",
)
MEMBERS = (
    events.RunMember(
        "cobo0",
        "http://cobo0:8083",
        Kind.COBO,
        1.5,
        (SourceView("CoBo0", "CoBo[0]", "cobo0", (DataLinkView("data", "10.0.0.2", 46005, "TCP"),)),),
    ),
    events.RunMember("mutant"),
)
ABOUT = {"stamp": STAMP, "time_s": 5.25}
EVENTS = [
    events.StateChanged(
        **ABOUT,
        module="cobo0",
        old=State.OFFLINE,
        new=State.READY,
        transition=Transition.NONE,
        origin=events.Origin.EXTERNAL,
        reason="r",
        run=RunRef("e20009", 7),
    ),
    events.OperationStarting(
        **ABOUT,
        module="cobo0",
        operation=Operation.DESCRIBE,
        config=ConfigName("a", "b", "c"),
        who=Who("me", "here"),
    ),
    events.OperationEnded(
        **ABOUT,
        module="cobo0",
        operation=Operation.CONFIGURE,
        ok=False,
        reason="r",
        code=3,
        duration_s=0.5,
        who=Who("me", "here"),
        config=ConfigName("a", "b", "c"),
        text="<x>" * LONG_CHARS,
        run=RunRef("e20009", 7),
    ),
    events.RunStarting(**ABOUT, run=RUN, members=MEMBERS),
    events.RunStarted(**ABOUT, run=RUN, members=MEMBERS),
    events.RunDegraded(**ABOUT, run=RUN, members=MEMBERS, lost=("cobo0",)),
    events.RunStopping(**ABOUT, run=RUN, members=MEMBERS, who=Who("me", "here"), reason="r"),
    events.RunStopped(**ABOUT, run=RUN, members=MEMBERS),
    events.RunFailed(
        **ABOUT, run=RUN, members=MEMBERS, reasons=(Reason("no", "cobo0"),), number_released=True
    ),
    events.RunFiles(
        **ABOUT,
        experiment="e",
        number=7,
        router="r",
        sources=("CoBo0",),
        state="Done",
        files=2,
        data_bytes=2**62,
        location="/data",
        message="m",
        manifest="é" * LONG_CHARS * 2,
        event_count=9,
        missing_events=2,
        resets=1,
        damaged_frames=3,
        sync="Torn",
        checked=True,
        first_event=3,
        last_event=13,
        all_from=4,
    ),
    events.RunConfigs(
        **ABOUT,
        experiment="e",
        number=7,
        configs=(
            events.RunConfigText("cobo0", "describe", "a", "t" * 9999, "file"),
            events.RunConfigText("cobo1", "prepare", "a", fault="gone"),
        ),
    ),
    events.PluginRecord(**ABOUT, plugin="p", kind="k", value={"a": [1, 2.5, None, "t" * 9999]}),
    Put("Run:Title", Who("me", "here"), "old", "new", ok=False, reason="r", time_s=5.25, stamp=STAMP),
]
FILES = next(event for event in EVENTS if isinstance(event, events.RunFiles))


def test_every_kind_of_event_is_in_the_log():
    """One whose kind has no name there would not be recorded."""
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, events.Event) and not kind.__subclasses__()
    }
    assert kinds | {Put} == set(KIND_OF)
    assert {type(event) for event in EVENTS} == set(KINDS.values())
    for event in EVENTS:
        # A field left at its default would show nothing below.
        for field in dataclasses.fields(event):
            if field.default is not dataclasses.MISSING:
                assert getattr(event, field.name) != field.default, (type(event), field.name)


async def test_events_come_back_as_they_were_and_in_order(tmp_path):
    async with opened(tmp_path) as event_log:
        positions = [event_log.append(event) for event in EVENTS]
        found = await event_log.events(0)
        assert found == list(zip(positions, EVENTS, strict=True))
        assert await event_log.events(positions[3], most=2) == found[4:6]
        assert event_log.recorded == positions[-1]
    # They go on where they ended.
    async with opened(tmp_path) as event_log:
        assert event_log.append(EVENTS[0]) == positions[-1] + 1
        assert await event_log.events(positions[-1]) == [(positions[-1] + 1, EVENTS[0])]


@given(st.text(st.characters()), st.integers(0, 2**63 - 1), st.floats(0, 2e9))
@settings(max_examples=50)
def test_whatever_text_a_client_sends_comes_back(text, size, when):
    event = dataclasses.replace(FILES, message=text, manifest=text * 3000, data_bytes=size, time_s=when)
    row = to_row(1, event)
    back = from_row(row.kind, row.body, lambda digest: text_of(row.texts[digest]))
    assert back == event


async def test_a_reader_waits_for_what_comes(tmp_path):
    async with opened(tmp_path) as event_log:
        waiting = asyncio.create_task(event_log.events(0))
        await event_log.flush()
        assert not waiting.done()
        event_log.append(EVENTS[0])
        assert await asyncio.wait_for(waiting, 10) == [(1, EVENTS[0])]


async def test_a_long_text_is_kept_once(tmp_path):
    async with opened(tmp_path) as event_log:
        for _ in range(5):
            event_log.append(EVENTS[2])
        await event_log.flush()
        assert query(tmp_path, "SELECT count(*) FROM long_text") == [(1,)]
        assert query(tmp_path, "SELECT max(length(body)) < 1000 FROM event") == [(1,)]
        # It goes with the last event that has it.
        event_log.append(EVENTS[0])
        await event_log.flush()
        assert await event_log.prune(1.0, READERS) == 5
        assert query(tmp_path, "SELECT count(*) FROM long_text") == [(0,)]


async def test_what_a_reader_has_not_seen_is_not_pruned(tmp_path):
    new = dataclasses.replace(EVENTS[0], time_s=time.time())
    async with opened(tmp_path) as event_log:
        event_log.set_cursor("history", 0)
        event_log.set_cursor("other", 4)
        for event in (*[EVENTS[0]] * 5, new, new):
            event_log.append(event)
        await event_log.flush()
        assert await event_log.prune(1.0, READERS) == 0
        event_log.set_cursor("history", 3)
        await event_log.flush()
        assert await event_log.prune(1.0, READERS) == 3
        event_log.set_cursor("history", 7)
        event_log.set_cursor("other", 7)
        await event_log.flush()
        # One that is switched off holds nothing back, and young ones stay.
        event_log.set_cursor("off", 0)
        await event_log.flush()
        assert await event_log.prune(1.0, READERS) == 2
    async with opened(tmp_path) as event_log:
        found = query(tmp_path, "SELECT position FROM cursor WHERE reader IN ('history', 'new')")
        assert found == [(7,)]
        assert [position for position, _ in await event_log.events(0)] == [6, 7]


async def test_positions_are_never_used_again(tmp_path):
    async with opened(tmp_path) as event_log:
        for _ in range(3):
            event_log.append(EVENTS[0])
        await event_log.flush()
        assert await event_log.prune(0.0, READERS) == 2
    async with opened(tmp_path) as event_log:
        assert event_log.append(EVENTS[0]) == 4


async def test_an_event_and_what_it_changes_are_on_disk_together(tmp_path):
    """Whatever is done in one turn of the event loop, a reader sees all of it or nothing."""
    async with opened(tmp_path) as event_log:
        numbers = event_log.kept("numbers", TypeAdapter(int))
        seen = set()
        for number in range(1, 100):
            event_log.append(EVENTS[0])
            numbers.keep("a", number)
            if number % 3 == 0:
                await asyncio.sleep(0)
            seen.add(
                query(
                    tmp_path,
                    "SELECT (SELECT count(*) FROM event), "
                    "coalesce((SELECT CAST(value AS INTEGER) FROM kept WHERE topic = 'numbers'), 0)",
                )[0]
            )
        await event_log.flush()
    assert {events == number for events, number in seen} == {True}
    assert kept(tmp_path, "numbers") == {"a": 99}


async def test_a_row_of_a_newer_version_is_an_error_in_its_place(tmp_path):
    async with opened(tmp_path) as event_log:
        for _ in range(3):
            event_log.append(EVENTS[0])
    change(tmp_path, "UPDATE event SET kind = 'run.paused' WHERE position = 1")
    change(tmp_path, "UPDATE event SET body = '{\"module\": 3}' WHERE position = 2")
    async with opened(tmp_path) as event_log:
        found = dict(await event_log.events(0))
        assert "run.paused is not a kind of event that this version knows" in str(found[1])
        assert isinstance(found[2], ValueError)
        assert found[3] == EVENTS[0]


async def test_a_damaged_text_is_an_error_in_its_events_place_alone(tmp_path):
    async with opened(tmp_path) as event_log:
        for event in (EVENTS[0], EVENTS[2], EVENTS[1]):
            event_log.append(event)
    for body in (b"no compressed text", b"", zlib.compress(b"\xff")):
        change(tmp_path, "UPDATE long_text SET body = ?", body)
        async with opened(tmp_path) as event_log:
            found = dict(await event_log.events(0))
            assert isinstance(found[2], ValueError)
            assert (found[1], found[3]) == (EVENTS[0], EVENTS[1])


async def test_an_event_that_cannot_be_written_down_does_not_keep_the_others_out(tmp_path, caplog):
    bad = dataclasses.replace(FILES, message=object())
    async with opened(tmp_path) as event_log:
        for event in (EVENTS[0], bad, EVENTS[1]):
            event_log.append(event)
        await event_log.flush()
        assert await event_log.events(0) == [(1, EVENTS[0]), (3, EVENTS[1])]
    assert "event not recorded" in caplog.text
