"""Checks every ECC server of the settings, and what plugins depend on (`attpc-ioc check --online`)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from attpc_ioc.ecc.client import EccClient
from attpc_ioc.errors import EccError
from attpc_ioc.model.online import OnlineAnswer
from attpc_ioc.model.states import Transition
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.settings import EccSettings, Settings


@dataclass(frozen=True, slots=True)
class ServerReport:
    """The answer of one ECC server, for people; `ok` is False if something must be corrected."""

    name: str
    url: str
    state: str
    configs: str
    ok: bool


async def ask_servers(settings: Settings, timeout_s: float) -> list[ServerReport]:
    """Ask all servers at once, each for at most `timeout_s` seconds; never raises for a server's fault."""
    return list(await asyncio.gather(*(_ask(ecc, timeout_s) for ecc in settings.ecc)))


async def ask_all(
    settings: Settings, plugins: PluginHost, timeout_s: float
) -> tuple[list[ServerReport], list[OnlineAnswer]]:
    """Ask the servers and run the plugins' online checks, all at once; never raises for their faults."""
    return await asyncio.gather(ask_servers(settings, timeout_s), plugins.online_check(timeout_s))


async def _ask(ecc: EccSettings, timeout_s: float) -> ServerReport:
    client = EccClient(ecc.url, name=ecc.name, poll_timeout_s=timeout_s, connect_timeout_s=timeout_s)
    state = "Offline"
    try:
        async with asyncio.timeout(timeout_s):
            seen = await client.get_state()
            state = seen.state.label
            if seen.transition is not Transition.NONE:
                state += f" (in {seen.transition.label})"
            offered = await client.get_config_ids()
    except TimeoutError:
        return ServerReport(ecc.name, ecc.url, state, f"no answer within {timeout_s:g} s", False)
    except EccError as err:
        return ServerReport(ecc.name, ecc.url, state, str(err), False)
    finally:
        await client.close()
    accepted = [name for name in offered if ecc.rule.accepts(name)]
    if accepted:
        text = f"{len(accepted)} of {len(offered)} match {ecc.rule}"
    elif offered:
        describes = ", ".join(sorted({name.describe for name in offered})[:8])
        text = f"none of {len(offered)} matches {ecc.rule}; describe names there: {describes}"
    else:
        text = "the server offers none"
    return ServerReport(ecc.name, ecc.url, state, text, bool(accepted))
