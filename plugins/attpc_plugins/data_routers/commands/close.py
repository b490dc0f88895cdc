"""`attpc-ioc files close` and `files drop`: in the IOC if one runs, else in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import typer

from attpc_ioc.shell import ask_plugin
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost

from .base import PLUGIN, Setup, by_the_ioc_or_here, open_records, run_of, setup_of, with_hosts
from .by_hand import WISHES, Wishes, carry_out

LOOK_S = 0.2


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
    begun = ask_plugin(setup.all, PLUGIN, {"do": "begin", "wishes": WISHES.dump_python(wishes, mode="json")})
    seen = 0
    while True:
        answer = ask_plugin(setup.all, PLUGIN, {"do": "look", "job": begun["job"], "after": seen})
        if not answer["known"]:
            # The IOC was restarted in the meantime.
            return await _by_the_ioc(setup, wishes)
        for text, wrong in answer["lines"]:
            _say(text, wrong)
        seen += len(answer["lines"])
        if answer["ok"] is not None:
            return answer["ok"]
        await asyncio.sleep(LOOK_S)


async def _here(setup: Setup, wishes: Wishes) -> bool:
    async with open_records(setup) as records:

        async def work(hosts: dict[str, FileHost | SentryHost]) -> bool:
            return await carry_out(wishes, setup.settings, hosts, records.closings, _say)

        return await with_hosts(setup, setup.routers(wishes.routers), work)


def _say(text: str, wrong: bool) -> None:
    typer.echo(text, err=wrong)
