"""A plugin with clients of its own reads, watches and writes every PV, by the rules that all clients have."""

from __future__ import annotations

import asyncio

import pytest

from attpc_ioc.errors import PutFailed
from attpc_ioc.model.command import CommandName, ScopeKind, Who
from attpc_ioc.model.states import Severity, State
from attpc_ioc.plugin import hookimpl
from attpc_ioc.pvs.row import Record, Row
from tests.access.rules_file import ME, MY_HOST
from tests.support.rig import rig

SHIFT = Who("shift", "127.0.0.9", "127.0.0.9:40000", via="web")
AWAY = Who("shift", "127.0.0.8", "127.0.0.8:40000", via="web")
GUEST = Who("guest", "127.0.0.9", "127.0.0.9:40001", via="web")
RULES = f"""
UAG(shift) {{ shift, "{ME}" }}
HAG(desks) {{ 127.0.0.9, "{MY_HOST}" }}
ASG(DEFAULT) {{ RULE(1, READ) }}
ASG(OPERATOR) {{ RULE(1, READ) RULE(1, WRITE) {{ UAG(shift) HAG(desks) }} }}
ASG(EXPERT) {{ RULE(1, READ) }}
"""


class Page:
    """A plugin that has clients of its own."""

    @hookimpl
    def attpc_pvs(self):
        yield Row("Gain_RBV", ScopeKind.SOURCE, Record.LONGIN, "Gain of a board", initial=7)

    @hookimpl
    def attpc_veto(self, command_name):
        return "the page says no" if command_name is CommandName.START else None

    @hookimpl
    def attpc_startup(self, ctx):
        self.ctx = ctx


async def test_it_reads_and_is_told_of_every_pv(tmp_path, monkeypatch):
    page = Page()
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, plugins=[("page", page)]) as it:
        pvs = page.ctx.pvs
        assert list(pvs.table) == [entry.name for entry in it.app.table]
        assert f"{it.prefix}CoBo0:Gain_RBV" in pvs.table
        state = f"{it.prefix}Ecc:cobo0:State_RBV"
        told: list[str] = []
        end = pvs.watch(told.append)
        await it.select()
        await it.ok("Ecc:cobo0:Describe")
        assert state in told
        shown = pvs.read(state)
        assert (shown.value, shown.severity) == (State.DESCRIBED, Severity.NO_ALARM)
        assert pvs.table[state].row.labels[shown.value] == await it.get("Ecc:cobo0:State_RBV")
        assert pvs.read(f"{it.prefix}Run:Checklist_RBV").time_s > 0
        end()
        told.clear()
        await it.ok("Ecc:cobo0:Undo")
        assert pvs.read(state).value == State.IDLE
        assert told == []
        for name in ("State_RBV", f"{it.prefix}Nothing"):
            with pytest.raises(KeyError):
                pvs.read(name)
            with pytest.raises(KeyError):
                await pvs.put(name, 1, SHIFT)


async def test_its_puts_are_those_of_its_clients(tmp_path, monkeypatch):
    (tmp_path / "rules.acf").write_text(RULES)
    page = Page()
    access = f'file = "{tmp_path / "rules.acf"}"'
    async with rig(
        tmp_path, monkeypatch, cobos=1, mutant=False, plugins=[("page", page)], access=access
    ) as it:
        pvs = page.ctx.pvs

        async def put(part: str, value: float | str, who: Who = SHIFT) -> PutFailed | None:
            try:
                await pvs.put(it.prefix + part, value, who)
            except PutFailed as error:
                return error
            return None

        assert pvs.may_write(f"{it.prefix}Run:Title", SHIFT)
        for who in (GUEST, AWAY):
            assert not pvs.may_write(f"{it.prefix}Run:Title", who)
        assert not pvs.may_write(f"{it.prefix}Run:State_RBV", SHIFT)
        assert pvs.may_read(f"{it.prefix}Run:Title", GUEST)
        for part in ("Run:Title", "Run:Start"):
            error = await put(part, 1, GUEST)
            assert error is not None
            assert error.refused
            assert "no write access" in str(error)
        assert await put("Run:Title", "from the page ä") is None
        assert await it.get_text("Run:Title") == "from the page ä"
        error = await put("Run:MaxDuration", -1)
        assert error is not None
        assert "below the limit 0" in error.reasons[0]
        error = await put("GoTo", "Nowhere")
        assert error is not None
        assert "'Nowhere' is not one of" in error.reasons[0]

        error = await put("Run:Start", 1)
        assert error is not None
        assert error.refused
        assert error.reasons == it.run.checklist  # each by itself
        assert len(error.reasons) > 1
        assert await it.get_text("Run:Message_RBV") == str(error)

        await it.select()
        assert await put("GoTo", "Ready") is None
        assert it.module("cobo0").state is State.READY


@pytest.mark.parametrize("waits", [True, False])
async def test_a_put_goes_on_when_nobody_waits(tmp_path, monkeypatch, waits):
    page = Page()
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, plugins=[("page", page)]) as it:
        await it.select()
        put = asyncio.ensure_future(page.ctx.pvs.put(f"{it.prefix}GoTo", "Ready", SHIFT))
        await it.until(lambda: it.snapshot.active)
        if not waits:
            put.cancel()
        await it.until_all(State.READY)
        await it.until(lambda: not it.snapshot.active)
        await asyncio.wait((put,))
        assert put.cancelled() is not waits
        await page.ctx.flush()
        events = [event for _, event in await page.ctx.events(0) if getattr(event, "pv", "").endswith("GoTo")]
        assert [(event.ok, event.who, event.who.via) for event in events] == [(True, SHIFT, "web")]
