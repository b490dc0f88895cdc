"""Programs beside a test that are asked line by line, and what a process takes of time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from tests.support.patience import PATIENCE_S


class Child:
    """A program of the tests that answers each line on stdin with one on stdout."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> str:
        """Wait for the next line."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        assert line, "it ended"
        return line.decode().strip()

    async def ask(self, line: str) -> str:
        """Send a line and wait for what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        return await self.answer()


@contextlib.asynccontextmanager
async def child(module: str, *arguments: str, env: dict[str, str]) -> AsyncIterator[Child]:
    """Run a module that says `ready` first, for the length of a block."""
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments), env=env, stdin=pipe, stdout=pipe, stderr=nowhere
    )
    it = Child(process)
    try:
        assert await it.answer() == "ready"
        yield it
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def answer_lines(answer: Callable[[str], object]) -> None:
    """Be such a program: say `ready`, and print what `answer` returns for each line until stdin ends."""
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := await lines.readline():
        print(answer(line.decode().strip()), flush=True)


def peak_kb(pid: int) -> int:
    """The most memory that a process had since `forget_peak`."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def high(times_ms: list[float]) -> float:
    """The ninth decile: this machine itself holds a process up now and then."""
    return statistics.quantiles(times_ms, n=10)[-1]


ROUNDS = 10
"""Round trips that are measured at a time."""

TRIES = 3


async def echo_ms(way: str, hostile: Child, echo: Child, most_ms: float, command: str = "") -> float:
    """How long round trips take while a hostile peer answers in this way, at least one call.

    Where it is longer than `most_ms` it is measured again: it may have been the machine. `command` is what
    `tests.security.echo` puts to before each time.
    """
    tries_ms: list[float] = []
    while not tries_ms or (min(tries_ms) > most_ms and len(tries_ms) < TRIES):
        tries_ms.append(await _echo_ms(way, hostile, echo, command))
    return min(tries_ms)


async def _echo_ms(way: str, hostile: Child, echo: Child, command: str, limit_s: float = PATIENCE_S) -> float:
    await hostile.ask(way)
    times_ms: list[float] = []
    end_s = time.monotonic() + limit_s
    while True:
        times_ms += json.loads(await echo.ask(f"{ROUNDS} {command}"))
        if int(await hostile.ask(way)) and len(times_ms) >= 2 * ROUNDS:
            return high(times_ms)
        assert time.monotonic() < end_s, f"nobody asked the peer that answers with {way}"
