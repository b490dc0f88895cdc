"""What the fleet and the other routers say about a router: whether it should get data, and at what rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import Kind, State

from .flow import Flow
from .router import Circumstances, Router

COBO = "CoBo"
"""The sender ids of CoBos begin with this."""


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """The facts from a snapshot: the sources that take part, those that should send data, and the CoBos.

    `zeroed`: those of the MuTAnT, which each start configures again. `remaining_s` is the time until the run
    ends automatically; None where it does not, or no run is on.
    """

    enabled: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    cobos: frozenset[str] = frozenset()
    zeroed: frozenset[str] = frozenset()
    remaining_s: float | None = None

    @classmethod
    def of(cls, fleet: Fleet) -> FleetFacts:
        """Return the facts of a snapshot."""
        run = fleet.run
        on = run.state is RunState.RUNNING
        enabled, running, cobos, zeroed = set[str](), set[str](), set[str](), set[str]()
        for source, module in fleet.sources():
            if module.enabled:
                enabled.add(source.name)
            if on and module.name in run.expected and is_running(module):
                running.add(source.name)
            if source.sender_id.startswith(COBO):
                cobos.add(source.name)
            if module.kind is Kind.MUTANT:
                zeroed.add(source.name)
        limited = on and run.max_duration_s > 0
        remaining_s = max(0.0, run.max_duration_s - run.duration_s) if limited else None
        return cls(frozenset(enabled), frozenset(running), frozenset(cobos), frozenset(zeroed), remaining_s)

    def takes_part(self, router: Router) -> bool:
        """Return whether any of a router's sources takes part in runs."""
        return not self.enabled.isdisjoint(router.sources)


def is_running(module: ModuleView) -> bool:
    """Return whether a module should send data: it is Running, or was in its last known state."""
    return module.state is State.RUNNING or (
        module.state is State.OFFLINE and module.last_state is State.RUNNING
    )


def around(router: Router, routers: Sequence[Router], facts: FleetFacts) -> Circumstances:
    """Return a router's circumstances."""
    running = facts.running.intersection(router.sources)
    others = [
        other.cobo_rate
        for other in routers
        if other is not router
        and other.cobo_rate is not None
        and other.watch.answering
        and (other.flow is not Flow.IDLE)
    ]
    disk = router.disk
    disk_rate = sum(other.rate for other in routers if disk is not None and other.disk == disk)
    cut = bool(running) and all(map(router.lost, running))
    return Circumstances(bool(running), cut, tuple(others), disk_rate, facts.remaining_s)
