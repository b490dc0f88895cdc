"""What plugins say to `check --online`: one that fails or hangs keeps no other from being heard."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from attpc_ioc.model.online import OnlineAnswer
from attpc_ioc.plugin import hookimpl
from attpc_ioc.plugin import host as host_module
from attpc_ioc.plugin.host import PluginHost
from tests.support.probe import covers

GOOD = OnlineAnswer("gas system", "10.0.0.9", "flows", True)


class Fine:
    @hookimpl
    async def attpc_online_check(self, timeout_s):
        assert timeout_s == 0.1
        return [GOOD]


class Raises:
    @hookimpl
    async def attpc_online_check(self, settings):
        assert settings is None
        raise OSError("no route")


class Hangs:
    @hookimpl
    async def attpc_online_check(self):
        await asyncio.Event().wait()


class Silent:
    @hookimpl
    def attpc_online_check(self):
        return None


class Patient:
    @hookimpl
    async def attpc_online_check(self, settings):
        await asyncio.sleep(host_module.ONLINE_GRACE_S + 1.0)
        return [GOOD]


async def test_a_plugin_whose_settings_say_so_may_take_longer():
    host = PluginHost({})
    host.register(Patient(), "patient")
    host.plugins["patient"].settings = SimpleNamespace(online_limit_s=30.0)
    assert await host.online_check(0.1) == [GOOD]


@covers("attpc_online_check")
async def test_every_plugin_is_asked_and_none_waits_for_another():
    host = PluginHost({"off": {"enabled": False}})
    for name, plugin in {
        "fine": Fine(),
        "raises": Raises(),
        "hangs": Hangs(),
        "silent": Silent(),
        "off": Raises(),
    }.items():
        host.register(plugin, name)
    began_s = asyncio.get_running_loop().time()
    answers = await host.online_check(0.1)
    took_s = asyncio.get_running_loop().time() - began_s
    limit_s = 0.1 + host_module.ONLINE_GRACE_S
    assert limit_s <= took_s < limit_s + 15.0
    assert answers == [
        GOOD,
        OnlineAnswer("plugin raises", "", "OSError: no route", False),
        OnlineAnswer("plugin hangs", "", answers[2].text, False),
    ]
    assert f"it took more than {limit_s:g} s" in answers[2].text
