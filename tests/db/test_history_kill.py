"""SIGKILL of IOC, database or both at random moments over runs under way: nothing lost, nothing invented."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.history_kill import Torture
from tests.support.rig import rig
from tests.support.thorough import examples

KILLS = examples(5, 20)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_killed_at_random_moments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    data = postgres_place()
    seed = random.randrange(10**9)
    section = {"plugins.run_history": f'data_dir = "{data}"'}
    async with rig(tmp_path, monkeypatch, start=False, **section) as it:
        torture = Torture(it, data, random.Random(seed))
        try:
            await torture.prepare()
            await torture.run(KILLS)
            print(f"seed {seed}:", await torture.check())
        finally:
            await torture.close()
