"""The simulator as a separate program."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from .admin import Admin
from .data.host import DataHost
from .fleet import SimulatedFleet


async def run_simulator(
    fleet: SimulatedFleet,
    *,
    admin_port: int = 0,
    settings_file: Path | None = None,
    prefix: str = "SIM:",
    say: Callable[[str], None],
    shown: Callable[[str], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Serve `fleet` until SIGINT or SIGTERM, and report through `say` what is running and what to try.

    `settings_file`: where to write the settings of an IOC for this fleet. `shown` is entered with the URL of
    its administration while it runs. Raises `OSError` if a port is taken or the file cannot be written.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with fleet:
            admin = Admin(fleet, port=admin_port)
            await admin.start()
            try:
                if settings_file is not None:
                    text = fleet.settings_toml(prefix, data_routers=fleet.has_data)
                    await asyncio.to_thread(settings_file.write_text, text, "utf-8")
                with shown(admin.url):
                    for line in _greeting(fleet, admin, settings_file):
                        say(line)
                    await stop.wait()
            finally:
                await admin.stop()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _way(host: DataHost) -> str:
    return str(host.staging) if host.gate is None else f"{host.gate.host}:{host.gate.port}, {host.staging}"


def _greeting(fleet: SimulatedFleet, admin: Admin, settings_file: Path | None) -> list[str]:
    first = next(iter(fleet.servers))
    lines = [f"{server.name:8} {server.url}" for server in fleet]
    if fleet.has_data:
        lines += [f"{host.name:8} {host.access}: {_way(host)}" for host in fleet.data]
    lines += [f"configuration files: {fleet.xcfg.path}", f"faults and state:    {admin.url}", "", "Try:"]
    if settings_file is not None:
        lines.append(f"  attpc-ioc run {shlex.quote(str(settings_file))}")
    where = f"--admin {admin.url}"
    lines += [
        f"  attpc-ioc fault {where}",
        f"  attpc-ioc fault {first} hang --operation Configure {where}",
        f"  attpc-ioc fault {first} hang --operation Configure --off {where}",
        f"  attpc-ioc fault {first} clear {where}",
    ]
    if fleet.has_data:
        lines.append(f"  attpc-ioc fault {first} data-stop {where}")
    return [*lines, "Ctrl-C ends it."]
