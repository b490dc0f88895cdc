"""A plugin's own settings, PVs, tasks, commands and shell commands."""

from __future__ import annotations

import asyncio

import pytest
import typer
from pydantic import BaseModel, ConfigDict
from typer.testing import CliRunner

from attpc_ioc.errors import Refused
from attpc_ioc.model.command import SYSTEM, Command, CommandName, ResultCode, ScopeKind
from attpc_ioc.model.states import Severity, State
from attpc_ioc.plugin import context, hookimpl
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.pvs.row import Limits, Record, Row
from tests.support.probe import covers
from tests.support.rig import rig


class Valve:
    """A plugin with everything of its own."""

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        limit_mbar: float = 100.0

    def __init__(self) -> None:
        self.ctx = None
        self.crashes = asyncio.Queue()
        self.asked_by = ""

    @hookimpl
    def attpc_settings(self):
        return self.Settings

    @hookimpl
    def attpc_pvs(self, settings):
        yield Row(
            "Pressure",
            ScopeKind.PLUGIN,
            Record.AO,
            "Pressure that is wanted",
            units="mbar",
            limits=Limits(drvl=0, drvh=settings.limit_mbar, high=50),
            setpoint="pressure",
            initial=0.0,
        )
        yield Row("Open_RBV", ScopeKind.PLUGIN, Record.BI, "Valve", labels=("Shut", "Open"), initial=0)
        yield Row("Gain_RBV", ScopeKind.SOURCE, Record.LONGIN, "Gain of a board", initial=7)

    @hookimpl
    async def attpc_startup(self, ctx):
        self.ctx = ctx

    @hookimpl
    async def attpc_write(self, ctx, pv, value, who):
        self.asked_by = who.user
        if value == 13:
            raise Refused("13 mbar is bad luck")
        if value == 14:
            raise OSError("no answer from the valve")
        ctx.publish(pv, value)
        ctx.publish("Plugin:valve:Open_RBV", int(value > 0), Severity.MINOR if value > 90 else None)


@covers("attpc_pvs", "attpc_write", "attpc_settings")
async def test_own_pvs_are_served_written_and_published(tmp_path, monkeypatch):
    valve = Valve()
    section = {"plugins.valve": "limit_mbar = 95.0"}
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("valve", valve)], **section) as it:
        name = "Plugin:valve:Pressure"
        assert await it.get("CoBo0:Gain_RBV") == "7"
        assert await it.get(f"{name}.EGU") == "mbar"
        await it.ok(name, "20")
        assert await it.get(name) == "20"
        assert await it.get("Plugin:valve:Open_RBV") == "Open"
        assert valve.asked_by
        await it.ok(name, "94")
        assert await it.severity("Plugin:valve:Open_RBV") == "MINOR"
        assert await it.severity(name) == "MINOR"  # its own HIGH limit
        await it.ok(name, "30")
        assert await it.severity("Plugin:valve:Open_RBV") == "NO_ALARM"

        # Beyond its limits it never reaches the plugin; what the plugin refuses is shown.
        for value, message in (
            ("96", ""),
            ("13", "Plugin:valve:Pressure refused: 13 mbar is bad luck"),
            ("14", "plugin valve failed in attpc_write: OSError: no answer from the valve"),
        ):
            ran = await it.put(name, value)
            assert ran.code == 1, value
            assert await it.get(name) == "30"
            assert await it.get_text("Plugin:valve:Message_RBV") == message
        assert await it.get("Plugin:valve:Status_RBV") == "Degraded"
        assert f"Minor: Plugin:valve:Status_RBV: {message}" in await it.get_text("AlarmText_RBV")
        await it.ok(name, "31")
        assert await it.get("Plugin:valve:Status_RBV") == "Ok"

        with pytest.raises(KeyError, match="not a PV of the plugin valve"):
            valve.ctx.publish("State_RBV", 4)
        assert valve.ctx.settings.limit_mbar == 95.0
        assert valve.ctx.state_dir == str(tmp_path / "state" / "plugins" / "valve")
        assert (tmp_path / "state" / "plugins" / "valve").is_dir()


async def test_a_plugin_gives_commands_as_a_client_does(tmp_path, monkeypatch):
    valve = Valve()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("valve", valve)]) as it:
        await it.select()
        refused = await valve.ctx.submit(Command(SYSTEM, CommandName.CONFIGURE))
        assert refused.code is ResultCode.REFUSED
        outcome = await valve.ctx.submit(Command(SYSTEM, CommandName.GOTO, State.READY))
        assert outcome.ok, outcome.message
        assert valve.ctx.snapshot().state is State.READY
        assert str(outcome.command.who) == "plugin:valve@ioc"


async def test_tasks_are_watched_and_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(context, "FIRST_BACKOFF_S", 0.02)
    valve = Valve()

    async def work():
        raise await valve.crashes.get()

    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("valve", valve)]) as it:
        plugin = it.app.host.plugins["valve"]
        valve.ctx.spawn(work(), restart=work)
        for error in (RuntimeError("lost the line"), SystemExit(2), asyncio.CancelledError()):
            valve.crashes.put_nowait(error)
            await it.until(lambda: plugin.status.name == "DEGRADED", what="Degraded")
            assert plugin.message.startswith("a task crashed: ")
            await it.until(lambda: plugin.status.name == "OK", what="running again")
        valve.ctx.spawn(work())
        valve.crashes.put_nowait(RuntimeError("first"))
        valve.crashes.put_nowait(RuntimeError("second"))
        await it.until(lambda: plugin.status.name == "FAILED", what="Failed")
        assert await it.get("State_RBV") == "Idle"
        valve.ctx.status("half of it", degraded=True)
        assert plugin.message.endswith("half of it")
        valve.ctx.status("all of it")
        assert "half of it" not in plugin.message


@covers("attpc_settings")
def test_settings_of_plugins_are_checked_as_a_whole():
    class Plain:
        @hookimpl
        def attpc_veto(self):
            return None

    host = PluginHost({"valve": {"limit_mbar": "wide", "colour": "red"}, "plain": {"x": 1}, "nobody": {}})
    host.register(Valve(), "valve")
    host.register(Plain(), "plain")
    assert sorted(host.check_sections()) == [
        "plugins.nobody: no such plugin; installed are: valve, plain",
        "plugins.plain.x: this plugin has no settings",
        "plugins.valve.colour: Extra inputs are not permitted",
        "plugins.valve.limit_mbar: Input should be a valid number, unable to parse string as a number",
    ]
    off = PluginHost({"valve": {"enabled": False, "limit_mbar": "wide"}})
    off.register(Valve(), "valve")
    assert off.check_sections() == []
    assert off.plugins["valve"].status.name == "OFF"


@covers("attpc_cli")
def test_shell_commands_of_plugins():
    class Shell:
        @hookimpl
        def attpc_cli(self, app):
            @app.command()
            def valve(wide: int) -> None:
                typer.echo(f"open by {wide}")

            @app.command()
            def other() -> None: ...

    class NoShell:
        @hookimpl
        def attpc_cli(self, app):
            raise ImportError("no valve library")

    host = PluginHost()
    host.register(Shell(), "shell")
    host.register(NoShell(), "noshell")
    app = typer.Typer()
    assert host.add_commands(app) == ["plugin noshell: ImportError: no valve library"]
    assert CliRunner().invoke(app, ["valve", "3"]).output == "open by 3\n"
