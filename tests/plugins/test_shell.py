"""What a plugin's shell command gets: answers of the IOC that runs, or the state that it left."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import TypeAdapter

from attpc_ioc.errors import NotRunning, StateDirBusy, StateDirError
from attpc_ioc.plugin import hookimpl
from attpc_ioc.shell import ask_plugin, open_state
from tests.support.rig import rig

COUNTS = TypeAdapter(int)


class Counter:
    """A plugin that counts what it is asked, over restarts."""

    @hookimpl
    async def attpc_startup(self, ctx):
        self.kept = ctx.kept("counts", COUNTS)
        ctx.answer(self.answer)

    def answer(self, question):
        if question["what"] == "crash":
            raise OSError("no count")
        count = self.kept.values.get(question["what"], 0) + 1
        self.kept.keep(question["what"], count)
        return {"count": count}


async def test_a_command_asks_the_ioc_or_opens_what_it_left(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("counter", Counter())]) as it:

        async def asked(plugin: str, what: str) -> dict:
            return await asyncio.to_thread(ask_plugin, it.settings, plugin, {"what": what})

        assert await asked("counter", "sheep") == {"count": 1}
        assert await asked("counter", "sheep") == {"count": 2}
        with pytest.raises(StateDirError, match="fault of the program: no count"):
            await asked("counter", "crash")
        with pytest.raises(StateDirError, match="plugin counter"):
            await asked("other", "sheep")
        with pytest.raises(StateDirBusy, match="is using it"):
            async with open_state(it.settings, "counter"):
                raise AssertionError
        await it.stop_ioc()
        with pytest.raises(NotRunning, match="is it running"):
            await asked("counter", "sheep")
        async with open_state(it.settings, "counter") as state:
            assert state.folder == tmp_path / "state" / "plugins" / "counter"
            counts = state.kept("counts", COUNTS)
            assert counts.values == {"sheep": 2}
            counts.keep("sheep", 7)
            await state.flush()
        await it.start_ioc()
        assert await asked("counter", "sheep") == {"count": 8}
