"""`attpc-ioc files check`: looks at every frame of a closed run, on all hosts at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.checking import CheckResult, check_files, digest_of
from attpc_plugins.data_routers.closing.comparing import Departure, Trails, compare
from attpc_plugins.data_routers.closing.empty import NOTE
from attpc_plugins.data_routers.closing.figures import counted, figures_of, is_bad, stream_text
from attpc_plugins.data_routers.closing.manifest import ManifestError, StreamFrames
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, SentryHost
from attpc_plugins.data_routers.model import FileEntry
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
from .unclosed import NOT_ALL, no_manifest, unclosed

NO_FILE = "no file"


@dataclass(frozen=True, slots=True)
class Checked:
    """What is in a data router's frames.

    - `fault`: why they were not checked; `absent`: its host has no such run, which is a fault too.
    - `hidden`: no program can check them; `later`: why they cannot be checked yet.
    - `idle`: no board of it took part.
    """

    router: str
    files: tuple[FileEntry, ...] = ()
    streams: tuple[StreamFrames, ...] = ()
    time_s: float = 0.0
    idle: bool = False
    fault: str = ""
    hidden: bool = False
    absent: bool = False
    later: str = ""

    @property
    def looked_at(self) -> bool:
        """Whether its files were looked at."""
        return not (self.fault or self.hidden or self.later)

    @property
    def silent(self) -> bool:
        """Whether it took part and has no file."""
        return self.looked_at and not self.streams and not self.idle

    def lines(self) -> Sequence[str]:
        """Return what is printed of it alone."""
        if not self.looked_at:
            return (self.fault or self.later or "not checked",)
        return [stream_text(stream) for stream in self.streams] or [
            f"{NO_FILE}: {NOTE}" if self.idle else NO_FILE
        ]


def check_command(file: Path, number: int, experiment: str, labels: tuple[str, ...]) -> None:
    """Check and print; exit code 1 if frames are not good or a host was not checked, or `NOT_ALL`."""
    setup = setup_of(file)
    run = run_of(setup, number, experiment, guess=True)
    routers = setup.routers(labels)
    waiting = asyncio.run(unclosed(setup, run, routers))
    closed = tuple(router for router in routers if router.label not in waiting.closings)
    left = [0, 0]
    trails = Trails()
    idle = set(waiting.idle)

    async def work(hosts: dict[str, FileHost | SentryHost]) -> list[Checked]:
        async with (
            with_sources(setup, closed, hosts) as sources,
            reported(lambda: f"{left[0] / 1e9:.1f} of {left[1] / 1e9:.1f} GB"),
        ):
            return await asyncio.gather(
                *(_check(router, sources.get(router.label), run, left, trails, idle) for router in closed)
            )

    checked = asyncio.run(with_hosts(setup, closed, work))
    by_label = {
        one.router: Checked(one.router, idle=True) if one.router in idle and not one.files else one
        for one in checked
    }
    by_label |= {label: Checked(label, later=waiting.text(label)) for label in waiting.closings}
    found = [by_label[router.label] for router in routers]
    departures = compare(
        [stream for one in found for stream in one.streams], setup.settings.events, trails.by_sender
    )
    for one in found:
        senders = {stream.sender for stream in one.streams}
        for line in (*one.lines(), *(d.text for d in departures if d.sender in senders)):
            typer.echo(f"{one.router}: {line}")
    results = _results(found, departures, complete=not labels or len(routers) == len(setup.routers(())))
    recorded = not results or asyncio.run(_record(setup, run, results))
    if hidden := [one.router for one in found if one.hidden]:
        others = "; all other frames are whole and in order" if _is_good(found) and len(found) > 1 else ""
        typer.echo(f"{run} is not fully checked: {', '.join(hidden)}: {NO_FILES}{others}", err=True)
    if waiting.closings:
        typer.echo(waiting.advice(setup, run, waiting.closings), err=True)
    if any(one.absent for one in found) and all(one.absent or one.hidden for one in found):
        typer.echo(f"{run}: no host has it; `attpc-ioc history list` shows the runs", err=True)
    typer.echo(verdict(run, found, departures))
    if (
        waiting.failed
        or not recorded
        or not _is_good(found)
        or any(one.bad for one in departures)
        or _silent(found)
    ):
        raise typer.Exit(1)
    if not all(one.looked_at for one in found):
        raise typer.Exit(NOT_ALL)


def _is_good(found: Sequence[Checked]) -> bool:
    """Return whether the files of each data router alone can be merged, as far as they could be looked at."""
    return not any(one.fault or any(map(is_bad, one.streams)) for one in found)


def _silent(found: Sequence[Checked]) -> list[str]:
    """Return the data routers that have no file, while others have frames."""
    frames = any(stream.first >= 0 for one in found for stream in one.streams)
    return [one.router for one in found if one.silent] if frames else []


def verdict(run: RunRef, found: Sequence[Checked], departures: Sequence[Departure]) -> str:
    """Return the last line: how many boards are in step, or what is wrong with which."""
    streams = [stream for one in found for stream in one.streams if stream.first >= 0 or stream.torn]
    if not streams:
        parts = ["no frame" if any(one.looked_at for one in found) else "nothing checked"]
    else:
        boards = len({stream.sender.partition("_")[0] for stream in streams})
        apart = [one.sender for one in departures if one.bad]
        damaged = [stream.sender for stream in streams if is_bad(stream)]
        in_step = len(streams) > 1 and not (apart or damaged or _silent(found))
        events = figures_of(streams).event_count
        parts = [
            counted(boards, "board") + " in step" * in_step,
            counted(len(streams), "stream"),
            "events unknown" if events is None else counted(events, "event"),
            f"damaged or reset: {_names(damaged)}" if damaged else "nothing damaged",
        ]
        if missing := sum(stream.missing or 0 for stream in streams):
            parts.append(f"{missing:,} missing")
        if apart:
            parts.append(f"not as the others: {_names(apart)}")
    groups = (
        (NO_FILE, _silent(found)),
        ("not checked", [one.router for one in found if one.fault or one.hidden]),
        ("not closed yet", [one.router for one in found if one.later]),
    )
    parts += [f"{what}: {_names(names)}" for what, names in groups if names]
    return f"run {run.number}: {', '.join(parts)}"


def _names(names: Sequence[str]) -> str:
    return " ".join(dict.fromkeys(names))


async def _check(
    router: RouterSettings,
    host: Source | None,
    run: RunRef,
    left: list[int],
    trails: Trails,
    idle: set[str],
) -> Checked:
    """Look at a data router's files; what its manifest says of others is added to `idle`."""
    label = router.label
    if host is None:
        return Checked(label, hidden=True)
    began_s = time.time()
    try:
        raw = await host.manifest(run)
        if raw is None and router.frames is None:
            return Checked(label, fault=no_manifest(router, run), absent=True)
        files = await host.gathered(run, closed=True, checksums=False)
        if raw is not None:
            try:
                where = f"{router.staging}/{run}/{manifest.FILE_NAME}"
                record = await asyncio.to_thread(manifest.load, raw, where)
            except ManifestError:
                if not files:
                    raise
            else:
                idle.update(record.idle)
                if not files:
                    return Checked(label, time_s=began_s, idle=record.note == NOTE)
        left[1] += sum(file.size for file in files)

        def passed(data_bytes: int) -> None:
            left[0] += data_bytes

        streams = await check_files(host, run, files, passed, trails.take)
    except (HostError, ManifestError) as error:
        return Checked(label, fault=str(error))
    return Checked(label, files, streams, began_s)


def _results(
    found: Sequence[Checked], departures: Sequence[Departure], *, complete: bool
) -> list[CheckResult]:
    """Return what goes on record; `complete`: all data routers were asked for."""
    complete = complete and all(one.looked_at for one in found)
    silent = _silent(found)
    results = []
    for one in found:
        if not one.looked_at or one.idle:
            continue
        senders = {stream.sender for stream in one.streams}
        apart = tuple(d.text for d in departures if d.bad and d.sender in senders)
        if one.router in silent:
            apart = ("no frame, while other boards have some",)
        known = apart if apart or complete else None
        results.append(CheckResult(one.router, digest_of(one.files), one.streams, one.time_s, known))
    return results


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
