"""`attpc-ioc files check`: looks at every frame of a closed run, on all hosts at the same time."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import typer

from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.closing.checking import CheckResult, check_files, digest_of
from attpc_plugins.data_routers.closing.figures import is_bad, stream_text
from attpc_plugins.data_routers.closing.manifest import StreamFrames
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, SentryHost
from attpc_plugins.data_routers.settings import RouterSettings

from .answers import RUN
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
from .progress import reported
from .recording import RESULTS, record_checks
from .sources import NO_FILES, Source, with_sources

NOT_ALL = 3
"""The exit code where all is good that can be looked at, and some files cannot be."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What is in a data router's frames. `fault`: why they were not checked; `hidden`: no program can."""

    streams: tuple[StreamFrames, ...] = ()
    result: CheckResult | None = None
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
    good = True
    for router, one in zip(routers, found, strict=True):
        good = good and not (one.fault or any(map(is_bad, one.streams)))
        lines = ("not checked",) if one.hidden else tuple(map(stream_text, one.streams)) or ("no file",)
        for line in (one.fault,) if one.fault else lines:
            typer.echo(f"{router.label}: {line}")
    results = [one.result for one in found if one.result is not None]
    recorded = not results or asyncio.run(_record(setup, run, results))
    if not good or not recorded:
        raise typer.Exit(1)
    if hidden := [router.label for router, one in zip(routers, found, strict=True) if one.hidden]:
        others = "; all other frames are whole and in order" if len(hidden) < len(found) else ""
        typer.echo(f"{run} is not fully checked: {', '.join(hidden)}: {NO_FILES}{others}", err=True)
        raise typer.Exit(NOT_ALL)


async def _check(router: RouterSettings, host: Source | None, run: RunRef, left: list[int]) -> Checked:
    if host is None:
        return Checked(hidden=True)
    began_s = time.time()
    try:
        files = await host.gathered(run, closed=True, checksums=False)
        left[1] += sum(file.size for file in files)

        def passed(data_bytes: int) -> None:
            left[0] += data_bytes

        streams = await check_files(host, run, files, passed)
    except HostError as error:
        return Checked(fault=str(error))
    return Checked(streams, CheckResult(router.label, digest_of(files), streams, began_s))


async def _record(setup: Setup, run: RunRef, results: list[CheckResult]) -> bool:
    """Have the results in manifests and the run's record: by the IOC, or here, for the next one."""
    question = {
        "do": "checked",
        "run": RUN.dump_python(run, mode="json"),
        "results": RESULTS.dump_python(results, mode="json"),
    }

    async def here() -> bool:
        routers = setup.routers(tuple(result.router for result in results))
        async with open_records(setup) as records:

            async def work(hosts: dict[str, FileHost | SentryHost]) -> bool:
                return await record_checks(setup.settings, hosts, records.closings, run, results, say)

            return await with_hosts(setup, routers, work)

    return await by_the_ioc_or_here(lambda: job_of_the_ioc(setup, question), here)
