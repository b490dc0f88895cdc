"""Records the results of `files check`, in the IOC or, while none runs, in the command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.closing.checking import CheckResult, FilesDiffer, NotOnRecord, record_check
from attpc_plugins.data_routers.closing.closings import ClosingBusy, ClosingStore
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost
from attpc_plugins.data_routers.settings import DataRoutersSettings

from .by_hand import Say

RESULTS = TypeAdapter(list[CheckResult])


async def record_checks(
    settings: DataRoutersSettings,
    hosts: Mapping[str, FileHost | SentryHost],
    store: ClosingStore,
    run: RunRef,
    results: Sequence[CheckResult],
    say: Say,
) -> bool:
    """Put results into manifests and closings; return whether none was refused, and say which were."""
    routers = {router.label: router for router in settings.router}

    async def record(found: CheckResult) -> bool:
        def waits(busy: ClosingBusy) -> None:
            say(f"{found.router}: {busy}; waiting for it", False)

        try:
            await record_check(store, routers[found.router], hosts[found.router], run, found, waits)
        except FilesDiffer as error:
            say(f"{found.router}: {error}", True)
            return False
        except NotOnRecord as error:
            # Without a file there is nothing to know.
            if found.streams:
                say(f"{found.router}: the run's record does not get this: {error}", True)
        except AttpcError as error:
            say(f"{found.router}: the run's record does not get this: {error}", True)
            return False
        return True

    return all(await asyncio.gather(*map(record, results)))
