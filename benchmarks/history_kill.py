"""Kills IOC, database or both at 200 random moments during runs, and checks the state afterwards.

    python -m benchmarks.history_kill [kills] [seed]

Runs a simulated fleet, the IOC with the run history and its embedded database, and clients that put titles
and start and stop runs continuously; the exit code is not 0 if anything was lost or invented.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.support.history_kill import Torture
from tests.support.rig import rig


async def main(kills: int, seed: int, folder: Path) -> None:
    """Kill this many times, check, and print the result."""
    monkeypatch = pytest.MonkeyPatch()
    began_s = time.monotonic()
    try:
        section = {"plugins.run_history": f'data_dir = "{folder / "db"}"'}
        async with rig(folder, monkeypatch, start=False, **section) as it:
            torture = Torture(it, folder / "db", random.Random(seed))
            try:
                await torture.prepare()
                await torture.run(kills)
                print(await torture.check())
                print(f"seed {seed}, {time.monotonic() - began_s:.0f} s")
            finally:
                await torture.close()
    finally:
        monkeypatch.undo()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    # A folder that any account may pass, because the database is no server of root's.
    place = Path(tempfile.mkdtemp(prefix="attpc-kill-"))
    place.chmod(0o711)
    asyncio.run(main(count, int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9), place))
    shutil.rmtree(place)
