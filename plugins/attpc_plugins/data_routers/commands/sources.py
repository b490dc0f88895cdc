"""The hosts from which commands read the files of closed runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost, Source
from attpc_plugins.data_routers.hosts.make import frame_host_for
from attpc_plugins.data_routers.settings import RouterSettings

from .base import Setup

NO_FILES = "a sentry shows no files, unless its table has 'staging' and 'frames = \"ssh\"' or \"local\""


@contextlib.asynccontextmanager
async def with_sources(
    setup: Setup, routers: tuple[RouterSettings, ...], hosts: Mapping[str, FileHost | SentryHost]
) -> AsyncIterator[dict[str, Source]]:
    """Give the hosts from which files can be read, by label; beside a sentry if its table says how."""
    found: dict[str, Source] = {}
    for router in routers:
        host = frame_host_for(router, setup.settings, hosts[router.label])
        if isinstance(host, Source):
            found[router.label] = host
    try:
        yield found
    finally:
        own = [host for label, host in found.items() if host is not hosts[label]]
        await asyncio.gather(*(host.disconnect() for host in own), return_exceptions=True)
