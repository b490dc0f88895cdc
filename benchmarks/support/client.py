"""libca in the benchmark's own process. Import this when the variables of Channel Access are set."""

from __future__ import annotations

import asyncio

import aioca

from .system import EXPERIMENT, PREFIX

LIMIT_S = 60.0


async def ready() -> None:
    """Select the experiment's configs, once every server has told its own, and take all modules to Ready."""
    count = int(await aioca.caget(f"{PREFIX}Count_RBV", timeout=LIMIT_S))
    told = asyncio.Event()

    async def look(_value: object) -> None:
        online = int(await aioca.caget(f"{PREFIX}Online_RBV", timeout=LIMIT_S))
        names = await aioca.caget(f"{PREFIX}ConfigNames_RBV", timeout=LIMIT_S)
        if online == count and len(names):
            told.set()

    monitors = [aioca.camonitor(PREFIX + pv, look) for pv in ("Online_RBV", "ConfigNames_RBV")]
    await asyncio.wait_for(told.wait(), LIMIT_S)
    for monitor in monitors:
        monitor.close()
    await aioca.caput(f"{PREFIX}Config", EXPERIMENT.encode() + b"\0", wait=True, timeout=LIMIT_S)
    await goto(4)


async def goto(target: int) -> None:
    """Take all modules to a state."""
    await aioca.caput(f"{PREFIX}GoTo", target, wait=True, timeout=LIMIT_S)


def end() -> None:
    """Close every channel, while the loop that they belong to still runs."""
    aioca.purge_channel_caches()


async def command(name: str) -> None:
    """Give a command and wait for its end."""
    await aioca.caput(PREFIX + name, 1, wait=True, timeout=LIMIT_S)
