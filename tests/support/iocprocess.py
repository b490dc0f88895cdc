"""The IOC as a process of its own, to be killed at any moment and started again."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Sequence

from tests.support.ca import eventually
from tests.support.forked import PIPE, SHELL, Forked, forked
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig


class IocProcess:
    """`attpc-ioc run FILE` of a rig's settings; the rig's fleet goes on in the test's process.

    `program` is the module to run instead, with what it is given before the file.
    """

    def __init__(self, it: Rig, program: Sequence[str] = (SHELL, "run")) -> None:
        self.it = it
        self._program = program
        self.log: list[str] = []
        self._process: Forked | None = None
        self._reader: asyncio.Task[None] | None = None
        self.polls_before: dict[str, int] = {}

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self, *, wait: bool = True) -> None:
        """Start it (again); with `wait`, until Channel Access answers."""
        self.log = []
        self._process = await forked(
            *self._program, self.it.settings_file, env=self.it.place.env, stderr=PIPE
        )
        self._reader = asyncio.create_task(self._read(), name="log of the IOC")
        if wait:
            await self.until_logged("event=serving", 30.0)

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.log.append(line.decode("utf-8", "replace").rstrip("\n"))

    async def until_logged(self, text: str, limit_s: float = PATIENCE_S) -> None:
        """Wait for a line of the log with `text` in it."""
        try:
            await eventually(lambda: any(text in line for line in self.log), text, limit_s)
        except TimeoutError as error:
            raise AssertionError(f"{error}; log: {self.log[-10:]}") from None

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM, and wait; returns the exit code."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> int:
        process, reader = self._process, self._reader
        assert process is not None
        assert reader is not None
        if process.returncode is None:
            process.send_signal(number)
        code = await process.wait()
        await reader
        return code

    async def close(self) -> None:
        """End it, however it is."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    # ------------------------------------------------------------------ what its clients see

    async def shows(self, name: str, value: str, limit_s: float = PATIENCE_S) -> None:
        """Wait until a PV, a long text too, has a value."""
        seen: list[str] = []

        async def shown() -> bool:
            seen.append(await self.it.get_text(name))
            return seen[-1] == value

        try:
            await eventually(shown, f"{name} {value}", limit_s)
        except TimeoutError as error:
            tail = "\n".join(self.log[-12:])
            raise AssertionError(f"{error}; seen {list(dict.fromkeys(seen))}; log:\n{tail}") from None

    async def number(self) -> tuple[int, int]:
        """The number of the current or last run, and the next."""
        both = (await self.it.get("Run:Number_RBV"), await self.it.get("Run:NextNumber_RBV"))
        return int(both[0]), int(both[1])


@contextlib.asynccontextmanager
async def ioc_process(it: Rig, program: Sequence[str] = (SHELL, "run")) -> AsyncIterator[IocProcess]:
    """Run the IOC of a rig, made with `start=False`, as a process for the length of a block."""
    ioc = IocProcess(it, program)
    try:
        await ioc.start()
        yield ioc
    finally:
        await ioc.close()
