"""The tutorial's plugin: exactly its files, installed and used with EPICS base's programs."""

from __future__ import annotations

import asyncio
import sys

from tests.support.ca import caget
from tests.support.pages import commands, files
from tests.support.patience import PATIENCE_S
from tests.support.process import ATTPC_IOC, environment, started
from tests.support.rig import EXPERIMENT, rig

PAGE = "docs/tutorial/write-a-plugin.md"


async def test_the_tutorials_plugin(tmp_path, monkeypatch):
    package = tmp_path / "attpc-hall"
    package.mkdir()
    for name, text in files(PAGE).items():
        (package / name).write_text(text)
    installed = tmp_path / "site"
    (install, plugins) = commands(PAGE, "install")
    door = tmp_path / "hall-door"
    section = {"plugins.hall": f'door_file = "{door}"\nperiod_s = 0.05'}
    async with rig(tmp_path, monkeypatch, cobos=1, start=False, **section) as it:
        env = environment(it.place, tmp_path, {"PYTHONPATH": str(installed), "PIP_NO_INDEX": "1"})

        async def shell(line: str) -> tuple[int, str]:
            """Run a line of the page, with this test's prefix, door and place to install to."""
            line = line.replace("SIM:", it.prefix).replace("/tmp/hall-door", str(door))
            async with started("sh", "-c", line, env=env, folder=tmp_path) as running:
                return await running.wait(60), running.text

        pip = f"{sys.executable} -m pip install --quiet --target {installed} "
        code, shown = await shell(install.replace("pip install ", pip))
        assert code == 0, shown
        code, shown = await shell(plugins)
        assert code == 0
        assert "attpc-hall 1.0" in shown

        (test,) = commands(PAGE, "test")
        code, shown = await shell(test.replace("python ", f"{sys.executable} "))
        assert code == 0, shown
        assert "4 passed" in shown

        door.write_text("open\n")
        async with started(ATTPC_IOC, "run", it.settings_file, env=env, folder=tmp_path) as ioc:
            await ioc.until("event=serving")
            select, go_to, refused, told = commands(PAGE, "refused")
            await offers(it)
            assert (await shell(select))[0] == 0
            assert (await shell(go_to))[0] == 0
            assert "Channel write request failed" in (await shell(refused))[1]
            _, shown = await shell(told)
            assert shown.count("the hall door is open") == 2, shown

            write, ready, *rest = commands(PAGE, "closed")
            await shell(write)
            await until_value(it, "Run:Ready_RBV", "Ready")
            for line in (ready, *rest):
                code, shown = await shell(line)
                assert code == 0, f"{line}: {shown}"

            await until_value(it, "Run:Ready_RBV", "NotReady")
            put, get, *rest = commands(PAGE, "bypass")
            assert (await shell(put))[0] == 0
            _, shown = await shell(get)
            assert "Yes" in shown
            assert "Ok" in shown
            assert (await caget(it.place, "-t", f"{it.prefix}Plugin:hall:Bypass.SEVR")).out.strip() == "MINOR"
            for line in rest:
                code, shown = await shell(line)
                assert code == 0, f"{line}: {shown}"

            door.unlink()
            await until_value(it, "Plugin:hall:Status_RBV", "Degraded")
            assert (await ioc.end())[0] == 0


async def offers(it) -> None:
    """Wait until the servers have told what they offer."""
    await until_value(it, "ConfigNames_RBV", EXPERIMENT)


async def until_value(it, name: str, value: str, limit_s: float = PATIENCE_S) -> None:
    """Wait until a PV shows a value."""
    ran = None
    try:
        async with asyncio.timeout(limit_s):
            while ran is None or value not in ran.out.split():
                ran = await caget(it.place, "-t", it.prefix + name)
    except TimeoutError:
        raise AssertionError(f"{name} is {ran.both if ran else '?'}, not {value}") from None
