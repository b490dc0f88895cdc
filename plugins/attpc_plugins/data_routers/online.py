"""What `attpc-ioc check --online` is told of the data routers' hosts: each is looked at once."""

from __future__ import annotations

import asyncio

from attpc_ioc.model.online import OnlineAnswer

from .hosts.host import HostError, RouterGone
from .hosts.make import host_for
from .model import Look
from .rows import GIGABYTE
from .settings import Access, DataRoutersSettings, RouterSettings


async def ask_hosts(settings: DataRoutersSettings, timeout_s: float) -> list[OnlineAnswer]:
    """Look at every router's host, side by side, each for at most `timeout_s` seconds; changes nothing."""
    patient = settings.model_copy(update={"timeout_s": timeout_s})
    return list(await asyncio.gather(*(_ask(router, patient) for router in settings.router)))


async def _ask(router: RouterSettings, settings: DataRoutersSettings) -> OnlineAnswer:
    what = f"data router {router.label}"
    where = "this machine" if router.access is Access.LOCAL else router.host
    host = host_for(router, settings)
    try:
        look = await host.look(None)
    except RouterGone:
        return OnlineAnswer(what, where, "the sentry answers, and its router does not run", True)
    except HostError as error:
        return OnlineAnswer(what, where, str(error), False)
    finally:
        await host.disconnect()
    return OnlineAnswer(what, where, _words(router, look), True)


def _words(router: RouterSettings, look: Look) -> str:
    """Return what was seen. That a router does not run is said, and is no fault of the settings."""
    folder = f"{router.staging} is there, with" if router.staging is not None else "the sentry answers:"
    files = f"{look.files} file{'' if look.files == 1 else 's'} in it"
    text = f"{folder} {files}, {look.disk_free_bytes / GIGABYTE:.1f} GB free"
    if look.process:
        return text
    return f"{text}; {f'no process {router.process}' if router.process else 'its router does not run'}"
