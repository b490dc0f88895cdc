"""`attpc-ioc` as a process of its own: its lines as they come, its signals and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from tests.support.ca import USR, CaPlace
from tests.support.forked import PIPE, SHELL, STDOUT, Forked, forked
from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S

ATTPC_IOC = Path(sys.executable).parent / "attpc-ioc"
"""The shell command of the environment that the tests run in."""

FORKED = "attpc-ioc, forked"
"""The shell command, as a fork of a process that has imported it: for tests that are not about its start."""


def environment(place: CaPlace, home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables for a program that a person starts: a private corner of Channel Access, a home of its own."""
    # EPICS's programs themselves, before their wrappers, which take some tenths of a second to start.
    path = os.pathsep.join([str(USR / "bin"), str(ATTPC_IOC.parent), os.environ.get("PATH", "")])
    return place.env | {"PATH": path, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")} | (more or {})


async def succeeded(module: str, *arguments: str, limit_s: float) -> str:
    """Run a module of the project to its end; return what it printed once it has ended well."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments), stdout=PIPE, stderr=STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), limit_s)
    text = said.decode("utf-8", "replace")
    assert process.returncode == 0, text
    return text


class Running:
    """A program that runs. `lines` has what it printed so far, stdout and stderr together."""

    def __init__(self, process: asyncio.subprocess.Process | Forked) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = asyncio.Condition()
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    async def until(self, text: str, limit_s: float = PATIENCE_S) -> str:
        """Wait for a line with `text` in it; the error shows what came instead."""
        found: list[str] = []

        def seen() -> bool:
            found[:] = [line for line in self.lines if text in line]
            return bool(found) or self.reader.done()

        try:
            async with asyncio.timeout(limit_s), self._news:
                await self._news.wait_for(seen)
        except TimeoutError:
            found.clear()
        assert found, f"no {text!r} in:\n{self.text}"
        return found[0]

    @property
    def text(self) -> str:
        """All that was printed."""
        return "\n".join(self.lines)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal to its whole group, as a terminal does; return exit code and seconds to the end."""
        async with Stopwatch(self.process.pid, programs=True).looking() as taking:
            os.killpg(self.process.pid, number)
            code = await asyncio.wait_for(self.process.wait(), PATIENCE_S)
            took_s = taking.s
        await self.reader
        return code, took_s

    async def wait(self, limit_s: float = PATIENCE_S) -> int:
        """Wait until it ends by itself; return the exit code."""
        code = await asyncio.wait_for(self.process.wait(), limit_s)
        await self.reader
        return code


@contextlib.asynccontextmanager
async def started(
    *command: str | Path, env: Mapping[str, str], folder: Path, limit_bytes: int = 1 << 20
) -> AsyncIterator[Running]:
    """Run a program in a process group of its own for the length of a block."""
    process: asyncio.subprocess.Process | Forked
    if command[0] == FORKED:
        process = await forked(
            SHELL,
            *command[1:],
            env=env,
            folder=folder,
            stdout=PIPE,
            stderr=STDOUT,
            session=True,
            limit_bytes=limit_bytes,
        )
    else:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=dict(env),
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            limit=limit_bytes,
        )
    running = Running(process)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await running.reader
