"""The short form of the soak over PVAccess."""

from __future__ import annotations

from tests.support.process import succeeded


async def test_healthy_clients_miss_nothing_and_memory_stays_flat_beside_bad_ones() -> None:
    short = ("--seconds", "6", "--clients", "2", "--pvs", "20", "--hz", "20")
    text = await succeeded("benchmarks.pva.soak", *short, limit_s=200)
    assert "healthy clients missed: 0 of" in text
