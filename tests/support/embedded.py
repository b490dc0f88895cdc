"""The plugin's own PostgreSQL server for tests: in this process, and in another that stands for an IOC."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
from attpc_plugins.run_history.embedded.server import EmbeddedServer

from tests.support.postgres import url_of

Place = Callable[[], Path]


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
        from attpc_plugins.run_history.embedded.server import EmbeddedServer, ROLE, DATABASE
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
from attpc_plugins.run_history.embedded.server import EmbeddedServer
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
    """Wait until a process has ended; one that nobody has asked for its exit code yet has ended too."""
    end_s = time.monotonic() + 10
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < end_s, f"{process} goes on"
            time.sleep(0.01)
