"""A process that forks IOCs' closing sides, so that they can be killed at any moment and begun again.

It reads a line of JSON for each, writes the child's process id, and `ended` when it has ended. What a child
does: it comes to life over a state directory, is told that a run is over, and ends when its files are closed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import DataRoutersSettings

from tests.support.closings import side


async def close_run(order: dict[str, Any]) -> None:
    settings = DataRoutersSettings.model_validate(order["settings"])
    async with side(Path(order["state"]), settings) as it:
        it.end(order["run"])
        for router in settings.router:
            await it.reach(order["run"], CloseState.DONE, router.label)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                asyncio.run(close_run(order))
                code = 0
            finally:
                os._exit(code)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
