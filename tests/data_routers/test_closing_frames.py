"""What a closing and a check say of the frames of a run: the same figures, whatever had been seen before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attpc_plugins.data_routers.closing import counting, manifest, reporting
from attpc_plugins.data_routers.closing.checking import (
    CheckResult,
    FilesDiffer,
    check_files,
    digest_of,
    record_check,
)
from attpc_plugins.data_routers.closing.closings import Closing
from attpc_plugins.data_routers.closing.counting import Known, count_on, known_of
from attpc_plugins.data_routers.closing.figures import Figures, figures_of, frames_text
from attpc_plugins.data_routers.closing.manifest import Manifest, StreamFrames
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.events.streams import Stream, take_all
from attpc_plugins.data_routers.hosts.frames import Piece
from attpc_plugins.data_routers.hosts.host import Source
from attpc_plugins.data_routers.hosts.local import frames as looking
from attpc_plugins.data_routers.model import CloseState, FileEntry

from attpc_ioc.model.run import RunRef
from tests.data_routers.test_frames_look import cobo, raw
from tests.support.closings import EXPERIMENT, Side, local_settings, side
from tests.support.datahosts import RUN, Place
from tests.support.thorough import examples

S = CloseState
SENDER = "CoBo0_AsAd1"


def name(part: int, late: int = 0, time: int = 0, sender: str = SENDER) -> str:
    return f"{sender}_2026-03-01T12:{time:02d}:00.123_{part:04d}{f'.late{late}' if late else ''}.graw"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def source(at: Place) -> Source:
    host = at.host()
    assert isinstance(host, Source)
    return host


def folder(staging: Path, number: int = 1) -> Path:
    return staging / EXPERIMENT / f"run_{number:04d}"


def record_of(staging: Path, number: int = 1) -> Manifest:
    return manifest.load((folder(staging, number) / manifest.FILE_NAME).read_bytes(), "it")


async def checked(host: Source, number: int = 1) -> CheckResult:
    """Look at all frames of a closed run."""
    run = RunRef(EXPERIMENT, number)
    files = await host.gathered(run, closed=True, checksums=False)
    streams = await check_files(host, run, files, lambda _bytes: None)
    return CheckResult("CoBo0", digest_of(files), streams, 5.0)


def nothing(_bytes: int) -> None:
    pass


# ---------------------------------------------------------------------------- counted on from a look


def some_data(rng: random.Random, event: int) -> tuple[bytes, int]:
    """Return frames of which some are missing, out of order or torn, and the next event number."""
    data = b""
    for _ in range(rng.randrange(6)):
        event += rng.choice((1, 1, 1, 1, 3))
        back = rng.random() < 0.05
        whole = raw(cobo([max(0, event - 2) if back else event]))
        data += whole[: rng.choice((300, 17))] if rng.random() < 0.05 else whole
    return data, event


@pytest.mark.parametrize("seed", range(examples(12, 200)))
async def test_a_closing_goes_on_where_the_look_has_ended(
    at: Place, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds what a look at all frames finds, from wherever it begins, and reads what is new only."""
    rng, host, known = random.Random(seed), source(at), dict[str, Stream]()
    event, part, time = 0, 0, 0
    for _ in range(rng.randrange(3, 9)):
        if rng.random() < 0.3:
            part += 1
        if rng.random() < 0.1:
            event, part, time = 0, 0, time + 1
        data, event = some_data(rng, event)
        append(at.staging / name(part, time=time), data)
        if rng.random() < 0.7:
            pieces = await host.look([stream.cursor for stream in known.values()], 1000)
            known = take_all(known, pieces)
    at.closed.mkdir(parents=True)
    for path in at.staging.glob("*.graw"):
        path.rename(at.closed / path.name)
    if rng.random() < 0.5:
        append(at.closed / name(part, late=1, time=time), some_data(rng, event)[0])
    files = await host.gathered(RUN, closed=True, checksums=False)
    begin = {sender: known_of(stream) for sender, stream in known.items()}
    asked: list[tuple[str, int]] = []

    async def read(file: str, offset: int, most: int, before: int) -> Piece:
        asked.append((file, offset))
        return await host.frames(RUN, file, offset, most, before)

    found = await count_on(read, files, begin)
    whole = await check_files(host, RUN, files, nothing)
    monkeypatch.setattr(counting, "FRAMES_AT_ONCE", 1)
    one_by_one = await check_files(host, RUN, files, nothing)
    counts = [[replace(stream, torn_at="") for stream in streams] for streams in (found, whole, one_by_one)]
    assert counts[0] == counts[1] == counts[2]
    for sender, one in begin.items():
        before = [file for file, _ in asked if counting.order_of(file) < counting.order_of(one.name)]
        assert not before, f"what was seen of {sender} is read again"


async def test_what_was_seen_of_other_files_does_not_count(at: Place) -> None:
    """A file is gone that was looked at, one is there that was not, one is shorter: all is counted anew."""
    at.closed.mkdir(parents=True)
    append(at.closed / name(0), raw(cobo(range(5))))
    append(at.closed / name(1), raw(cobo(range(5, 9))))
    host = source(at)
    files = await host.gathered(RUN, closed=True, checksums=False)
    read = partial(host.frames, RUN)
    true = (StreamFrames(SENDER, 9, 0, 8),)
    wrong = StreamFrames(SENDER, 77, 0, 99, torn=3)
    size = files[1].size
    assert await count_on(read, files, {}) == true
    for known in (
        Known(wrong, name(1), size, files=3, last=99),
        Known(wrong, name(1), size, files=1, last=99),
        Known(wrong, name(1), size + 1, files=2, last=99),
        Known(wrong, name(2), 0, files=3, last=99),
    ):
        assert await count_on(read, files, {SENDER: known}) == true, known
    seen = Known(StreamFrames(SENDER, 5, 0, 4), name(0), files[0].size, files=1, last=4)
    assert await count_on(read, files, {SENDER: seen}) == true


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look hops over a little only."""
    monkeypatch.setattr(counting, "JUMP_BYTES", 50_000)
    monkeypatch.setattr(looking, "SEARCHED_FIRST", 20_000)


async def test_where_too_much_has_come_counts_are_unknown(at: Place, little: None) -> None:
    """From a few requests: the first event, the last one, and what is wrong there; nothing is guessed."""
    at.closed.mkdir(parents=True)
    host, asked = source(at), list[tuple[str, int]]()
    for part in range(4):
        append(at.closed / name(part), raw(cobo(range(100 * part, 100 * part + 100))))
    append(at.closed / name(0, sender="CoBo0_AsAd2"), raw(cobo([3, 4, 6])))
    files = await host.gathered(RUN, closed=True, checksums=False)

    async def read(file: str, offset: int, most: int, before: int) -> Piece:
        asked.append((file, offset))
        return await host.frames(RUN, file, offset, most, before)

    first, other = await count_on(read, files, {})
    assert (first.first, first.last, first.resets) == (0, 399, 0)
    assert (first.frames, first.missing, first.back, first.torn) == (None, None, None, None)
    assert asked[:2] == [(name(0), 0), (name(3), -1)]
    assert other == StreamFrames("CoBo0_AsAd2", 3, 3, 6, missing=1)
    assert figures_of((first, other)) == Figures(4, 1, 0, None, 0, 399, 3)
    assert figures_of((first,)) == Figures(400, None, 0, None, 0, 399, 0)
    # What was found before is found, and with a known beginning not even the first frame is read.
    asked.clear()
    known = Known(StreamFrames(SENDER, 7, 0, 8, missing=2, torn=1, torn_at="there"), name(0), 0, 1, last=8)
    first, _ = await count_on(read, files, {SENDER: known})
    assert (first.first, first.last, first.frames, first.missing, first.torn) == (0, 399, None, 2, 1)
    assert asked[0] == (name(3), -1)
    # Where its numbers begin anew, the ends of each numbering are looked at.
    for time, part in ((1, 0), (2, 0), (2, 1)):
        append(at.closed / name(part, time=time), raw(cobo(range(100 * part, 100 * part + 100))))
    files = await host.gathered(RUN, closed=True, checksums=False)
    first, _ = await count_on(read, files, {SENDER: known})
    assert first.stretches == ((0, 399), (0, 99), (0, 199))
    live = Stream(SENDER, "a", name(0, time=2), 0, -1, 9, True, 0, 50, 0, resets=2, earlier=((0, 7), (1, 8)))
    assert known_of(live).stream.stretches == ((0, -1), (1, -1), (0, 50))
    first, _ = await count_on(read, files, {SENDER: known_of(live)})
    assert (first.frames, first.stretches) == (None, ((0, -1), (1, -1), (0, 199)))


async def test_many_small_files_are_not_looked_at_one_by_one(at: Place) -> None:
    at.closed.mkdir(parents=True)
    for part in range(counting.FILES_MOST + 5):
        append(at.closed / name(part), raw(cobo([part])))
    host, asked = source(at), list[str]()
    files = await host.gathered(RUN, closed=True, checksums=False)

    async def read(file: str, offset: int, most: int, before: int) -> Piece:
        asked.append(file)
        return await host.frames(RUN, file, offset, most, before)

    (stream,) = await count_on(read, files, {})
    assert (stream.frames, stream.first, stream.last) == (None, 0, counting.FILES_MOST + 4)
    assert len(asked) == 2


def test_a_message_names_the_first_streams_and_counts_the_others() -> None:
    bad = [StreamFrames(f"CoBo0_AsAd{number}", 5, 0, 4, torn=1, torn_at=f"{number}") for number in range(4)]
    text = frames_text(bad, checked=True)
    assert text.count("5 frames, events 0 to 4, 1 torn, first in ") == 2
    assert text.endswith("; and 2 more, see `attpc-ioc files check`")
    assert "more" not in frames_text(bad[:2], checked=True)
    alike = [replace(one, torn_at="") for one in bad]
    assert frames_text(alike, checked=True).startswith(
        "frames: CoBo0_AsAd0, CoBo0_AsAd1, CoBo0_AsAd2, CoBo0_AsAd3: 5 frames"
    )


def test_a_part_that_ends_torn_is_torn_for_good_once_the_next_begins() -> None:
    stream = Stream(SENDER).take(Piece(name(0), 500, 300, 3, 0, 2, torn_at=300))
    assert (stream.torn, stream.torn_end) == (0, f"{name(0)} at byte 300 near event 2")
    stream = stream.take(Piece(name(0), 500, 300, torn_at=300)).take(Piece(name(1), 100, 100, 1, 4, 4))
    assert (stream.torn, stream.torn_end, stream.torn_at) == (1, "", f"{name(0)} at byte 300 near event 2")
    assert (stream.files, stream.frames, stream.missing, stream.jumped) == (2, 4, 1, False)
    assert stream.take(Piece(name(1), 900, 900, 1, 9, 9, jumped=True)).jumped


@pytest.mark.parametrize(
    ("streams", "figures"),
    [
        ((), Figures(0, 0, 0, 0)),
        ((StreamFrames("a", 10, 0, 9), StreamFrames("b", 7, 1, 8, missing=1)), Figures(8, 1, 0, 0, 0, 9, 1)),
        ((StreamFrames("a", 10, 3, 9), StreamFrames("b")), Figures(7, 0, 0, 0, 3, 9)),
        ((StreamFrames("a"), StreamFrames("b")), Figures(0, 0, 0, 0)),
        # How many events there are is not known where numbers begin anew.
        ((StreamFrames("a", 10, 0, 4, resets=1, torn=1, back=2),), Figures(None, 0, 1, 3)),
        ((StreamFrames("a", None, 0, 9, None, None, 0, None),), Figures(10, None, 0, None, 0, 9, 0)),
        (
            (StreamFrames("a", None, 0, 9, 4, None, 0, 2), StreamFrames("b", 10, 0, 9)),
            Figures(10, 4, 0, 2, 0, 9, 0),
        ),
    ],
)
def test_figures_of_streams(streams: Sequence[StreamFrames], figures: Figures) -> None:
    assert figures_of(streams) == figures


# ---------------------------------------------------------------------------- in a closing


async def run_closed(it: Side, staging: Path, files: dict[str, bytes], number: int = 1) -> Closing:
    await it.begin(number)
    for file, data in files.items():
        append(staging / file, data)
    it.end(number)
    await it.reach(number, S.DONE)
    await it.until(lambda: it.told(number)[-1:] == ["Done"])
    return it.entry(number)


def told(it: Side) -> dict[str, Any]:
    return it.ctx.told[-1][1]


GOOD = {name(0): raw(cobo(range(10))), name(0, sender="CoBo0_AsAd2"): raw(cobo([0, 1, 4]))}
FOUND = (StreamFrames(SENDER, 10, 0, 9), StreamFrames("CoBo0_AsAd2", 3, 0, 4, missing=2))


async def test_a_closing_tells_what_is_in_the_frames(at: Place, tmp_path: Path) -> None:
    async with side(tmp_path / "state", local_settings({"CoBo0": at.staging}), {"CoBo0": at.host()}) as it:
        entry = await run_closed(it, at.staging, GOOD)
        assert record_of(at.staging).streams == entry.frames == FOUND
        assert record_of(at.staging).checked_s is None
        fields = told(it)
        assert (fields["event_count"], fields["missing_events"]) == (5, 2)
        assert (fields["resets"], fields["damaged_frames"], fields["checked"]) == (0, 0, None)
        assert fields["manifest"] == (folder(at.staging) / manifest.FILE_NAME).read_text()
        assert (fields["first_event"], fields["last_event"], fields["all_from"]) == (0, 9, 0)
        short = "CoBo0_AsAd2: ends with event 4, the others with 9: 5 events fewer"
        assert f"; frames: {short}" in fields["message"]
        # Late data: counted on from the manifest, over a torn end too.
        append(at.staging / name(0), raw(cobo([10, 12])) + b"torn")
        it.closing.look("CoBo0")
        await it.until(lambda: told(it)["files"] == 3)
        late = (StreamFrames(SENDER, 12, 0, 12, missing=1, torn=1), FOUND[1])
        streams = record_of(at.staging).streams
        assert streams is not None
        size = len(raw(cobo([10, 12])))
        assert streams[0].torn_at == f"{name(0, late=1)} at byte {size} near event 12"
        assert [(s.frames, s.first, s.last, s.missing, s.torn) for s in streams] == [
            (s.frames, s.first, s.last, s.missing, s.torn) for s in late
        ]
        assert (await checked(source(at))).streams == streams
        assert (told(it)["missing_events"], told(it)["damaged_frames"]) == (3, 1)
        assert f"frames: {SENDER}: 12 frames, events 0 to 12, 1 missing, 1 torn" in told(it)["message"]
        # A run without a file has no event, and that is known.
        entry = await run_closed(it, at.staging, {}, 2)
        assert record_of(at.staging, 2).streams == entry.frames == ()
        assert (told(it)["event_count"], told(it)["damaged_frames"]) == (0, 0)


async def test_what_was_seen_in_the_run_is_kept_for_its_closing(at: Place, tmp_path: Path) -> None:
    """The live look is at the next run, and the IOC is another one: the closing goes on from where it was."""
    settings = local_settings({"CoBo0": at.staging}, quiet_s=0.8)
    asked: list[tuple[str, int]] = []

    class Counted(Summary):
        async def of(self, closing: Closing, files: Sequence[FileEntry], *, closed: bool = False) -> Any:
            asked.extend((one.name, one.offset) for one in (self.known(closing.run) or closing.seen).values())
            return await super().of(closing, files, closed=closed)

    host = source(at)
    known: dict[str, Stream] = {}
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        it.closing.summaries["CoBo0"] = Summary("CoBo0", host, lambda _run: known)
        await it.begin(1)
        for file, data in GOOD.items():
            append(at.staging / file, data)
        known = take_all({}, await host.look([], 1000))
        it.end(1)
        await it.until(lambda: it.entry(1).seen)
        known = {}
        append(at.staging / name(0), raw(cobo([10, 11])))
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        counted = Counted("CoBo0", host)
        it.closing._closers["CoBo0"].summary = counted
        entry = await it.reach(1, S.DONE)
        assert entry.frames == (StreamFrames(SENDER, 12, 0, 11), FOUND[1])
        assert entry.seen == {}
    assert asked == [(file, len(data)) for file, data in GOOD.items()]


async def test_a_fault_of_the_look_does_not_keep_a_closing_from_its_end(at: Place, tmp_path: Path) -> None:
    async with side(tmp_path / "state", local_settings({"CoBo0": at.staging}), {"CoBo0": at.host()}) as it:
        gone = at.host(staging=str(tmp_path / "gone"))
        assert isinstance(gone, Source)
        it.closing._closers["CoBo0"].summary = Summary("CoBo0", gone)
        entry = await run_closed(it, at.staging, GOOD)
        assert entry.frames is record_of(at.staging).streams is None
        assert told(it)["event_count"] is told(it)["damaged_frames"] is None


# -------------------------------------------------------------------------- a check, and what comes meanwhile


async def test_a_check_is_in_manifest_and_record_until_late_data_come(at: Place, tmp_path: Path) -> None:
    settings = local_settings({"CoBo0": at.staging})
    router, run = settings.router[0], RunRef(EXPERIMENT, 1)
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        await run_closed(it, at.staging, GOOD)
        found, host = await checked(source(at)), at.host()
        await record_check(it.closings, router, host, run, found)
        it.closing.wake()
        await it.until(lambda: told(it)["checked"] is True)
        assert (record_of(at.staging).streams, record_of(at.staging).checked_s) == (FOUND, 5.0)
        assert told(it)["manifest"] == (folder(at.staging) / manifest.FILE_NAME).read_text()
        assert "; frames checked: all 13 whole and in order, 2 events missing" in told(it)["message"]
        append(at.staging / name(0), raw(cobo([10])))
        it.closing.look("CoBo0")
        await it.until(lambda: told(it)["files"] == 3)
        assert told(it)["checked"] is None
        assert record_of(at.staging).checked_s is it.entry(1).checked_s is None
        assert it.entry(1).frames == (StreamFrames(SENDER, 11, 0, 10), FOUND[1])
        # What was found in the files before says nothing of those that are there now.
        with pytest.raises(FilesDiffer, match="late data"):
            await record_check(it.closings, router, host, run, found)
        assert len(record_of(at.staging).files) == 3
        assert it.entry(1).checked_s is None


@pytest.mark.parametrize("first", ["check", "late"])
async def test_late_data_and_a_check_at_the_same_moment_lose_neither(
    at: Place, tmp_path: Path, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has read the manifest and not written it yet when the other comes, whichever is first."""
    settings = local_settings({"CoBo0": at.staging})
    router, run = settings.router[0], RunRef(EXPERIMENT, 1)
    host = at.host()
    async with side(tmp_path / "state", settings, {"CoBo0": host}) as it:
        await run_closed(it, at.staging, GOOD)
        found = await checked(source(at))
        waiting, go_on = asyncio.Event(), asyncio.Event()
        amend = host.amend

        async def slow(run: RunRef, text: bytes) -> None:
            waiting.set()
            await go_on.wait()
            await amend(run, text)

        monkeypatch.setattr(host, "amend", slow)
        if first == "check":
            check = asyncio.create_task(record_check(it.closings, router, host, run, found))
            await waiting.wait()
            append(at.staging / name(0), raw(cobo([10])))
            it.closing.look("CoBo0")
        else:
            append(at.staging / name(0), raw(cobo([10])))
            it.closing.look("CoBo0")
            await waiting.wait()
            check = asyncio.create_task(record_check(it.closings, router, host, run, found))
        # The other one waits: nothing of it is in the manifest or on its way.
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert len(record_of(at.staging).files) == 2
            assert record_of(at.staging).checked_s is None
        go_on.set()
        if first == "check":
            await check
        else:
            with pytest.raises(FilesDiffer):
                await check
        await it.until(lambda: it.entry(1).files == 3 and not it.entry(1).late)
        assert {file.name for file in record_of(at.staging).files} == {*GOOD, name(0, late=1)}
        assert record_of(at.staging).streams == it.entry(1).frames
        assert it.entry(1).frames == (StreamFrames(SENDER, 11, 0, 10), FOUND[1])
        assert record_of(at.staging).checked_s is it.entry(1).checked_s is None
        # Now that all is there a check counts, and stays.
        await record_check(it.closings, router, host, run, await checked(source(at)))
        it.closing.wake()
        await it.until(lambda: told(it)["checked"] is True)
        assert (told(it)["files"], told(it)["missing_events"]) == (3, 2)
        assert len(record_of(at.staging).files) == 3


async def test_the_record_of_a_run_gets_a_check_when_its_closing_is_long_gone(
    at: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And loses nothing of what was said of the run when it was closed."""
    monkeypatch.setattr(reporting, "LATE_RUNS", 1)
    settings = local_settings({"CoBo0": at.staging})
    router, run = settings.router[0], RunRef(EXPERIMENT, 1)
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        await it.begin(1)
        it.closing.remark(run, "CoBo0", "OutOfStep: from 1 to 2")
        for file, data in GOOD.items():
            append(at.staging / file, data)
        it.end(1)
        await it.until(lambda: it.told(1)[-1:] == ["Done"])
        before = told(it)
        assert "; OutOfStep: from 1 to 2; frames: CoBo0_AsAd2: ends with event 4" in before["message"]
        it.closings.remove(it.entry(1))
        await run_closed(it, at.staging, {}, 2)
        await record_check(it.closings, router, at.host(), run, await checked(source(at)))
        it.closing.wake()
        await it.until(lambda: it.told(1)[-1:] == ["Done"] and told(it)["number"] == 1)
        remarks = before["message"].partition("; frames: ")[0]
        text = f"{remarks}; frames checked: all 13 whole and in order, 2 events missing"
        changed = {"checked": True, "message": text, "manifest": told(it)["manifest"]}
        assert told(it) == before | changed
        await it.until(lambda: not it.entries(1))
        assert it.entry(2).state is S.DONE
