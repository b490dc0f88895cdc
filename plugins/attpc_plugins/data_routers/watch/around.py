"""What the fleet tells of a router: whether its data are to come, and what the others do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State

from .flow import Flow
from .router import Circumstances, Router

COBO = "CoBo"
"""What the sender ids of CoBos begin with."""


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """What matters of a snapshot: the sources that take part, those whose data are to come, the CoBos.

    `remaining_s` is the time until the run ends by itself; None where it does not or none is on.
    """

    enabled: frozenset[str] = frozenset()
    running: frozenset[str] = frozenset()
    cobos: frozenset[str] = frozenset()
    remaining_s: float | None = None

    @classmethod
    def of(cls, fleet: Fleet) -> FleetFacts:
        """Take them from a snapshot."""
        run = fleet.run
        on = run.state is RunState.RUNNING
        enabled, running, cobos = set[str](), set[str](), set[str]()
        for source, module in fleet.sources():
            if module.enabled:
                enabled.add(source.name)
            if on and module.name in run.expected and is_running(module):
                running.add(source.name)
            if source.sender_id.startswith(COBO):
                cobos.add(source.name)
        limited = on and run.max_duration_s > 0
        remaining_s = max(0.0, run.max_duration_s - run.duration_s) if limited else None
        return cls(frozenset(enabled), frozenset(running), frozenset(cobos), remaining_s)

    def takes_part(self, router: Router) -> bool:
        """Tell whether any of a router's sources takes part in runs."""
        return not self.enabled.isdisjoint(router.sources)


def is_running(module: ModuleView) -> bool:
    """Tell whether data of a module are to come: it is Running, or was when it was last heard of."""
    return module.state is State.RUNNING or (
        module.state is State.OFFLINE and module.last_state is State.RUNNING
    )


def around(router: Router, routers: Sequence[Router], facts: FleetFacts) -> Circumstances:
    """Return a router's circumstances."""
    running = not facts.running.isdisjoint(router.sources)
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
    return Circumstances(running, tuple(others), disk_rate, facts.remaining_s)
