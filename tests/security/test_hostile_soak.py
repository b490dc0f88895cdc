"""The short form of the soak in which every kind of peer is hostile at once."""

from __future__ import annotations

import asyncio
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nobody_else_notices_hostile_peers_of_every_kind_at_once() -> None:
    # How long round trips take is judged peer by peer; here everything else is on the same cores.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.hostile_soak", "--seconds", "12", "--lines", "4"),
        *("--echo-ms", "1000"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 280)
    text = said.decode("utf-8", "replace")
    assert process.returncode == 0, text
    assert ", missed 0;" in text
