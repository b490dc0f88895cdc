"""What the fleet tells about the runs of a data router: when it can write, and whose data it gets."""

from __future__ import annotations

from collections.abc import Sequence

from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunRef
from attpc_ioc.model.states import LIVE, Operation, Transition
from attpc_plugins.data_routers.settings import RouterSettings


def is_early(fleet: Fleet, router: RouterSettings, run: RunRef) -> bool:
    """Return whether a router cannot have written data of this run yet."""
    info = fleet.run.info
    if info is None or info.ref != run or info.started_s is not None:
        return False
    own = [module for source, module in fleet.sources() if source.name in router.sources]
    return not any(
        m.state in LIVE or m.transition is Transition.START or m.outstanding is Operation.START
        for m in own or fleet.modules.values()
    )


def sender_ids(fleet: Fleet, sources: Sequence[str], run: RunRef) -> dict[str, str]:
    """Return the sender ids, by name, of those of a router's sources that took part in a run."""
    info = fleet.run.info
    members = info.members if info is not None and info.ref == run else None
    return {
        source.name: source.sender_id
        for source, module in fleet.sources()
        if source.name in sources and (members is None or module.name in members)
    }
