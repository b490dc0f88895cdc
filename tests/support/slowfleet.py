"""An IOC whose ECC servers are behind relays that can be slow, each by itself or all at once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attpc_ioc.simulator.durations import Durations
from tests.support.grid import FAST
from tests.support.rig import Rig, rig
from tests.support.slowwire import Wire, wire

OPERATIONS = ("describe", "prepare", "configure", "start", "breakup", "undo")
POLL = "moving_period_s = 0.02\nquiet_period_s = 0.1\ntimeout_s = 2.0"


@dataclass
class Wires:
    """The relays of a rig, by the names of the ECC servers."""

    it: Rig
    of: dict[str, Wire]

    def delay(self, seconds: float, *names: str) -> None:
        """Hold up each direction to these servers, or to all, by so much."""
        for name in names or self.of:
            self.of[name].delay_s = seconds

    async def slow(self, seconds: float, *names: str) -> None:
        """Delay each direction, and return when the IOC has seen what that makes of the answers."""
        chosen = names or tuple(self.of)
        self.delay(seconds, *chosen)
        polls = {name: self.it.fleet[name].polls for name in chosen}  # a slow one may be of the time before
        await self.it.until(
            lambda: all(
                self.it.fleet[name].polls >= polls[name] + 2
                and (not (m := self.it.module(name)).online or m.poll_time_ms >= 1.9e3 * seconds)
                for name in chosen
            ),
            20.0,
            "slow answers",
        )

    async def offline(self, seconds: float, *names: str) -> None:
        """Delay each direction by more than half of the poll's time-out; return when all are Offline."""
        chosen = names or tuple(self.of)
        self.delay(seconds, *chosen)
        await self.it.until(lambda: not any(self.it.module(n).online for n in chosen), 20.0, "all Offline")

    async def heal(self, polls: int = 20) -> None:
        """Delay nothing any more, and let every server be polled so often: time for what is never to come."""
        self.delay(0.0)
        servers = self.it.fleet.servers
        before = {name: server.polls for name, server in servers.items()}
        await self.it.until(
            lambda: all(
                server.polls >= before[name] + polls and self.it.module(name).online
                for name, server in servers.items()
            ),
            30.0,
            "polls after the slow time",
        )


def limits_text(
    limit_s: float = 2.5, *, stop_s: float = 10.0, stop_mutant_s: float = 1.0, freshness_s: float = 0.5
) -> str:
    """One limit for all operations but Stop."""
    lines = [f"{name}_s = {limit_s}" for name in OPERATIONS]
    lines += [f"stop_s = {stop_s}", f"stop_mutant_s = {stop_mutant_s}", f"freshness_s = {freshness_s}"]
    return "\n".join([*lines, "arrival_grace_s = 1.0"])


@contextlib.asynccontextmanager
async def slow_rig(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    limits: str = "",
    durations: Durations = FAST,
    cobos: int = 2,
    mutant: bool = True,
) -> AsyncIterator[tuple[Rig, Wires]]:
    """A rig whose IOC reaches each ECC server through a relay."""
    async with (
        rig(
            tmp_path,
            monkeypatch,
            limits=limits or limits_text(),
            poll=POLL,
            durations=durations,
            cobos=cobos,
            mutant=mutant,
            start=False,
        ) as it,
        contextlib.AsyncExitStack() as stack,
    ):
        wires = {server.name: await stack.enter_async_context(wire(server.port)) for server in it.fleet}
        servers = [ecc.model_copy(update={"port": wires[ecc.name].port}) for ecc in it.settings.ecc]
        it.settings = it.settings.model_copy(update={"ecc": tuple(servers)})
        try:
            await it.start_ioc()
            await it.until(
                lambda: all(m.offered is not None for m in it.snapshot.modules.values()),
                what="all servers seen",
            )
            yield it, Wires(it, wires)
        finally:
            await it.stop_ioc()
