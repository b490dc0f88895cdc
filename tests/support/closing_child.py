"""A process that forks who closes runs, so that it can be killed at any moment and begun again.

It reads a line of JSON for each, writes the child's process id, and `ended` when it has ended. What a child
does: it comes to life over a state directory with runs that are over, as an IOC's side or as the command
`files close`, and ends when their files are closed or a person is needed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from attpc_plugins.data_routers.closing.closings import Closing
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.commands.by_hand import Wishes, carry_out
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import DataRoutersSettings

from attpc_ioc.model.run import RunRef
from tests.support.closings import EXPERIMENT, closings_in, side


async def close_runs(order: dict[str, Any]) -> None:
    settings = DataRoutersSettings.model_validate(order["settings"])
    if order["by_hand"]:
        await by_hand(order, settings)
        return
    async with side(Path(order["state"]), settings) as it:

        def ended(closing: Closing) -> bool:
            if closing.state is CloseState.DONE:
                return not closing.late and it.closing.expected(closing.router).files == 0
            return closing.state is CloseState.INCOMPLETE and closing.moved

        it.end(order["runs"][-1])
        await it.until(lambda: all(ended(it.entry(number)) for number in order["runs"]))


async def by_hand(order: dict[str, Any], settings: DataRoutersSettings) -> None:
    async with closings_in(Path(order["state"])) as store:
        hosts = {router.label: host_for(router, settings) for router in settings.router}
        summaries = {label: Summary(label, None) for label in hosts}
        for number in order["runs"]:
            wishes = Wishes(RunRef(EXPERIMENT, number), tuple(hosts))
            await carry_out(wishes, settings, hosts, store, summaries, lambda _text, _wrong: None)
        for host in hosts.values():
            await host.disconnect()


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(close_runs(order))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
