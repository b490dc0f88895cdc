"""The programs and queries of the page on HTTP, exactly as they are there but for prefix and address."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import asyncpg
import pytest
from attpc_plugins.web.tokens import Role

from attpc_ioc.model.run import RunState
from tests.support.history import NAME, connected, drained, given_plugins
from tests.support.needs import needs
from tests.support.pages import commands, files
from tests.support.process import started
from tests.support.web import web_rig

PAGE = "docs/how-to/http-api.md"
WAIT_S = 120.0


@pytest.mark.slow
@needs("curl")
async def test_what_the_page_shows_works(tmp_path, monkeypatch, dsn):
    section = {f"plugins.{NAME}": f'dsn = "{dsn}"'}
    async with web_rig(tmp_path, monkeypatch, plugins=given_plugins(), alone=False, **section) as it:
        await connected(it.rig)
        await it.rig.select()
        for name, text in files(PAGE).items():
            (tmp_path / name).write_text(text.replace("DEMO:", it.rig.prefix))
        env = {**os.environ, "ATTPC_URL": it.url, "ATTPC_TOKEN": it.token("script", Role.OPERATOR)}

        (line,) = commands(PAGE, "python")
        program, *args = line.split()
        assert program == "python"
        async with started(sys.executable, *args, env=env, folder=tmp_path) as run:
            await it.rig.until_run(RunState.RUNNING)
            async with started(sys.executable, "watch_run.py", env=env, folder=tmp_path) as watch:
                assert await run.wait(WAIT_S) == 0, run.text
                assert await watch.wait(WAIT_S) == 0, watch.text
        assert run.lines == ["run 0 is over"]
        assert [line.split()[1] for line in watch.lines][0 :: len(watch.lines) - 1] == ["Running", "Stopped"]
        await drained(it.rig)

        shown = []
        for line in commands(PAGE, "shell"):
            script = line.replace("DEMO:", it.rig.prefix)
            async with started("sh", "-c", script, env=env, folder=tmp_path) as shell:
                assert await shell.wait(WAIT_S) == 0, shell.text
            shown.append(shell.text)
        assert json.loads(shown[0])["label"] == "Stopped"
        assert json.loads(shown[1])["value"] == "from the shell"
        assert shown[2].splitlines()[1].split(",")[:2] == ["unnamed", "0"]
        assert json.loads(shown[3])["next"] is None

        denied = {**env, "ATTPC_TOKEN": it.token("vera", Role.VIEWER)}
        async with started(sys.executable, *args, env=denied, folder=tmp_path) as run:
            assert await run.wait(WAIT_S) == 1
        assert "vera is viewer" in run.text

        connection = await asyncpg.connect(dsn)
        try:
            for name, columns in (
                ("annotations", ["time", "timeend", "text", "tags"]),
                ("hours", ["time", "metric", "hours"]),
                ("bad", ["time", "experiment", "number"]),
            ):
                text = "\n".join(commands(PAGE, name)).replace("$__timeFilter(r.started_at)", "true")
                rows = await asyncio.wait_for(connection.fetch(text), WAIT_S)
                assert rows or name == "bad", name
                if rows:
                    assert list(rows[0].keys())[: len(columns)] == columns
        finally:
            await connection.close()
