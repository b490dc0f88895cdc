"""The IOC is killed at random moments of closing, again and again, and it ends the same."""

from __future__ import annotations

import random

import pytest

from tests.support.close_kill import close_and_kill

KILLS = {"local": 50, "ssh": 25}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["local", "ssh"])
async def test_killed_at_any_moment_and_repeated_it_ends_the_same(way, request, tmp_path):
    server = request.getfixturevalue("shared_sshd") if way == "ssh" else None
    seen = await close_and_kill(tmp_path, KILLS[way], random.Random(20009), server)
    assert len(seen.stages) > 1, f"it was never killed while working: {seen.stages}"
