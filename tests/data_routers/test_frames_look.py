"""Looks at the frames of growing files: the same over each way to a host."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from attpc_plugins.data_routers.events.streams import Stream, take_all
from attpc_plugins.data_routers.hosts import frames
from attpc_plugins.data_routers.hosts.frames import AFTER, JUMP_BYTES, Cursor, Piece
from attpc_plugins.data_routers.hosts.host import FrameHost

from attpc_ioc.simulator.data.frames import Frame, cobo_frame, mutant_frame
from tests.support.datahosts import Place, place
from tests.support.sshd import Sshd
from tests.support.thorough import examples

TIME = "2026-03-01T12:00:00.123"
SENDER = "CoBo3_AsAd1"
FIRST = f"{SENDER}_{TIME}_0000.graw"
SECOND = f"{SENDER}_{TIME}_0001.graw"
AGAIN = f"{SENDER}_2026-03-01T12:10:00.000_0000.graw"
MUTANT = f"MuTanT_{TIME}_0000.graw"


def cobo(events: Sequence[int], *, full: bool = False, samples: bool = True) -> list[Frame]:
    """Frames of CoBo 3, AsAd 1; an event's time is 1000 ticks times its number."""
    return [
        cobo_frame(event, event * 1000, 3, 1, event * 37 % 900, full=full, samples=samples)
        for event in events
    ]


def raw(found: Sequence[Frame]) -> bytes:
    return b"".join(frame.head[: frame.length].ljust(frame.length, b"\0") for frame in found)


def append(path: Path, found: Sequence[Frame] | bytes) -> None:
    with path.open("ab") as file:
        file.write(found if isinstance(found, bytes) else raw(found))


def after(piece: Piece) -> Cursor:
    sender = piece.name.rsplit("_", 2)[0]
    return Cursor(sender, piece.name, piece.offset, piece.size, piece.before)


def host_of(at: Place) -> FrameHost:
    host = at.host()
    assert isinstance(host, FrameHost)
    return host


async def test_a_look_counts_frames_and_goes_on_where_it_ended(at: Place) -> None:
    host, path = host_of(at), at.staging / FIRST
    append(path, cobo(range(1, 11)))
    (piece,) = await host.look([], 4)
    size = path.stat().st_size
    before = size - len(raw(cobo([10])))
    assert piece == Piece(FIRST, size, size, 10, 1, 10, 10_000, before=before, samples=((4, 4000), (8, 8000)))
    (again,) = await host.look([after(piece)], 4)
    assert again == Piece(FIRST, size, size, before=before)
    append(path, cobo([11, 12, 15, 14, 20]))
    (more,) = await host.look([after(piece)], 5)
    size = path.stat().st_size
    before = size - len(raw(cobo([20])))
    samples = ((15, 15_000), (20, 20_000))
    assert more == Piece(
        FIRST, size, size, 5, 11, 20, 20_000, missing=2 + 5, back=1, before=before, samples=samples
    )


async def test_parts_and_streams_come_in_order_and_those_before_the_cursor_never(at: Place) -> None:
    host = host_of(at)
    append(at.staging / AGAIN, cobo(range(3)))
    append(at.staging / f"{SENDER}_{TIME}_10000.graw", cobo([30]))
    append(at.staging / f"{SENDER}_{TIME}_9999.graw", cobo([20]))
    append(at.staging / SECOND, b"")
    append(at.staging / FIRST, cobo(range(5)))
    append(at.staging / "other.graw", cobo(range(5)))
    names = [piece.name for piece in await host.look([], 1)]
    assert [name[len(SENDER) + 1 :] for name in names] == [
        f"{TIME}_0000.graw",
        f"{TIME}_0001.graw",
        f"{TIME}_9999.graw",
        f"{TIME}_10000.graw",
        "2026-03-01T12:10:00.000_0000.graw",
    ]
    later = await host.look([Cursor(SENDER, f"{SENDER}_{TIME}_9999.graw", AFTER)], 1)
    assert [piece.name for piece in later] == names[3:]
    assert not await host.look([Cursor(SENDER, AGAIN, AFTER)], 1)


async def test_the_mutants_frames_have_its_triggers(at: Place) -> None:
    host, path = host_of(at), at.staging / MUTANT
    append(path, [mutant_frame(event, event * 1000) for event in range(5000)])
    (piece,) = await host.look([], 1024)
    assert (piece.frames, piece.last, piece.ticks) == (5000, 4999, 4_999_000)
    assert piece.triggers == (5000, 5000, 5000, 5000)
    assert piece.samples == (
        (0, 0),
        (1024, 1_024_000),
        (2048, 2_048_000),
        (3072, 3_072_000),
        (4096, 4_096_000),
    )
    # Of many the first one is among them: the clocks of all boards can be compared from event 0 on.
    (piece,) = await host.look([], 16)
    assert [event for event, _ in piece.samples] == [0, *range(4896, 4999, 16)]


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("cut", [1, 20, 60, 255, 256, 300, 500])
async def test_a_torn_frame_is_seen_and_those_behind_it_too(at: Place, cut: int, full: bool) -> None:
    host, path = host_of(at), at.staging / FIRST
    good, torn = raw(cobo(range(20))), raw(cobo([20], full=True)) if full else raw(cobo([28]))
    append(path, good + torn[:cut])
    (first,) = await host.look([], 1000)
    assert (first.frames, first.torn, first.torn_at, first.offset) == (20, 0, -1, len(good))
    (still,) = await host.look([after(first)], 1000)
    assert (still.frames, still.torn, still.torn_at, still.offset) == (0, 0, len(good), len(good))
    append(path, cobo(range(30, 300), full=False))
    (more,) = await host.look([after(still)], 1000)
    assert (more.torn, more.torn_at, more.last) == (1, len(good), 299)
    # What the torn frame says counts as a frame where its header is whole.
    assert more.frames in (270, 271)
    assert more.offset == path.stat().st_size


async def test_what_is_torn_at_the_end_of_a_part_that_is_not_the_last_is_seen_at_once(at: Place) -> None:
    host = host_of(at)
    append(at.staging / FIRST, raw(cobo(range(20)))[:-10])
    append(at.staging / SECOND, cobo([20, 21]))
    first, second = await host.look([], 1000)
    assert first.frames == 19
    assert first.torn_at == first.offset < first.size
    assert (second.frames, second.first, second.torn_at) == (2, 20, -1)


async def test_after_a_long_absence_a_look_begins_near_the_end(at: Place) -> None:
    host, path = host_of(at), at.staging / FIRST
    append(path, cobo(range(7, 100)))
    os.truncate(path, JUMP_BYTES)  # a hole
    append(path, cobo(range(100, 20_000)))
    first, last = await host.look([], 1000)
    assert (first.name, first.frames, first.first, first.jumped) == (FIRST, 1, 7, False)
    assert last.jumped
    assert last.last == 19_999
    assert 1 < sum(frame.length for frame in cobo(range(20_000 - last.frames, 20_000))) <= 1 << 15
    for full in (True, False):
        append(at.staging / SECOND, cobo(range(20_000, 20_010), full=full, samples=not full))
    os.truncate(at.staging / SECOND, (at.staging / SECOND).stat().st_size - 5)
    pieces = await host.look([Cursor(SENDER, FIRST, 0, 0)], 1000)
    assert [(piece.name, piece.jumped, piece.last) for piece in pieces] == [(SECOND, True, 20_008)]


async def test_a_look_hops_over_a_bounded_number_of_frames(at: Place) -> None:
    host = host_of(at)
    count = frames.FRAMES_MOST + 1000
    append(at.staging / MUTANT, [mutant_frame(event, event) for event in range(count)])
    (first,) = await host.look([], 1 << 20)
    assert first.frames == frames.FRAMES_MOST
    (second,) = await host.look([after(first)], 1 << 20)
    assert (second.frames, second.last) == (1000, count - 1)


async def test_links_and_folders_are_left_alone(at: Place, tmp_path: Path) -> None:
    append(tmp_path / "elsewhere", cobo(range(5)))
    (at.staging / FIRST).symlink_to(tmp_path / "elsewhere")
    (at.staging / SECOND).mkdir()
    assert not await host_of(at).look([], 1)


def noise(dice: random.Random) -> bytes:
    """Frames of all kinds, some torn, of the other byte order or replaced by noise."""
    data = b""
    for event in range(dice.randrange(40)):
        kind = dice.randrange(12)
        frame = raw([mutant_frame(event, event)] if kind < 3 else cobo([event + 7], full=kind == 3))
        match kind:
            case 9:
                frame = b"\x88" + frame[1:]
            case 10:
                frame = dice.randbytes(dice.randrange(2000))
            case 11:
                frame = frame[: dice.randrange(len(frame))]
        data += frame
    return data


async def in_pieces(at: Place, data: bytes, ends: Sequence[int]) -> Stream:
    """Return what is known of a file after looks at the sizes it grows to, the last with a file behind it."""
    host, path, known = host_of(at), at.staging / FIRST, dict[str, Stream]()
    path.write_bytes(b"")
    (at.staging / SECOND).unlink(missing_ok=True)
    for begin, end in pairwise((0, *ends, len(data))):
        append(path, data[begin:end])
        if end == len(data):
            append(at.staging / SECOND, b"")
        known = take_all(known, await host.look([stream.cursor for stream in known.values()], 1000))
    return replace(known[SENDER], samples=(), triggers=())


TORN = raw(cobo([11]))[:300]
"""Says that it has 2048 bytes."""


@pytest.mark.parametrize(
    ("data", "frames", "torn", "missing"),
    [
        # What the torn frame says is its end is inside of event 13.
        (raw(cobo([0, 1])) + TORN + raw(cobo(range(12, 17))), 8, 1, 9),
        # Event 12 is followed by another torn frame, so that it is not taken for one.
        (raw(cobo([0, 1])) + TORN + raw(cobo([12])) + TORN + raw(cobo(range(13, 18))), 8, 1, 10),
        # No frame begins in the torn one.
        (raw(cobo([0, 1])) + b"torn" + raw(cobo(range(2, 6))), 6, 1, 0),
    ],
)
async def test_what_is_torn_counts_the_same_wherever_a_look_has_ended(
    at: Place, data: bytes, frames: int, torn: int, missing: int
) -> None:
    whole = await in_pieces(at, data, [])
    assert (whole.frames, whole.torn, whole.missing) == (frames, torn, missing)
    # Where frames end, and where torn ones say they do, are among these.
    for end in (*range(128, len(data), 128), *range(44, len(data), 128)):
        assert await in_pieces(at, data, [end]) == whole, end


async def test_both_ways_find_the_same_in_any_file(shared_sshd: Sshd, tmp_path: Path) -> None:
    """A file that grows by pieces of any length; both find together what one look at all of it finds."""
    async with place(tmp_path, None) as here, place(tmp_path, shared_sshd) as there:
        for seed in range(examples(80, 2000)):
            dice = random.Random(seed)
            data, ends = noise(dice), [0]
            while ends[-1] < len(data):
                ends.append(min(len(data), ends[-1] + dice.randrange(1, 1 + len(data))))
            one, other = await in_pieces(here, data, ends[1:-1]), await in_pieces(there, data, ends[1:-1])
            assert one == other, seed
            assert await in_pieces(here, data, []) == one, seed
