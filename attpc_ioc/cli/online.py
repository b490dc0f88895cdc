"""Checks every ECC server, what plugins depend on, and ChannelFinder (`attpc-ioc check --online`)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from attpc_ioc.asking import ask
from attpc_ioc.ecc.client import EccClient
from attpc_ioc.errors import AttpcError, EccError
from attpc_ioc.ioc.channel_finder import ASK, announcement_socket, networks
from attpc_ioc.model.online import OnlineAnswer
from attpc_ioc.model.states import Transition
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.recsync import Announcement, Announcements
from attpc_ioc.settings import EccSettings, Settings

HEAR_S = 20.0
"""Shortest time to wait for a recceiver: they announce themselves every 15 s."""

ASK_AGAIN_S = 0.5


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
    """Ask the servers and run the online checks of plugins and of ChannelFinder, all at once.

    Never raises for their faults.
    """
    reports, answers, finder = await asyncio.gather(
        ask_servers(settings, timeout_s),
        plugins.online_check(timeout_s),
        ask_channel_finder(settings, max(timeout_s, HEAR_S)),
    )
    return reports, [*answers, *finder]


async def ask_channel_finder(settings: Settings, limit_s: float) -> list[OnlineAnswer]:
    """Say whether a recceiver of ChannelFinder is heard, and whether it took the upload of the running IOC.

    Uploads nothing itself: when that connection ended, the recceiver would mark the running IOC's PVs as
    inactive.
    """
    if not settings.channel_finder.enabled:
        return [OnlineAnswer("ChannelFinder", "", "off (channel_finder.enabled is false)", True)]
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    while True:
        try:
            said = await asyncio.to_thread(ask, settings.state_directory(), {"ask": ASK})
        except AttpcError as error:
            return [await _hear(settings, limit_s, str(error))]
        where, text, ok = _upload(said)
        if ok or not said["enabled"] or loop.time() > end:
            return [OnlineAnswer("ChannelFinder", where, text, ok)]
        await asyncio.sleep(ASK_AGAIN_S)


def _upload(said: dict[str, Any]) -> tuple[str, str, bool]:
    """Return where the recceivers are, how far the upload is, and whether all is right."""
    if not said["enabled"]:
        return "", "the running IOC was started without it: restart it", False
    servers = said["servers"]
    where = ", ".join(f"{one['address']}:{one['port']}" for one in servers)
    failure = f"; last failure: {said['last_failure']}" if said["last_failure"] else ""
    if any(one["taken"] for one in servers):
        return where, f"took the upload of {said['pvs']} PVs", True
    if servers:
        return where, f"has not taken the upload: {servers[0]['state']}{failure}", False
    return "", f"the running IOC is connected to no recceiver ({said['heard']} announcements){failure}", False


async def _hear(settings: Settings, limit_s: float, why: str) -> OnlineAnswer:
    """Listen for a recceiver; `why` says why no IOC could be asked."""
    section = settings.channel_finder
    heard: asyncio.Future[Announcement] = asyncio.get_running_loop().create_future()
    try:
        sock = announcement_socket(section)
    except AttpcError as error:
        return OnlineAnswer("ChannelFinder", "", str(error), False)
    listening = Announcements(
        sock, networks(section), lambda one: None if heard.done() else heard.set_result(one)
    )
    try:
        async with asyncio.timeout(limit_s):
            found = await heard
    except TimeoutError:
        text = f"no recceiver was heard within {limit_s:g} s"
        if listening.ignored:
            text += f"; {listening.ignored} datagrams from others than channel_finder.servers, or malformed"
        return OnlineAnswer("ChannelFinder", f"UDP port {section.port}", text, False)
    finally:
        listening.close()
    text = f"a recceiver is heard; whether it took an upload is not known: {why}"
    return OnlineAnswer("ChannelFinder", f"{found.address}:{found.port}", text, True)


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
