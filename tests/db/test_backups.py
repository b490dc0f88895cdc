"""What a backup brings back, and what it cannot do: a backup may have been made or changed by anybody."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest
from attpc_plugins.run_history.backups import rows as backup_rows
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.schema.migrate import migrate, migrations

from tests.db.test_db_commands import numbers, ran, refused, settings_file
from tests.support.needs import as_root

LONG = "x" * 400
"""A text of the history, in whose place a hostile backup has something else of the same length."""

FILL = f"""
INSERT INTO attpc.experiments (name, comment, is_current, chosen_at)
    VALUES (E'e1\\\\', E'tab\\t, line\\n\\\\.\\n, \\\\N, ☢', true, now()), ('e2', '', false, null);
DELETE FROM attpc.experiments WHERE name = 'e2';
INSERT INTO attpc.runs (experiment_id, number, state, title) SELECT 1, n, 'reserved', E'\\\\. ' || n
    FROM generate_series(0, 3) n;
INSERT INTO attpc.run_modules (run_id, name, position, transition_s) VALUES (2, 'cobo0', 0, 'infinity');
INSERT INTO attpc.run_links (run_id, module, source, name) VALUES (2, 'cobo0', 'CoBo[0]', 'data0');
INSERT INTO attpc.boots (ioc, boot) VALUES ('T:', 'b');
INSERT INTO attpc.applied_stamps (boot_id, seq) VALUES (1, 7);
INSERT INTO attpc.events (boot_id, seq, run_id, happened_at, kind) VALUES (1, 7, 2, now(), 'started');
INSERT INTO attpc.observables (experiment_id, name, kind, pv) VALUES (1, 'field', 'float', 'B:Field');
INSERT INTO attpc.measurements (run_id, observable_id, number, moment, kind, float_value, measured_at)
    VALUES (2, 1, 1, 'start', 'float', 'NaN', now());
INSERT INTO attpc.log_entries (logged_at, level, text) VALUES (now(), 'info', '{LONG}');
INSERT INTO attpc.run_files (run_id, router, sources, state, told_at)
    VALUES (2, 'r0', '{{"a,b",NULL,""}}', 'Closed', now());
"""


pytestmark = pytest.mark.usefixtures("no_variables")


async def tell(dsn: str, *statements: str) -> list[asyncpg.Record]:
    """Give statements to a database; returns the rows of the last."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetch(statements[-1])
    finally:
        await connection.close()


def dumped(server: EmbeddedServer, dsn: str, file: Path, *words: str) -> bytes:
    """Make a dump of the whole database whose rows are not packed; returns it."""
    program = server.binaries().program("pg_dump")
    subprocess.run([program, "--format=custom", "--compress=0", f"--file={file}", *words, dsn], check=True)
    return file.read_bytes()


@pytest.fixture
async def filled(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(FILL)
    finally:
        await connection.close()
    return dsn


async def tables_of(dsn: str, schema: str) -> dict[str, list[str]]:
    """Every row of every table as text, but for leases and when which migration was applied."""
    names = await tell(
        dsn,
        f"SELECT relname FROM pg_class WHERE relnamespace = '{schema}'::regnamespace "
        "AND relkind = 'r' AND relname NOT IN ('leases', 'schema_migrations')",
    )
    found = {}
    for (name,) in names:
        found[name] = [row[0] for row in await tell(dsn, f"SELECT t::text FROM {schema}.{name} t ORDER BY 1")]
    return found


def test_a_backup_brings_every_row_back(filled: str, place: Path) -> None:
    file = settings_file(place, filled)
    before = asyncio.run(tables_of(filled, "attpc"))
    assert all(before[name] for name in ("run_links", "events", "measurements", "run_files"))
    ran("backup", place / "b", "--settings", file)
    said = ran("restore", place / "b", "--force", "--settings", file).output
    assert asyncio.run(tables_of(filled, "attpc")) == before
    aside = next(word for word in said.split() if word.startswith("attpc_before_"))
    assert asyncio.run(tables_of(filled, aside)) == before
    # An id that was used once, though its row is gone, is not used again.
    made = asyncio.run(tell(filled, "INSERT INTO attpc.experiments (name) VALUES ('e3') RETURNING id"))
    assert made[0][0] == 3


@as_root()
def test_a_backup_of_roots_follows_no_link_that_another_account_laid(filled: str, place: Path) -> None:
    file = settings_file(place, filled)
    theirs, roots = place / "theirs", place / "roots"
    for folder, of in ((theirs, 65534), (roots, 0)):
        folder.mkdir()
        os.chown(folder, of, of)
    (theirs / "b").symlink_to(roots / "b")
    assert "Permission denied" in refused("backup", theirs / "b", "--settings", file)
    assert list(roots.iterdir()) == []
    ran("backup", theirs / "c", "--settings", file)
    there = (theirs / "c").stat()
    assert (there.st_uid, stat.S_IMODE(there.st_mode)) == (0, 0o600)
    assert {path.name for path in theirs.iterdir()} == {"b", "c"}


@pytest.mark.parametrize("when", ["infinity", "20000-01-01", "0044-03-15 BC"])
def test_a_backup_with_a_time_that_no_calendar_has_is_refused(filled: str, place: Path, when: str) -> None:
    file = settings_file(place, filled)
    before = asyncio.run(tables_of(filled, "attpc"))
    change = f"UPDATE attpc.events SET happened_at = '{when}'"
    asyncio.run(tell(filled, change, "SELECT 1"))
    ran("backup", place / "b", "--settings", file)
    asyncio.run(tell(filled, "UPDATE attpc.events SET happened_at = now()", "SELECT 1"))
    said = refused("restore", place / "b", "--force", "--settings", file)
    assert "impossible times (events.happened_at)" in said
    assert {*asyncio.run(tables_of(filled, "attpc"))} == {*before}


def test_a_backup_of_an_older_version_is_brought_up_to_date(empty_dsn: str, place: Path) -> None:
    async def older() -> None:
        connection = await asyncpg.connect(empty_dsn)
        try:
            await migrate(connection, migrations()[:1])
            await connection.execute("INSERT INTO attpc.experiments (name) VALUES ('e1')")
        finally:
            await connection.close()

    asyncio.run(older())
    file = settings_file(place, empty_dsn)
    ran("backup", place / "b", "--settings", file)
    said = ran("restore", place / "b", "--settings", file).output
    assert [f"applied {one.name}" in said for one in migrations()] == [False] + [True] * (
        len(migrations()) - 1
    )
    assert "up to date" in ran("status", "--settings", file).output
    assert asyncio.run(tell(empty_dsn, "SELECT name FROM attpc.experiments"))[0][0] == "e1"


@pytest.mark.parametrize("force", [False, True])
def test_nobody_else_may_read_a_backup_whatever_the_umask(filled: str, place: Path, force: bool) -> None:
    file = settings_file(place, filled)
    if force:
        (place / "b").touch(mode=0o644)
    before = os.umask(0)
    try:
        ran("backup", place / "b", *(("--force",) if force else ()), "--settings", file)
    finally:
        os.umask(before)
    assert stat.S_IMODE((place / "b").stat().st_mode) == 0o600


# --- backups that somebody has made or changed ------------------------------------------------------------

Change = Callable[[bytes, Path], bytes]


def instead(old: str, new: str) -> Change:
    """Put something of the same length in the place of what stands in a dump; `MARK` is a file to be made."""

    def change(whole: bytes, mark: Path) -> bytes:
        text = new.replace("MARK", str(mark))
        assert whole.count(old.encode()) == 1
        assert len(text) <= len(old)
        return whole.replace(old.encode(), text.ljust(len(old)).encode())

    return change


def tells_its_packing(whole: bytes) -> bool:
    """Before PostgreSQL 16 a dump does not."""
    return whole[5:7] >= b"\x01\x0f"


def packing(kind: int) -> Change:
    """Say of rows that are not packed that they are."""

    def change(whole: bytes, mark: Path) -> bytes:
        return whole[:11] + bytes([kind]) + whole[12:]

    return change


PUTS = (
    "COPY attpc.puts (id, put_at, ioc, pv, by_user, host, address, old_value, new_value, ok, reason, "
    "protocol) FROM stdin;"
)
POSITION = "SELECT pg_catalog.setval('attpc.experiments_id_seq', 2, true);"


CHANGES: dict[str, Change] = {
    "shell in rows": instead(LONG, "x\t\\N\n\\.\n\\! touch MARK\n"),
    "copy program in rows": instead(LONG, "x\t\\N\n\\.\nCOPY attpc.boots FROM PROGRAM 'touch MARK';\n"),
    "shell behind a line of ours": instead(LONG, "x\t\\N\n\\.\n\\restrict a\n\\! touch MARK\n"),
    "commands on one line": instead(LONG, "x\t\\N\n\\.\nSET a = b; COPY x FROM PROGRAM 'touch MARK';\n"),
    "a function in rows": instead(
        LONG, "x\t\\N\n\\.\nCREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';\n"
    ),
    "a role in rows": instead(LONG, "x\t\\N\n\\.\nCREATE ROLE attpc_evil SUPERUSER;\n"),
    "alter system in rows": instead(LONG, "x\t\\N\n\\.\nALTER SYSTEM SET work_mem = '1MB';\n"),
    "copy from program": instead(PUTS, "COPY attpc.puts FROM PROGRAM 'touch MARK';"),
    "copy from a file": instead(PUTS, "COPY attpc.puts (pv) FROM '/etc/passwd';"),
    "psql's copy": instead(PUTS, "\\copy attpc.puts from program 'touch MARK'"),
    "rows of another table": instead(PUTS, "COPY attpc.boots (id, ioc, boot) FROM stdin;"),
    "rows of a catalogue": instead(PUTS, "COPY pg_catalog.pg_authid (rolname) FROM stdin;"),
    "a command for a position": instead(POSITION, "DROP SCHEMA attpc CASCADE;"),
    "shell for a position": instead(POSITION, "\\! id"),
    "another encoding": instead("SET client_encoding = 'UTF8';", "SET client_encoding = 'SJIS';"),
    "no packing told": packing(1),
    "a packing that nobody knows": packing(99),
    "text": lambda _, mark: f"\\! touch {mark}\n".encode(),
    "text with the head of a dump": lambda _, mark: f"PGDMP\n\\! touch {mark}\n".encode(),
}


def test_a_backup_runs_nothing(postgres_server: EmbeddedServer, filled: str, place: Path) -> None:
    file, mark, bad = settings_file(place, filled), place / "m", place / "bad"
    before = asyncio.run(tables_of(filled, "attpc"))
    whole = dumped(postgres_server, filled, place / "b", "--schema=attpc")
    ran("restore", place / "b", "--force", "--settings", file)  # it is the change that is refused
    for name, change in CHANGES.items():
        if "packing" in name and not tells_its_packing(whole):
            continue
        bad.write_bytes(change(whole, mark))
        said = refused("restore", bad, "--force", "--settings", file)
        assert str(bad) in said, name
        if b"x\t\\N\n\\." in bad.read_bytes():
            assert "holds a command where rows are expected" in said, name
        assert asyncio.run(tables_of(filled, "attpc")) == before, name
        assert not mark.exists(), name
        assert not asyncio.run(tell(filled, "SELECT FROM pg_roles WHERE rolname = 'attpc_evil'")), name


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE FUNCTION attpc.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "FUNCTION attpc f"),
        ("CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "FUNCTION public f"),
        ("CREATE EXTENSION pg_trgm SCHEMA attpc", "EXTENSION - pg_trgm"),
        ("CREATE VIEW attpc.mine AS SELECT 1 AS one", "VIEW attpc mine"),
        ("CREATE TABLE public.mine (one int)", "TABLE public mine"),
        ("CREATE TABLE attpc.mine (one int)", "mine"),
        ("CREATE RULE r AS ON INSERT TO attpc.puts DO ALSO NOTHING", "RULE attpc puts r"),
        ("CREATE DOMAIN attpc.d AS int CHECK (value > 0)", "DOMAIN attpc d"),
        (
            "CREATE FUNCTION attpc.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';;"
            "CREATE EVENT TRIGGER attpc_e ON ddl_command_start EXECUTE FUNCTION attpc.e()",
            "EVENT TRIGGER - attpc_e",
        ),
        (
            "CREATE FUNCTION attpc.t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';;"
            "CREATE TRIGGER t BEFORE INSERT ON attpc.runs FOR EACH ROW EXECUTE FUNCTION attpc.t()",
            "FUNCTION attpc t",
        ),
    ],
)
def test_what_is_not_of_the_history_is_refused_by_name(
    postgres_server: EmbeddedServer, filled: str, place: Path, statement: str, named: str
) -> None:
    file = settings_file(place, filled)
    before = asyncio.run(tables_of(filled, "attpc"))
    asyncio.run(tell(filled, *statement.split(";;"), "SELECT 1"))
    dumped(postgres_server, filled, place / "b")
    asyncio.run(tell(filled, "DROP EVENT TRIGGER IF EXISTS attpc_e", "SELECT 1"))
    said = refused("restore", place / "b", "--force", "--settings", file)
    assert str(place / "b") in said
    assert named in said
    after = asyncio.run(tables_of(filled, "attpc"))
    assert {name: after[name] for name in before} == before


def test_a_backup_that_will_be_refused_is_reported_when_it_is_made(filled: str, place: Path) -> None:
    file = settings_file(place, filled)
    asyncio.run(tell(filled, "CREATE VIEW attpc.mine AS SELECT 1 AS one", "SELECT 1"))
    said = ran("backup", place / "b", "--settings", file).output
    assert "a restore will refuse this backup" in said
    assert "VIEW attpc mine" in refused("restore", place / "b", "--force", "--settings", file)


def test_a_backup_that_ends_anywhere_is_rolled_back(
    postgres_server: EmbeddedServer, filled: str, place: Path
) -> None:
    file, bad = settings_file(place, filled), place / "bad"
    before = asyncio.run(tables_of(filled, "attpc"))
    whole = dumped(postgres_server, filled, place / "b", "--schema=attpc")
    rows_at = whole.index(LONG.encode())
    for end in (4, 12, 100, rows_at // 2, rows_at - 1, rows_at + 5, rows_at + len(LONG) + 1, len(whole) - 40):
        bad.write_bytes(whole[:end])
        assert str(bad) in refused("restore", bad, "--force", "--settings", file)
    assert asyncio.run(tables_of(filled, "attpc")) == before


def test_a_backup_that_unpacks_without_end_is_refused(
    filled: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settings_file(place, filled)
    asyncio.run(
        tell(
            filled,
            "INSERT INTO attpc.log_entries (logged_at, level, text) "
            "VALUES (now(), 'info', repeat('x', 30000000))",
            "SELECT 1",
        )
    )
    ran("backup", place / "b", "--settings", file)
    monkeypatch.setattr(backup_rows, "SPARE_BYTES", 1000)
    assert "100 times its size" in refused("restore", place / "b", "--force", "--settings", file)
    assert numbers(filled) == {"e1\\": 3}


@pytest.mark.parametrize("text", ["x\t\\N\n\\.\n", ""])
def test_a_line_without_end_is_refused_before_it_is_in_memory(
    postgres_server: EmbeddedServer, filled: str, place: Path, text: str
) -> None:
    file = settings_file(place, filled)
    asyncio.run(tell(filled, "UPDATE attpc.log_entries SET text = repeat('y', 1000000)", "SELECT 1"))
    if not text:
        asyncio.run(
            tell(filled, "UPDATE attpc.schema_migrations SET name = repeat('y', 1000000)", "SELECT 1")
        )
    whole = dumped(postgres_server, filled, place / "b", "--schema=attpc")
    (place / "b").write_bytes(whole.replace(b"y" * 100, text.ljust(100, "y").encode(), 1))
    said = refused("restore", place / "b", "--force", "--settings", file)
    assert ("has a line that no backup has" if text else "it has too many migrations") in said


def test_a_backup_of_a_newer_program_is_refused(filled: str, place: Path) -> None:
    file = settings_file(place, filled)
    asyncio.run(tell(filled, "INSERT INTO attpc.schema_migrations VALUES (999, '0999_new', 'x')", "SELECT 1"))
    ran("backup", place / "b", "--settings", file)
    asyncio.run(tell(filled, "DELETE FROM attpc.schema_migrations WHERE version = 999", "SELECT 1"))
    assert "use a newer attpc-ioc" in refused("restore", place / "b", "--force", "--settings", file)
