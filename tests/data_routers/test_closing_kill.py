"""Who closes runs is killed at random moments, an IOC or a command, again and again, and it ends the same."""

from __future__ import annotations

import random

import pytest

from tests.support.close_kill import close_and_kill
from tests.support.closing_grid import WAYS

KILLS = {"folder": 15, "ssh": 6, "sshd": 8, "sentry": 8}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", WAYS)
async def test_killed_at_any_moment_and_repeated_it_ends_the_same(way, request, tmp_path):
    server = request.getfixturevalue("shared_sshd") if way == "sshd" else None
    seen = await close_and_kill(tmp_path, KILLS[way], random.Random(), way, server)
    assert len(seen.stages) > 1, f"it was never killed while working: {seen.stages}"
