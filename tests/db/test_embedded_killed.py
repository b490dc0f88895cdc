"""The plugin's own PostgreSQL server: killed, or left by an IOC that was, and found again."""

from __future__ import annotations

import contextlib
import os
import signal
import textwrap
import time

import psutil
import pytest
from attpc_plugins.run_history.embedded import server as embedded

from tests.support.embedded import Place, gone, killed_after, other_ioc, running, tell


async def test_the_server_killed_is_started_again(postgres_place: Place) -> None:
    with running(postgres_place()) as server:
        await tell(server, "CREATE TABLE kept AS SELECT 7 AS number")
        pid = server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        gone(pid)
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
