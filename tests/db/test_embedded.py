"""The plugin's own PostgreSQL server: made, started, ended, and never mistaken for another."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import psutil
import pytest
from attpc_plugins.run_history.embedded import processes
from attpc_plugins.run_history.embedded.binaries import account_for, find_binaries
from attpc_plugins.run_history.embedded.cluster import environment
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.errors import EmbeddedBusy, EmbeddedError

from tests.support.embedded import Place, gone, running, tell
from tests.support.pace import Stopwatch

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
        taking = Stopwatch(programs=True)
        with running(folder):
            took.append(taking.s)
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
