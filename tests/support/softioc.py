"""EPICS base's `softIoc` as somebody else's IOC: a source of PVs on its own port of loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.ca import LOOPBACK, CaPlace, Ran, ca_place, caget, caput, program
from tests.support.patience import PATIENCE_S


@dataclass
class SoftIoc:
    """A running `softIoc`; `restart` gives it other records, `stop` ends it."""

    place: CaPlace
    folder: Path
    _process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        """What `EPICS_CA_ADDR_LIST` must have for its PVs to be found."""
        return f"{LOOPBACK}:{self.place.port}"

    async def start(self, records: str) -> None:
        """Run it with these records and wait until it answers."""
        file = self.folder / "records.db"
        first = 'record(longin, "SOFT:IS:UP") { field(VAL,"1") }\n'
        file.write_text(first + records, encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            program("softIoc"),
            "-S",
            "-d",
            str(file),
            env=self.place.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert (await caget(self.place, "-w", "10", "SOFT:IS:UP", limit_s=15)).code == 0

    async def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def restart(self, records: str) -> None:
        """End it and run it with other records."""
        await self.stop()
        await self.start(records)

    async def put(self, pv: str, value: str) -> Ran:
        """Put to one of its PVs."""
        return await caput(self.place, "-w", str(PATIENCE_S), pv, value)

    @property
    def pid(self) -> int:
        """The number of its process."""
        assert self._process is not None
        return self._process.pid


@contextlib.asynccontextmanager
async def soft_ioc(folder: Path, records: str) -> AsyncIterator[SoftIoc]:
    """Run a `softIoc` for the length of a block."""
    place = ca_place()
    ioc = SoftIoc(place, folder)
    try:
        await ioc.start(records)
        yield ioc
    finally:
        await ioc.stop()
        place.close()
