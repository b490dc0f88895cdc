"""The commands of the page on clients over PVAccess, given to an IOC."""

from __future__ import annotations

import shlex
from importlib.util import find_spec

import pytest

from tests.support.ca import run
from tests.support.data_rig import data_rig
from tests.support.pages import commands

PAGE = "docs/how-to/pvaccess.md"


@pytest.mark.skipif(not find_spec("p4p"), reason="p4p has no package for this platform")
async def test_what_the_page_shows_works(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch) as it:
        await it.until(lambda: all(module.offered is not None for module in it.snapshot.modules.values()))
        assert (await it.put("Config", "e20009")).code == 0
        printed = []
        for line in commands(PAGE, "pvaccess"):
            ran = await run(it.place, *shlex.split(line.replace("DEMO:", it.prefix)))
            assert ran.code == 0, ran.both
            printed.append(ran.out)
        state, fleet, _ = printed
        assert "Stopped" in state
        assert "cobo0" in fleet
        assert set(it.states().values()) == {"Ready"}
