"""`attpc-ioc` as a person or systemd runs it: signals, logs, and what an operator can do wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket

import pytest

from attpc_ioc.model.states import State
from tests.support.ca import ca_place, caget
from tests.support.patience import PATIENCE_S
from tests.support.process import ATTPC_IOC, FORKED, environment, started
from tests.support.rig import rig
from tests.support.simfleet import take_up

FAST_MODULE = "import asyncio\nfrom attpc_ioc.plugin import hookimpl\n\n\n"


@pytest.fixture
def place():
    place = ca_place()
    yield place
    place.close()


@pytest.fixture
def plain_user(tmp_path):
    """Root can write everywhere: a test of a folder that cannot be written needs another obstacle."""
    obstacle = tmp_path / "obstacle"
    obstacle.write_text("a file where a folder should be")
    return obstacle


async def test_sigterm_leaves_the_hardware_as_it_is(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=1, start=False) as it:
        await take_up(it.fleet, State.RUNNING)
        calls = len(it.fleet.log.sequence())
        env = environment(it.place, tmp_path)
        async with started(ATTPC_IOC, "run", it.settings_file, "--log-json", env=env, folder=tmp_path) as ioc:
            await ioc.until('"event": "serving"')
            await until_text(it, "Run:State_RBV", "Orphan")
            code, took_s = await ioc.end(signal.SIGTERM)
        assert code == 0, ioc.text
        assert took_s < 2.0
        logged = [json.loads(line) for line in ioc.lines]
        assert all({"time", "level", "logger", "event"} <= set(entry) for entry in logged)
        assert [entry["event"] for entry in logged][-2:] == ["ending", "ended"]
        assert not any("traceback" in entry for entry in logged)
        assert len(it.fleet.log.sequence()) == calls
        assert it.fleet["cobo0"].state is State.RUNNING


async def test_an_installed_plugin_brings_a_command_and_cannot_hold_up_the_end(tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    (slow / "attpc_slow-1.dist-info").mkdir(parents=True)
    (slow / "attpc_slow-1.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: attpc-slow\nVersion: 1\n"
    )
    (slow / "attpc_slow-1.dist-info" / "entry_points.txt").write_text("[attpc_ioc]\nslow = attpc_slow\n")
    (slow / "attpc_slow.py").write_text(
        FAST_MODULE + "@hookimpl\nasync def attpc_startup(ctx):\n"
        "    print('sleeping', flush=True)\n    await asyncio.sleep(60)\n"
        "\n\n@hookimpl\ndef attpc_cli(app):\n    @app.command()\n    def yawn():\n        print('aah')\n"
    )
    async with rig(tmp_path, monkeypatch, cobos=1, start=False) as it:
        env = environment(it.place, tmp_path, {"PYTHONPATH": str(slow)})
        async with started(ATTPC_IOC, "yawn", env=env, folder=tmp_path) as own_command:
            assert await own_command.wait() == 0
        assert own_command.lines == ["aah"]
        async with started(ATTPC_IOC, "run", it.settings_file, env=env, folder=tmp_path) as ioc:
            await ioc.until("sleeping")
            code, took_s = await ioc.end(signal.SIGTERM)
        assert code == 0, ioc.text
        assert took_s < 2.0
        assert "Traceback" not in ioc.text


async def test_what_an_operator_can_do_wrong_is_one_clear_text(tmp_path, monkeypatch, plain_user):
    async with rig(tmp_path, monkeypatch, cobos=1, start=False) as it:
        env = environment(it.place, tmp_path)
        good = it.settings_file.read_text()

        async def fails(text: str | None, *because: str) -> None:
            file = tmp_path / "wrong.toml"
            file.unlink(missing_ok=True)
            if text is not None:
                file.write_text(text)
            async with started(FORKED, "run", file, env=env, folder=tmp_path) as ioc:
                assert await ioc.wait() == 1, ioc.text
            assert "Traceback" not in ioc.text
            for words in because:
                assert words in ioc.text

        state_dir = str(tmp_path / "state")
        await fails(None, "wrong.toml: does not exist; `attpc-ioc init` writes a settings file")
        await fails("prefix = 3\n", "prefix")
        await fails(good.replace(state_dir, f"{plain_user}/state"), "state directory", "set ioc.state_dir")
        await fails(good + "\n[plugins.nope]\n", "wrong.toml: plugins.nope: no such plugin")
        await fails(good.replace('["127.0.0.1"]', '["192.0.2.1"]'), "cannot be served on 192.0.2.1: ")

        # Two IOCs on one state directory: the second says who has it. Two on one port live together.
        # A fork has a word of EPICS's library about forks in what it prints.
        async with started(ATTPC_IOC, "run", it.settings_file, env=env, folder=tmp_path) as first:
            await first.until("event=serving")
            host = socket.gethostname()
            owner = f"another IOC (process {first.process.pid} on {host}, prefix {it.prefix}) is using it"
            await fails(good, owner)
            other = tmp_path / "other.toml"
            other.write_text(good.replace(state_dir, f"{state_dir}2").replace(it.prefix, "OTHER:"))
            async with started(FORKED, "run", other, env=env, folder=tmp_path) as second:
                # It is found on another TCP port; which of the two answers a search is for the system to say.
                assert f" port={it.place.port} " not in await second.until("event=serving")
                assert (await second.end())[0] == 0
            assert all(line.startswith("time=") for line in first.lines), first.text


async def test_ctrl_c_ends_the_demo(tmp_path, place, state_home):
    """As a terminal does it: SIGINT to the whole process group, `make` included."""
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"run:\n\t@exec {ATTPC_IOC} demo --prefix D{os.getpid()}: --cobos 2\n")
    env = environment(place, tmp_path, state_home)
    async with started("make", "run", env=env, folder=tmp_path) as demo:
        await demo.until("Ctrl-C here ends it.")
        code, took_s = await demo.end(signal.SIGINT)
    assert code in (0, 2, 130, -signal.SIGINT), demo.text
    assert took_s < 2.0
    assert "Traceback" not in demo.text
    async with started(ATTPC_IOC, "demo", "--cobos", "1", env=env, folder=tmp_path) as demo:
        await demo.until("Ctrl-C here ends it.")
        code, took_s = await demo.end(signal.SIGINT)
    assert (code, took_s < 2.0) == (0, True), demo.text


async def test_plugins_are_listed(tmp_path, place):
    async with started(
        ATTPC_IOC, "plugins", env=environment(place, tmp_path, {"COLUMNS": "200"}), folder=tmp_path
    ) as run:
        assert await run.wait() == 0
    assert "attpc_plan" in next(line for line in run.lines if line.startswith("mapping"))


async def until_text(it, name: str, text: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until a PV shows a text."""
    shown = ""
    try:
        async with asyncio.timeout(limit_s):
            while text not in shown:
                shown = (await caget(it.place, "-t", it.prefix + name)).out
    except TimeoutError:
        raise AssertionError(f"{name} is {shown}, not {text}") from None
