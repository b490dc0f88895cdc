"""The journal: what was appended is read back in order, over kills, damage and disks that take nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from attpc_plugins.run_history.high_water import HighWater, Reserved
from attpc_plugins.run_history.journal import NEWER, REJECTED, Journal
from attpc_plugins.run_history.journal_files import (
    DAMAGED,
    Position,
    frame,
    load_cursor,
    read_lines,
    segment_path,
    segments,
)
from attpc_plugins.run_history.store.codec import decode, encode
from attpc_plugins.run_history.store.records import (
    Phase,
    PutRecord,
    Record,
    RunFacts,
    RunRecord,
    RunRef,
    UnknownRecord,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.model.command import Who
from attpc_ioc.model.stamp import Stamp
from tests.support.simfleet import wait_until


def put(number: int, text: str = "a value") -> PutRecord:
    return PutRecord(
        Stamp("T:", "boot", number), 1.5, "T:Run:Title", Who("u", "h"), "", f"{text} {number}", True
    )


def run(number: int) -> RunRecord:
    return RunRecord(Stamp("T:", "boot", number), 1.0, Phase.STARTED, RunFacts(RunRef("e", number)))


def read_all(journal: Journal, size: int = 7) -> list[Record]:
    """Read and take everything as applied, as the writer does."""
    found: list[Record] = []
    while not journal.drained:
        batch = journal.read(size)
        found += batch.records
        journal.applied(batch.end)
    return found


async def opened(folder: Path, **options: int) -> Journal:
    journal = Journal(folder, **options)
    journal.open()
    await wait_until(lambda: journal._grown.is_set() or journal.fault)
    return journal


async def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    journal = await opened(tmp_path, segment_bytes=600)
    records = [put(n) for n in range(50)]
    for record in records[:-1]:
        journal.append_soon(record)
    await journal.append(records[-1]).synced
    assert len(segments(tmp_path)) > 1 or read_all(journal) == records
    await journal.close()
    again = await opened(tmp_path)
    assert read_all(again) in (records, [])
    await again.close()


async def test_segments_go_when_they_are_applied(tmp_path: Path) -> None:
    journal = await opened(tmp_path, segment_bytes=400)
    records = [put(n) for n in range(40)]
    for record in records:
        await journal.append(record).synced
    assert len(segments(tmp_path)) > 5
    assert read_all(journal) == records
    assert len(segments(tmp_path)) == 1
    await journal.append(put(99)).synced
    assert read_all(journal) == [put(99)]
    await journal.close()


async def test_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    for number in range(10):
        await journal.append(put(number)).synced
    batch = journal.read(4)
    assert journal.read(4) == batch, "nothing is taken as applied by reading it"
    journal.applied(batch.end)
    await journal.close()
    again = await opened(tmp_path)
    assert read_all(again) == [put(n) for n in range(4, 10)]
    await again.close()


async def test_an_append_waits_for_the_disk_and_is_grouped(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    done = [journal.append(put(n)).synced for n in range(200)]
    assert not any(future.done() for future in done)
    await asyncio.wait_for(asyncio.gather(*done), 5)
    on_disk = [line for n in segments(tmp_path) for line in read_lines(segment_path(tmp_path, n), n, 0, None)]
    assert [decode(line.body) for line in on_disk] == [put(n) for n in range(200)]
    await journal.close()


KILLED = """
import asyncio, sys
from pathlib import Path
from attpc_plugins.run_history.journal import Journal
from tests.db.test_history_journal import put

async def main():
    journal = Journal(Path(sys.argv[1]), segment_bytes=5000)
    journal.open()
    n = 0
    while True:
        for _ in range(5):
            done = journal.append(put(n)).written
            n += 1
        await done
        print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [3, 40])
async def test_nothing_that_was_answered_is_lost_to_sigkill(tmp_path: Path, lines: int) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(tmp_path), stdout=subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    answered = 0
    for _ in range(lines):
        answered = int(await child.stdout.readline())
    child.kill()
    rest = await child.stdout.read()
    answered = int(rest.split()[-1]) if rest.split() and rest.endswith(b"\n") else answered
    await child.wait()
    journal = await opened(tmp_path)
    found = read_all(journal, 500)
    await journal.close()
    assert found == [put(n) for n in range(len(found))]
    assert len(found) >= answered
    assert not journal.kept_aside()


async def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    await journal.append(put(1)).synced
    await journal.append(put(2)).synced
    await journal.close()
    path = segment_path(tmp_path, segments(tmp_path)[0])
    path.write_bytes(path.read_bytes()[:-20])
    again = await opened(tmp_path)
    await again.append(put(3)).synced
    assert read_all(again) == [put(1), put(3)]
    assert not again.kept_aside()
    await again.close()


async def test_a_damaged_line_is_kept_aside_and_the_rest_replayed(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    for number in range(3):
        await journal.append(put(number)).synced
    await journal.close()
    number = segments(tmp_path)[0]
    path = segment_path(tmp_path, number)
    path.write_bytes(path.read_bytes().replace(b"a value 1", b"a valve 1"))
    again = await opened(tmp_path)
    assert read_all(again) == [put(0), put(2)]
    assert again.kept_aside() == [path.with_suffix(DAMAGED).name]
    assert b"a valve 1" in path.with_suffix(DAMAGED).read_bytes()
    await again.close()


async def test_a_record_with_a_good_checksum_that_is_none_is_kept_aside(tmp_path: Path) -> None:
    segment_path(tmp_path, 1).write_bytes(frame(b'{"v": 1}') + frame(encode(put(1)).encode()))
    journal = await opened(tmp_path)
    assert read_all(journal) == [put(1)]
    assert journal.kept_aside()
    await journal.close()


async def test_records_of_a_newer_program_wait_for_one(tmp_path: Path) -> None:
    body = encode(put(1)).replace('"v":1', '"v":99')
    journal = await opened(tmp_path)
    unknown = decode(body)
    assert isinstance(unknown, UnknownRecord)
    journal.keep_newer([unknown])
    await journal.close()
    for _ in range(2):
        again = await opened(tmp_path)
        assert not (tmp_path / NEWER).exists()
        (found,) = read_all(again)
        assert isinstance(found, UnknownRecord)
        assert encode(found) == body
        again.keep_newer([found])
        await again.close()


async def test_what_the_database_refuses_is_kept_with_the_reason(tmp_path: Path) -> None:
    journal = await opened(tmp_path)
    journal.keep_rejected(put(1), "it is no good\nat all")
    assert journal.kept_aside() == [REJECTED]
    kept = [line.body for line in read_lines(tmp_path / REJECTED, 0, 0, None)]
    assert kept == [encode(put(1)).encode(), b"# it is no good at all"]
    await journal.close()


async def test_a_disk_that_takes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.write_text("in the way")
    told: list[str] = []
    journal = Journal(folder, on_trouble=lambda: told.append(journal.fault), memory_records=3)
    journal.open()
    waiting = journal.append(run(0)).synced
    await wait_until(lambda: journal.fault)
    assert "journal cannot be written" in journal.fault
    for number in range(1, 6):
        journal.append_soon(put(number))
    journal.append_soon(run(9))
    assert journal.refused == 3, "runs always find room"
    assert not waiting.done()
    folder.unlink()
    await asyncio.wait_for(waiting, 5)
    await wait_until(lambda: not journal.in_memory)
    assert not journal.fault
    assert read_all(journal) == [run(0), put(1), put(2), run(9)]
    assert told[0]
    await journal.close()


async def test_a_journal_that_is_full_takes_runs_only(tmp_path: Path) -> None:
    journal = await opened(tmp_path, disk_bytes=2000, segment_bytes=500)
    for number in range(40):
        await journal.append(put(number)).synced
    assert journal.full
    kept = 40 - journal.refused
    assert 5 < kept < 20
    await journal.append(run(77)).synced
    assert read_all(journal) == [*(put(n) for n in range(kept)), run(77)]
    assert not journal.full
    await journal.append(put(78)).synced
    assert read_all(journal) == [put(78)]
    await journal.close()


# ---------------------------------------------------------------- random damage

RECORDS = tuple(
    put(n, text) for n, text in enumerate(("a", "ü\u2028\n\r", "b" * 300, "", "c", "{", "d", "e"))
)
FRAMES = tuple(frame(encode(record).encode()) for record in RECORDS)
STARTS = tuple(sum(len(f) for f in FRAMES[:n]) for n in range(len(FRAMES) + 1))

damages = st.lists(
    st.tuples(
        st.sampled_from(("flip", "cut", "insert", "truncate")),
        st.integers(0, STARTS[-1] - 1),
        st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=4,
)


def damaged(steps: Sequence[tuple[str, int, bytes]]) -> tuple[bytes, set[int]]:
    """Return the damaged segment, and which records nothing has touched."""
    cells: list[tuple[bytes, int]] = [(bytes((byte,)), n) for n, raw in enumerate(FRAMES) for byte in raw]
    touched: set[int] = set()
    for kind, at, raw in steps:
        at = min(at, len(cells))
        hit = cells[at : at + len(raw)]
        if kind == "insert":
            # Between two records it touches neither; inside one it spoils that.
            before = cells[at - 1][1] if at else -1
            after = cells[at][1] if at < len(cells) else -2
            touched |= {before} & {after}
            cells[at:at] = [(bytes((byte,)), -1) for byte in raw]
            continue
        if kind == "truncate":
            hit = cells[at:]
            del cells[at:]
        elif kind == "cut":
            del cells[at : at + len(raw)]
        else:
            cells[at : at + len(raw)] = [
                (bytes((byte[0] ^ (mask or 1),)), n) for (byte, n), mask in zip(hit, raw, strict=False)
            ]
        touched |= {n for _, n in hit}
    return b"".join(byte for byte, _ in cells), set(range(len(RECORDS))) - touched


@settings(max_examples=300, deadline=None)
@given(damages, st.none() | st.binary(max_size=60))
def test_random_damage_loses_only_what_it_touched(
    steps: list[tuple[str, int, bytes]], cursor: bytes | None
) -> None:
    content, whole = damaged(steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        segment_path(folder, 1).write_bytes(content)
        if cursor is not None:
            (folder / "cursor").write_bytes(cursor)

        async def read() -> list[Record]:
            journal = await opened(folder)
            found = read_all(journal)
            await journal.close()
            return found

        found = asyncio.run(read())
    assert [record for record in found if record in RECORDS] == found
    assert {RECORDS.index(record) for record in found if isinstance(record, PutRecord)} >= whole
    assert [r.stamp.seq for r in found] == sorted(r.stamp.seq for r in found)


@given(st.binary(max_size=60))
def test_a_damaged_cursor_means_the_beginning(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "cursor").write_bytes(content)
        assert load_cursor(Path(name)) == Position()


# ---------------------------------------------------------------- numbers


def test_numbers_are_on_disk_before_they_are_given(tmp_path: Path) -> None:
    numbers = HighWater(tmp_path)
    numbers.load()
    assert numbers.at_least("e") == 0
    numbers.use(Reserved("e", 4, "token", 10.0))
    again = HighWater(tmp_path)
    again.load()
    assert again.at_least("e") == 5
    assert again.at_least("other") == 0
    assert again.attempt_of("e", 4, 11.0) == "token"
    again.give_back("e", 3)
    assert again.at_least("e") == 5, "only the last can be given back"
    again.give_back("e", 4)
    assert again.at_least("e") == 4
    again.use(Reserved("e", 4, "second", 20.0))
    assert again.attempt_of("e", 4, 21.0) == "second"
    assert again.attempt_of("e", 4, 12.0) == "token", "a late event is of the start that it belongs to"


@given(st.binary(min_size=1, max_size=80).map(lambda raw: raw.replace(b"\n", b"x")))
def test_damaged_numbers_are_kept_aside_and_the_rest_counts(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        numbers = HighWater(folder)
        numbers.load()
        numbers.use(Reserved("e", 5, "t", 1.0))
        with (folder / "numbers").open("ab") as stream:
            stream.write(content + b"\n")
        again = HighWater(folder)
        again.load()
        assert "damaged" in again.fault
        assert again.at_least("e") == 6
        again.use(Reserved("e", 6, "t", 1.0))
        third = HighWater(folder)
        third.load()
        assert not third.fault
        assert third.at_least("e") == 7
