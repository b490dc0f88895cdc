"""Kills the program that closes runs at 200 random moments, half of them over a real SSH server on loopback.

    python -m benchmarks.close_kill [kills] [seed]

After each kill every byte must exist once, and in the end only in the folder of its run;
otherwise the exit code is not 0.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.support.close_kill import close_and_kill
from tests.support.sshd import sshd_server


async def main(kills: int, seed: int, folder: Path) -> None:
    """Kill this many times, check, and print the result."""
    rng = random.Random(seed)
    with sshd_server(folder / "sshd") as server:
        for way, ssh in (("folder", None), ("sshd", server)):
            began_s = time.monotonic()
            place = folder / way
            place.mkdir()
            seen = await close_and_kill(place, kills // 2, rng, way, ssh)
            print(
                f"{way}: {seen.kills} kills over {seen.runs} runs, files found in {len(seen.stages)} stages, "
                f"no byte lost or doubled; seed {seed}, {time.monotonic() - began_s:.0f} s"
            )


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    dice = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(10**9)
    with tempfile.TemporaryDirectory(prefix="attpc-close-") as name:
        asyncio.run(main(count, dice, Path(name)))
