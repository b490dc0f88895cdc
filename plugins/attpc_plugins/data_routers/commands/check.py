"""`attpc-ioc files check`: looks at every frame of a closed run, on all hosts at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
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
from .progress import reported
from .sources import NO_FILES, Source, with_sources

NOT_ALL = 3
"""The exit code where all is good that can be looked at, and some files cannot be."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is in a data router's frames. `fault`: why they were not checked; `hidden`: no program can."""

    streams: tuple[StreamFrames, ...] = ()
    fault: str = ""
    hidden: bool = False


def check_command(file: Path, number: int, experiment: str, labels: tuple[str, ...]) -> None:
    """Check and print; exit code 1 if frames cannot be merged or a host was not checked, or `NOT_ALL`."""
    setup = setup_of(file)
    run = run_of(setup, number, experiment, guess=True)
    routers = setup.routers(labels)
    left = [0, 0]

    async def work(hosts: dict[str, FileHost | SentryHost]) -> list[Checked]:
        async with (
            with_sources(setup, routers, hosts) as sources,
            reported(lambda: f"{left[0] / 1e9:.1f} of {left[1] / 1e9:.1f} GB"),
        ):
            return await asyncio.gather(
                *(_check(router, sources.get(router.label), run, left) for router in routers)
            )

    found = asyncio.run(with_hosts(setup, routers, work))
    remarks: dict[str, str] = {}
    good = True
    for router, one in zip(routers, found, strict=True):
        good = good and not (one.fault or any(map(is_bad, one.streams)))
        lines = ("not checked",) if one.hidden else tuple(map(stream_text, one.streams)) or ("no file",)
        for line in (one.fault,) if one.fault else lines:
            typer.echo(f"{router.label}: {line}")
        if not one.fault and one.streams:
            remarks[router.label] = remark_of(one.streams)
    if remarks and not asyncio.run(_record(setup, run, remarks)):
        typer.echo("the run's record does not get this: its closing is no longer on record", err=True)
    if not good:
        raise typer.Exit(1)
    if hidden := [router.label for router, one in zip(routers, found, strict=True) if one.hidden]:
        others = "; all other frames are whole and in order" if len(hidden) < len(found) else ""
        typer.echo(f"{run} is not fully checked: {', '.join(hidden)}: {NO_FILES}{others}", err=True)
        raise typer.Exit(NOT_ALL)


async def _check(router: RouterSettings, host: Source | None, run: RunRef, left: list[int]) -> Checked:
    if host is None:
        return Checked(hidden=True)
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
                return Checked(fault="the files differ from the manifest, see `attpc-ioc files verify`")
            await host.amend(run, manifest.dump(replace(record, streams=streams)))
    except (HostError, ManifestError) as error:
        return Checked(fault=str(error))
    return Checked(streams)


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
