"""The short form of the soak in which every kind of peer is hostile at once."""

from __future__ import annotations

import pytest

from tests.support.process import succeeded


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nobody_else_notices_hostile_peers_of_every_kind_at_once() -> None:
    # How long round trips take is judged peer by peer; here everything else is on the same cores.
    short = ("--seconds", "12", "--lines", "4", "--echo-ms", "1000")
    text = await succeeded("benchmarks.hostile_soak", *short, limit_s=280)
    assert ", missed 0;" in text
