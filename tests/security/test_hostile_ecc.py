"""One hostile ECC server of eleven: clients of the IOC, its memory and its other modules do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ca import free_port
from tests.support.iocprocess import IocProcess, ioc_process
from tests.support.rig import rig

from .hostile import all_ways

VICTIM = "cobo10"
POLL = "moving_period_s = 0.02\nquiet_period_s = 0.1\ntimeout_s = 0.5\nbackoff_max_s = 0.5"
MOST_ECHO_MS = 50.0
MOST_MORE_KB = 32 * 1024
ROUNDS = 20


class Child:
    """A program of these tests that answers each line on stdin with one on stdout."""

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
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"tests.security.{module}",
        *arguments,
        env=env,
        stdin=pipe,
        stdout=pipe,
        stderr=nowhere,
    )
    it = Child(process)
    try:
        assert await it.answer() == "ready"
        yield it
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def peak_kb(pid: int) -> int:
    """The most memory that a process had since `forget_peak`."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def high(times_ms: list[float]) -> float:
    """The ninth decile: this machine itself holds a process up now and then."""
    return statistics.quantiles(times_ms, n=10)[-1]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nobody_else_notices_a_hostile_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        rig(tmp_path, monkeypatch, cobos=11, mutant=False, start=False, poll=POLL) as it,
        contextlib.AsyncExitStack() as stack,
    ):
        port = free_port()
        text = it.settings_file.read_text().replace(f"port = {it.fleet[VICTIM].port}\n", f"port = {port}\n")
        it.settings_file.write_text(text)
        hostile = await stack.enter_async_context(child("hostile", str(port), env=it.place.env))
        ioc = await stack.enter_async_context(ioc_process(it))
        names = [f"{it.prefix}{name}" for name in ("Ecc:cobo0:State_RBV", f"Ecc:{VICTIM}:RefreshConfigs")]
        echo = await stack.enter_async_context(child("echo", *names, env=it.place.env))
        await ioc.shows(f"Ecc:{VICTIM}:State_RBV", "Idle", 20)
        usual = high(json.loads(await echo.ask("200")))
        forget_peak(ioc.pid)
        before_kb = peak_kb(ioc.pid)
        slow, large = {}, {}
        for way in all_ways():
            took_ms = high(await measured(way, hostile, echo))
            if took_ms > max(MOST_ECHO_MS, 3 * usual):
                # Once more, in case it was the machine.
                took_ms = min(took_ms, high(await measured(way, hostile, echo)))
            if took_ms > max(MOST_ECHO_MS, 3 * usual):
                slow[way] = round(took_ms)
            if (more_kb := peak_kb(ioc.pid) - before_kb) > MOST_MORE_KB:
                large[way] = more_kb
        assert (slow, large) == ({}, {}), f"usual {usual:.1f} ms, {before_kb} kB"
        await hostile.ask("ALL:good")
        await ioc.shows(f"Ecc:{VICTIM}:State_RBV", "Idle", 20)
        assert_others_undisturbed(ioc)


async def measured(way: str, hostile: Child, echo: Child) -> list[float]:
    """Times of round trips while the server answers in this way, at least one call."""
    await hostile.ask(way)
    times_ms: list[float] = []
    async with asyncio.timeout(20):
        while True:
            times_ms += json.loads(await echo.ask(str(-ROUNDS if way.startswith("REST:") else ROUNDS)))
            if int(await hostile.ask(way)) and len(times_ms) >= 2 * ROUNDS:
                return times_ms


def assert_others_undisturbed(ioc: IocProcess) -> None:
    lost = [line for line in ioc.log if "lost" in line and f"module={VICTIM}" not in line]
    assert lost == []
    assert not [line for line in ioc.log if "Traceback" in line or "unexpectedly" in line]
    assert max(map(len, ioc.log)) < 20_000
