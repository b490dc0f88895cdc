"""The part of `attpc-ioc check --online` that polls the hosts of data routers and configuration files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attpc_ioc.model.online import OnlineAnswer
from attpc_plugins.data_routers.hosts.host import HostError, RouterGone
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.model import Polled
from attpc_plugins.data_routers.settings import (
    Access,
    DataRoutersSettings,
    EccHostSettings,
    ReachSettings,
    RouterSettings,
)
from attpc_plugins.data_routers.watch.rows import GIGABYTE


async def ask_hosts(settings: DataRoutersSettings) -> list[OnlineAnswer]:
    """Poll every host concurrently, with the running plugin's time limits; changes nothing."""
    routers = [_ask(f"data router {router.label}", router, _words, settings) for router in settings.router]
    configs = [_ask(_configs_of(ecc), _as_router(ecc), _is_there, settings) for ecc in settings.ecc]
    return list(await asyncio.gather(*routers, *configs))


async def _ask(
    what: str,
    router: RouterSettings,
    words: Callable[[RouterSettings, Polled], str],
    settings: DataRoutersSettings,
) -> OnlineAnswer:
    where = "this machine" if router.access is Access.LOCAL else router.host
    host = host_for(router, settings)
    try:
        await host.connect()
        polled = await host.poll(None)
    except RouterGone:
        return OnlineAnswer(what, where, "the sentry answers, but its router is not running", True)
    except HostError as error:
        return OnlineAnswer(what, where, str(error), False)
    finally:
        await host.disconnect()
    return OnlineAnswer(what, where, words(router, polled), True)


def _configs_of(ecc: EccHostSettings) -> str:
    return f"configuration files of {', '.join(ecc.names) or 'every other ECC server'}"


def _as_router(ecc: EccHostSettings) -> RouterSettings:
    """Return router settings with which the folder of configuration files can be polled."""
    reach = {name: getattr(ecc, name) for name in ReachSettings.model_fields}
    return RouterSettings(**reach, sources=("configs",), staging=ecc.xcfg, process="")


def _is_there(router: RouterSettings, _: Polled) -> str:
    return f"{router.staging} is there"


def _words(router: RouterSettings, polled: Polled) -> str:
    """Return the result as text. A router that is not running is reported but is not a fault."""
    folder = f"{router.staging} is there, with" if router.staging is not None else "the sentry answers:"
    files = f"{polled.files} file{'' if polled.files == 1 else 's'} in it"
    text = f"{folder} {files}, {polled.disk_free_bytes / GIGABYTE:.1f} GB free"
    if polled.process:
        return text
    return f"{text}; {f'no process {router.program}' if router.program else 'its router is not running'}"
