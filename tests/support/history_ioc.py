"""An IOC with the run history as a process: `python -m tests.support.history_ioc [--eager] FILE`.

`--eager`: a database that fails is tried again at once, every time.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from attpc_plugins.run_history import supervisor

from attpc_ioc.app import running
from attpc_ioc.log import set_up_logging
from attpc_ioc.settings import load_settings
from tests.support.history import given_plugins


async def serve(file: Path) -> None:
    ended = asyncio.Event()
    # SIGINT is ignored in what a shell script has started in the background.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with running(load_settings(file), given_plugins()):
        await ended.wait()


if __name__ == "__main__":
    set_up_logging(level="INFO")
    if "--eager" in sys.argv:
        supervisor.BACKOFF_S = supervisor.BACKOFF_S[:1]
    asyncio.run(serve(Path(sys.argv[-1])))
