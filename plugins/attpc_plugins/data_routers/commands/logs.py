"""`attpc-ioc logs`: the end of a log, with control characters escaped."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import typer

from attpc_ioc.printable import LINES, visible
from attpc_ioc.shell import fail
from attpc_plugins.data_routers.hosts.host import ConfigHost, Host, HostError
from attpc_plugins.data_routers.hosts.local.folders import TAIL_LIMIT
from attpc_plugins.data_routers.hosts.make import config_host_for, host_for

from .base import Setup, setup_of


def logs_command(file: Path, name: str, lines: int) -> None:
    """Print the last lines of the log of a data router or an ECC server."""
    setup = setup_of(file)
    host = _host(setup, name)

    async def read() -> bytes:
        try:
            return await host.tail(lines)
        finally:
            await host.disconnect()

    try:
        raw = asyncio.run(read())
    except HostError as error:
        fail(f"{name}: {error}")
    sys.stdout.write(harmless(raw))
    sys.stdout.flush()
    shown = raw.count(b"\n") + (not raw.endswith(b"\n"))
    if not raw:
        typer.echo(f"the log of {name} is empty", err=True)
    elif shown < lines and len(raw) >= TAIL_LIMIT:
        typer.echo(
            f"these are the last {shown} of the {lines} lines asked for: at most {TAIL_LIMIT >> 20} MiB of a "
            "log is shown, and the first of them may be cut",
            err=True,
        )


def _host(setup: Setup, name: str) -> Host | ConfigHost:
    settings = setup.settings
    for router in settings.router:
        if name == router.label:
            return host_for(router, settings)
    if name in setup.eccs:
        named = [ecc for ecc in settings.ecc if name in ecc.names]
        if found := named or [ecc for ecc in settings.ecc if not ecc.names]:
            return config_host_for(found[0], settings)
        return fail(f"the settings do not say where the log of {name} is: [[plugins.data_routers.ecc]]")
    known = [router.label for router in settings.router] + list(setup.eccs)
    return fail(f"no data router or ECC server is called {name!r}; there are {', '.join(known)}")


def harmless(raw: bytes) -> str:
    r"""Return the text of a log for a terminal, ending in a newline.

    Invalid UTF-8 becomes U+FFFD; characters that control the terminal or the writing direction are escaped,
    such as `\x1b`.
    """
    text = raw.decode("utf-8", errors="replace").replace("\r\n", "\n")
    shown = visible(text, LINES)
    return shown if not shown or shown.endswith("\n") else f"{shown}\n"
