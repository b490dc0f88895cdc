"""The programs of the page on Bluesky, exactly as they are there but for the prefix."""

from __future__ import annotations

import os
import re
import sys

import pytest

from attpc_ioc.model.run import RunState
from tests.bluesky.test_detector import CALM
from tests.support.data_rig import data_rig
from tests.support.pages import commands, files
from tests.support.process import started

PAGE = "docs/how-to/bluesky.md"


@pytest.mark.slow
async def test_what_the_page_shows_works(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **CALM) as it:
        for name, text in files(PAGE).items():
            (tmp_path / name).write_text(text.replace("DEMO:", it.prefix))
        await it.select()

        async def python(name: str) -> list[str]:
            (line,) = commands(PAGE, name)
            program, *args = line.split()
            assert program == "python"
            env = {**os.environ, **it.place.env}
            async with started(sys.executable, *args, env=env, folder=tmp_path) as plan:
                assert await plan.wait(120) == 0, plan.text
            return plan.lines

        shown = await python("scan")
        took = re.findall(r"^run (\d+) took (\d+\.\d*) s$", "\n".join(shown), re.MULTILINE)
        assert [number for number, _ in took] == ["0", "1", "2"]
        assert all(float(seconds) >= 2.0 for _, seconds in took)
        assert len([line for line in shown if line.startswith("   file://")]) >= 3 * 5
        shown = await python("stubs")
        assert it.run.number == 4
        assert (shown[0], shown[-1]) == ("start", "stop")
        assert shown.count("event") == 1 + 3 + 1
        assert "stream_datum" in shown
        assert it.run.state is RunState.STOPPED
