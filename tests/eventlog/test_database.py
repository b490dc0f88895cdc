"""The file `state.db`: what is wrong with it is found and reported, and nothing is lost by looking."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from attpc_ioc.errors import StateDirError
from attpc_ioc.eventlog import EventLog, database, writer
from tests.eventlog.test_log import EVENTS
from tests.support.state_dir import change, make_unwritable, make_writable, opened, query

TEXT = TypeAdapter(str)


async def filled(folder: Path) -> None:
    async with opened(folder) as event_log:
        topic = event_log.kept("a", TEXT)
        for number in range(200):
            topic.keep(str(number), f"{number}" * 50)
            event_log.append(EVENTS[number % len(EVENTS)])


def damaged_page(path: Path) -> None:
    """Write over the second half of each page but the first."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(4096, size, 4096):
            file.seek(page)
            file.write(b"\xa5" * 2048)


def truncated(path: Path) -> None:
    os.truncate(path, 4096 * 3)


def cut_inside_a_page(path: Path) -> None:
    os.truncate(path, 4096 * 3 + 100)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def not_sqlite(path: Path) -> None:
    path.write_text("something else\n" * 500)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE kept (topic TEXT)")
    connection.close()


@pytest.mark.parametrize(
    "spoil",
    [damaged_page, truncated, cut_inside_a_page, emptied, not_sqlite, foreign],
    ids=lambda f: f.__name__,
)
async def test_a_database_that_is_not_good_is_set_aside_and_reported_for_every_topic(tmp_path, spoil):
    await filled(tmp_path)
    path = tmp_path / "state.db"
    before = EventLog(tmp_path)
    before.open()
    identity = before.identity
    await before.close()
    spoil(path)
    content = path.read_bytes()
    for start in range(2):
        async with opened(tmp_path) as event_log:
            (aside,) = tmp_path.glob("state.db.damaged-*[0-9]")
            assert aside.read_bytes() == content
            assert event_log.identity != identity
            topic, other = event_log.kept("a", TEXT), event_log.kept("b", TEXT)
            assert topic.values == {}
            reason = f"{path} is damaged; it is kept as {aside.name}"
            assert (topic.lost, other.lost) == (reason if not start else "", reason)
            # Acknowledged for one topic, for ever; the other is as it was.
            topic.lose("")
            await event_log.flush()


async def test_a_kill_between_setting_aside_and_making_a_new_one_forgets_nothing(tmp_path):
    await filled(tmp_path)
    (tmp_path / "state.db").rename(tmp_path / "state.db.damaged-17")
    (tmp_path / "state.db.part").write_text("half")
    async with opened(tmp_path) as event_log:
        assert "it is kept as state.db.damaged-17" in event_log.kept("a", TEXT).lost


async def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    await filled(tmp_path)
    change(tmp_path, "PRAGMA user_version = 99")
    with pytest.raises(StateDirError, match=r"newer version of attpc-ioc \(its schema is 99"):
        EventLog(tmp_path).open()
    change(tmp_path, "PRAGMA user_version = 1")
    async with opened(tmp_path) as event_log:
        assert len(event_log.kept("a", TEXT).values) == 200


async def test_what_is_not_a_file_is_refused(tmp_path):
    (tmp_path / "elsewhere").write_text("not ours")
    (tmp_path / "state.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateDirError, match="not a regular file"):
        EventLog(tmp_path).open()
    assert (tmp_path / "elsewhere").read_text() == "not ours"
    # The lock was given back.
    (tmp_path / "state.db").unlink()
    async with opened(tmp_path):
        pass


async def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    """The kernel tells which file system a folder is on; what it says of NFS stands in its place."""
    device = tmp_path.stat().st_dev
    line = (
        f"36 35 {os.major(device)}:{os.minor(device)} / /mnt rw,relatime shared:1 - nfs4 server:/export rw\n"
    )
    real = Path.read_text

    def read_text(self: Path, *arguments: object, **options: object) -> str:
        if self == Path("/proc/self/mountinfo"):
            return line
        return real(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)
    with pytest.raises(StateDirError, match=r"is on nfs4: .*set ioc\.state_dir to a folder on one"):
        EventLog(tmp_path).open()


async def test_the_schema_is_versioned(tmp_path):
    async with opened(tmp_path):
        assert query(tmp_path, "PRAGMA user_version") == [(1,)]
        assert query(tmp_path, "PRAGMA application_id") == [(database.APPLICATION_ID,)]
        assert query(tmp_path, "PRAGMA journal_mode") == [("wal",)]


async def test_the_next_schema_is_applied_to_a_database_of_this_one(tmp_path, monkeypatch):
    await filled(tmp_path)
    files = database._schema_files() | {
        2: "ALTER TABLE kept ADD COLUMN more TEXT;\nCREATE TABLE x (y TEXT);\n"
    }
    monkeypatch.setattr(database, "_schema_files", lambda: files)
    async with opened(tmp_path) as event_log:
        assert len(event_log.kept("a", TEXT).values) == 200
        assert query(tmp_path, "PRAGMA user_version") == [(2,)]
    # One that fails changes nothing.
    files[3] = "CREATE TABLE z (y TEXT);\nCREATE TABLE x (y TEXT);\n"
    with pytest.raises(StateDirError, match="table x already exists"):
        EventLog(tmp_path).open()
    del files[3]
    async with opened(tmp_path):
        assert query(tmp_path, "SELECT count(*) FROM sqlite_schema WHERE name = 'z'") == [(0,)]


async def test_a_disk_that_cannot_be_written_loses_nothing_when_it_comes_back(tmp_path):
    folder = tmp_path / "state"
    faults = []
    async with opened(folder) as event_log:
        topic = event_log.kept("a", TEXT)
        event_log.on_fault(lambda: faults.append(event_log.fault))
        make_unwritable(folder)
        topic.keep("k", "old")
        event_log.append(EVENTS[0])
        with pytest.raises(
            StateDirError, match=f"state directory {folder} cannot be written: Not a directory"
        ):
            await event_log.flush()
        topic.keep("k", "new")
        event_log.append(EVENTS[1])
        assert await event_log.committed() is False
        make_writable(folder)
        await event_log.flush()
        assert [bool(fault) for fault in faults] == [True, False]
        assert [event for _, event in await event_log.events(0)] == EVENTS[:2]
        assert query(folder, "SELECT value FROM kept") == [('"new"',)]


async def test_a_full_disk_in_the_middle_of_a_write_loses_nothing(tmp_path):
    """SQLite's own limit on pages: it fails where a disk that is full would."""
    async with opened(tmp_path) as event_log:
        topic = event_log.kept("a", TEXT)
        topic.keep("before", "x")
        await event_log.flush()
        connection = event_log.writer._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        topic.keep("big", "y" * 100_000)
        with pytest.raises(StateDirError, match="database or disk is full"):
            await event_log.flush()
        assert query(tmp_path, "SELECT key FROM kept") == [("before",)]
        connection.execute("PRAGMA max_page_count = 1000000")
        await event_log.flush()
        assert query(tmp_path, "SELECT key FROM kept ORDER BY key") == [("before",), ("big",)]


async def test_a_database_that_was_removed_or_replaced_meanwhile(tmp_path):
    async with opened(tmp_path) as event_log:
        topic = event_log.kept("a", TEXT)
        (tmp_path / "state.db").rename(tmp_path / "away.db")
        topic.keep("k", "x")
        with pytest.raises(StateDirError, match="cannot be written: No such file"):
            await event_log.flush()
        (tmp_path / "state.db").write_bytes((tmp_path / "away.db").read_bytes())
        with pytest.raises(StateDirError, match="its database was replaced by another file"):
            await event_log.flush()
        (tmp_path / "away.db").rename(tmp_path / "state.db")
        await event_log.flush()


async def test_flush_has_a_limit(tmp_path):
    event_log = EventLog(tmp_path)
    event_log.open()  # and nobody writes
    event_log.kept("a", TEXT).keep("k", "x")
    with pytest.raises(StateDirError, match=r"not written within 0\.05 s"):
        await event_log.flush(0.05)
    # What is left is written at the end.
    await event_log.close()
    assert query(tmp_path, "SELECT value FROM kept") == [('"x"',)]


async def test_what_cannot_be_written_at_the_end_is_said(tmp_path, caplog):
    folder = tmp_path / "state"
    async with opened(folder) as event_log:
        event_log.kept("run", TEXT).keep("", "x")
        event_log.append(EVENTS[0])
        make_unwritable(folder)
    (line,) = (r for r in caplog.records if r.getMessage() == "state not written at shutdown")
    keys = getattr(line, "keys")  # noqa: B009
    assert (keys["kept"], keys["events"]) == ("run", 1)


async def test_a_reader_that_holds_the_database_delays_a_write_and_does_not_fail_it(tmp_path):
    async with opened(tmp_path) as event_log:
        await event_log.flush()
        other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        event_log.kept("a", TEXT).keep("k", "x")
        flushing = asyncio.create_task(event_log.flush())
        done, _ = await asyncio.wait((flushing,), timeout=0.2)
        assert not done
        other.execute("ROLLBACK")
        other.close()
        await flushing


async def test_a_slow_disk_is_said_once_and_when_it_is_quick_again(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    async with opened(tmp_path) as event_log:
        topic = event_log.kept("a", TEXT)
        for limit_s in (0.0, 0.0, 60.0, 60.0):
            monkeypatch.setattr(writer, "SLOW_S", limit_s)
            topic.keep("k", "x")
            await event_log.flush()
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("state directory ")]
    assert said == ["state directory slow", "state directory quick again"]


async def test_what_waits_for_a_disk_is_bounded_and_its_loss_is_said(tmp_path, monkeypatch, caplog):
    folder = tmp_path / "state"
    monkeypatch.setattr(writer, "PENDING_MOST", 10)
    async with opened(folder) as event_log:
        topic = event_log.kept("a", TEXT)
        make_unwritable(folder)
        for number in range(25):
            event_log.append(EVENTS[0])
            topic.keep(str(number), "x")
        with pytest.raises(StateDirError):
            await event_log.flush()
        make_writable(folder)
        await event_log.flush()
        # The newest events are there, and all that is kept: of that there is one a key.
        assert [position for position, _ in await event_log.events(0)] == list(range(16, 26))
        assert query(folder, "SELECT count(*) FROM kept") == [(25,)]
    (line,) = (r for r in caplog.records if r.getMessage().startswith("events lost"))
    assert getattr(line, "keys")["events"] == 15  # noqa: B009


async def test_the_state_is_written_whatever_hangs_in_the_threads_that_all_share(tmp_path):
    release = threading.Event()
    hanging = [asyncio.create_task(asyncio.to_thread(release.wait)) for _ in range(100)]
    try:
        async with opened(tmp_path) as event_log:
            event_log.kept("a", TEXT).keep("k", "x")
            await event_log.flush()
    finally:
        release.set()
        await asyncio.gather(*hanging)
