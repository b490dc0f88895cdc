"""The short form of the soak over PVAccess."""

from __future__ import annotations

import asyncio
import sys


async def test_healthy_clients_miss_nothing_and_memory_stays_flat_beside_bad_ones() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.pva.soak", "--seconds", "6"),
        *("--clients", "2", "--pvs", "20", "--hz", "20"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 200)
    text = said.decode("utf-8", "replace")
    assert process.returncode == 0, text
    assert "healthy clients missed: 0 of" in text
