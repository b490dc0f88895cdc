"""`attpc-ioc files close` and `files drop`: in the IOC if one runs, else in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import typer

from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.closing.summary import Summary, summary_for
from attpc_plugins.data_routers.events.streams import Stream
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost
from attpc_plugins.data_routers.settings import RouterSettings

from .base import (
    Setup,
    by_the_ioc_or_here,
    job_of_the_ioc,
    open_records,
    run_of,
    say,
    setup_of,
    with_hosts,
)
from .by_hand import WISHES, Wishes, carry_out
from .sources import with_sources


def close_command(
    file: Path,
    number: int,
    experiment: str,
    labels: tuple[str, ...],
    *,
    drop: bool = False,
    only: tuple[str, ...] = (),
    take_all: bool = False,
    without_missing: bool = False,
    force: bool = False,
) -> None:
    """Close a run's files on the hosts, or give up; exit code 1 unless all is done."""
    setup = setup_of(file)
    routers = setup.routers(labels)
    wishes = Wishes(
        run=run_of(setup, number, experiment),
        routers=tuple(router.label for router in routers),
        named=bool(labels),
        drop=drop,
        only=only,
        take_all=take_all,
        without_missing=without_missing,
        force=force,
    )
    ours = by_the_ioc_or_here(lambda: _by_the_ioc(setup, wishes), lambda: _here(setup, wishes))
    if not asyncio.run(ours):
        raise typer.Exit(1)


async def _by_the_ioc(setup: Setup, wishes: Wishes) -> bool:
    return await job_of_the_ioc(setup, {"do": "begin", "wishes": WISHES.dump_python(wishes, mode="json")})


async def _here(setup: Setup, wishes: Wishes) -> bool:
    routers = setup.routers(wishes.routers)
    async with open_records(setup) as records:

        async def work(hosts: dict[str, FileHost | SentryHost]) -> bool:
            async with with_sources(setup, routers, hosts) as sources:

                def summary(router: RouterSettings) -> Summary:
                    label = router.label

                    def seen(run: RunRef) -> Mapping[str, Stream]:
                        known = records.frames.values.get(label)
                        return known.streams if known is not None and known.run == run else {}

                    return summary_for(router, sources.get(label), setup.settings, seen)

                summaries = {router.label: summary(router) for router in routers}
                return await carry_out(wishes, setup.settings, hosts, records.closings, summaries, say)

        return await with_hosts(setup, routers, work)
