"""The record of runs: one plugin keeps it, others show it."""

from __future__ import annotations

from attpc_ioc.plugin import hookimpl
from tests.support.probe import covers
from tests.support.rig import rig


class Shows:
    """A plugin that shows runs."""

    @hookimpl
    def attpc_startup(self, ctx):
        self.ctx = ctx


class Keeps:
    """A plugin that has runs."""

    @hookimpl
    def attpc_run_records(self):
        return self

    async def runs(self, which, limit, after=""):
        return [{"number": 1}][:limit], ""

    async def run(self, experiment, number):
        return None

    async def config_changes(self, experiment, number, before):
        return None

    async def edit(self, experiment, number, changes, who):
        return None


class LeavesIt(Keeps):
    """One that leaves it to others."""

    @hookimpl
    def attpc_run_records(self):
        return None


class Wrong:
    @hookimpl
    def attpc_run_records(self):
        return "no record"


class Raises:
    @hookimpl
    def attpc_run_records(self):
        raise RuntimeError("broken")


@covers("attpc_run_records")
async def test_other_plugins_get_the_first_record(tmp_path, monkeypatch):
    shows, keeps = Shows(), Keeps()
    plugins = [("keeps", keeps), ("shows", shows), ("none", LeavesIt())]
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, plugins=plugins):
        assert shows.ctx.run_records is keeps


async def test_without_one_there_is_none(tmp_path, monkeypatch):
    shows = Shows()
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, plugins=[("shows", shows)]):
        assert shows.ctx.run_records is None


@covers("attpc_run_records")
async def test_a_plugin_that_gives_no_record_is_degraded(tmp_path, monkeypatch):
    for name, wrong, words in (
        ("wrong", Wrong(), "not a record of runs"),
        ("raises", Raises(), "failed in attpc_run_records: RuntimeError: broken"),
    ):
        shows = Shows()
        folder = tmp_path / name
        folder.mkdir()
        plugins = [("shows", shows), (name, wrong)]
        async with rig(folder, monkeypatch, cobos=1, mutant=False, plugins=plugins) as it:
            assert shows.ctx.run_records is None
            assert await it.get(f"Plugin:{name}:Status_RBV") == "Degraded"
            assert words in await it.get_text(f"Plugin:{name}:Message_RBV")
