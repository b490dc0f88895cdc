"""`attpc-ioc files check`: looks at every frame of a closed run, on all hosts at the same time."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import typer

from attpc_ioc.model.run import RunRef
from attpc_ioc.shell import ask_plugin
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.checking import (
    check_files,
    is_bad,
    remark_check,
    remark_of,
    stream_text,
)
from attpc_plugins.data_routers.closing.manifest import ManifestError, StreamFrames
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, SentryHost
from attpc_plugins.data_routers.settings import RouterSettings

from .answers import RUN
from .base import PLUGIN, Setup, by_the_ioc_or_here, open_records, run_of, setup_of, with_hosts
from .sources import NO_FILES, Source, with_sources

TERMINAL_S = 1.0
LINES_S = 30.0
"""Time between two reports, on a terminal and elsewhere."""


def check_command(file: Path, number: int, experiment: str, labels: tuple[str, ...]) -> None:
    """Check and print; exit code 1 if frames cannot be merged or a host was not checked."""
    setup = setup_of(file)
    run = run_of(setup, number, experiment, guess=True)
    routers = setup.routers(labels)
    left = [0, 0]

    async def work(hosts: dict[str, FileHost | SentryHost]) -> list[tuple[tuple[StreamFrames, ...], str]]:
        async with with_sources(setup, routers, hosts) as sources:
            report = asyncio.create_task(_report(left))
            try:
                return await asyncio.gather(
                    *(_check(router, sources.get(router.label), run, left) for router in routers)
                )
            finally:
                report.cancel()

    found = asyncio.run(with_hosts(setup, routers, work))
    remarks: dict[str, str] = {}
    good = True
    for router, (streams, fault) in zip(routers, found, strict=True):
        good = good and not fault and not any(map(is_bad, streams))
        for line in (fault,) if fault else tuple(map(stream_text, streams)) or ("no file",):
            typer.echo(f"{router.label}: {line}")
        if not fault and streams:
            remarks[router.label] = remark_of(streams)
    if remarks and not asyncio.run(_record(setup, run, remarks)):
        typer.echo("the run's record does not get this: its closing is no longer on record", err=True)
    if not good:
        raise typer.Exit(1)


async def _check(
    router: RouterSettings, host: Source | None, run: RunRef, left: list[int]
) -> tuple[tuple[StreamFrames, ...], str]:
    """Return what is in a data router's frames, or why they were not checked."""
    if host is None:
        return (), f"{NO_FILES}, or check without it"
    try:
        files = await host.gathered(run, closed=True, checksums=False)
        left[1] += sum(file.size for file in files)

        def passed(data_bytes: int) -> None:
            left[0] += data_bytes

        streams = await check_files(host, run, files, passed)
        raw = await host.manifest(run)
        if raw is not None and router.frames is None:
            record = manifest.load(raw, f"{router.staging}/{run}/{manifest.FILE_NAME}")
            if {file.name: file.size for file in record.files} != {file.name: file.size for file in files}:
                return streams, "the files differ from the manifest, see `attpc-ioc files verify`"
            await host.amend(run, manifest.dump(replace(record, streams=streams)))
    except (HostError, ManifestError) as error:
        return (), str(error)
    return streams, ""


async def _record(setup: Setup, run: RunRef, remarks: dict[str, str]) -> bool:
    """Have the results in the run's record: by the IOC, or kept for the next one."""
    plain = RUN.dump_python(run, mode="json")

    async def ask() -> bool:
        known = ask_plugin(setup.all, PLUGIN, {"do": "checked", "run": plain, "remarks": remarks})
        return bool(known["known"])

    async def here() -> bool:
        async with open_records(setup) as records:
            return await remark_check(records.closings, run, remarks)

    return await by_the_ioc_or_here(ask, here)


async def _report(left: list[int]) -> None:
    """Print how far it is until cancelled: one line that changes on a terminal, else a line at times."""
    shown = sys.stderr.isatty()
    while True:
        await asyncio.sleep(TERMINAL_S if shown else LINES_S)
        text = f"{left[0] / 1e9:.1f} of {left[1] / 1e9:.1f} GB"
        typer.echo(f"\r{text:<40}" if shown else text, err=True, nl=not shown)
