"""`attpc-ioc files gather`: brings closed runs together as the merger reads them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from attpc_ioc.model.run import RunRef
from attpc_ioc.shell import fail
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.comparing import compare, rate_of
from attpc_plugins.data_routers.closing.figures import counted, is_bad, stream_text
from attpc_plugins.data_routers.closing.manifest import Manifest, ManifestError
from attpc_plugins.data_routers.closing.steps import amount, names_text
from attpc_plugins.data_routers.events.sync import Sync
from attpc_plugins.data_routers.gathering.copying import Gathering, Progress
from attpc_plugins.data_routers.gathering.layout import (
    GatherError,
    Part,
    Plan,
    Unfinished,
    destination_fault,
    plan_of,
)
from attpc_plugins.data_routers.hosts.host import (
    FileHost,
    HostError,
    HostTimeout,
    HostUnreachable,
    SentryHost,
)
from attpc_plugins.data_routers.settings import EventsSettings, RouterSettings

from .base import Setup, run_of, setup_of, with_hosts
from .progress import reported
from .sources import NO_FILES, Source, with_sources
from .unclosed import no_manifest, unclosed
from .verify import differences, late_files


def gather_command(
    file: Path,
    numbers: list[int],
    experiment: str,
    to: Path,
    labels: tuple[str, ...],
    without: tuple[str, ...],
) -> None:
    """Gather runs one after the other; exit code 1 unless all are there completely."""
    setup = setup_of(file)
    to = to.absolute()
    stagings = {router.label: router.staging for router in setup.settings.router if router.staging}
    real = {label: str(Path(staging).resolve()) for label, staging in stagings.items()}
    if fault := destination_fault(to, stagings) or destination_fault(to.resolve(), real):
        fail(fault)
    left_out = {router.label for router in setup.routers(without)} if without else set[str]()
    routers = tuple(router for router in setup.routers(labels) if router.label not in left_out)
    others = [router.label for router in setup.settings.router if router not in routers]
    runs = [run_of(setup, number, experiment, guess=True) for number in dict.fromkeys(numbers)]
    to.mkdir(parents=True, exist_ok=True)

    doubtful: list[RunRef] = []

    async def work(hosts: dict[str, FileHost | SentryHost]) -> bool:
        async with with_sources(setup, routers, hosts) as sources:
            return all([await _gather(setup, run, to, routers, sources, others, doubtful) for run in runs])

    done = asyncio.run(with_hosts(setup, routers, work))
    if doubtful:
        folders = ", ".join(run.folder for run in doubtful)
        typer.echo(
            f"with warnings, see above: {folders}: look at these runs before they are merged", err=True
        )
    if not done:
        raise typer.Exit(1)


async def _gather(
    setup: Setup,
    run: RunRef,
    to: Path,
    routers: tuple[RouterSettings, ...],
    sources: Mapping[str, Source],
    others: Sequence[str],
    doubtful: list[RunRef],
) -> bool:
    """Gather one run; print what was done or what is wrong, and return whether it is there.

    `others`: the data routers that are left out. A run with a warning is added to `doubtful`.
    """
    waiting = await unclosed(setup, run, routers)
    if waiting.closings:
        return _say_faults(
            run,
            [f"{label}: {waiting.text(label)}" for label in waiting.closings],
            f": {waiting.advice(setup, run, waiting.closings)}",
        )
    shares = await asyncio.gather(*(_part(router, sources.get(router.label), run) for router in routers))
    idle = waiting.idle.union(*(share.record.idle for share in shares if share.record is not None))
    found = [share.if_idle() if share.part.label in idle else share for share in shares]
    faults = [
        f"{router.label}: {fault}"
        for router, share in zip(routers, found, strict=True)
        for fault in share.faults
    ]
    if faults:
        return _say_faults(run, faults)
    try:
        plan = plan_of(run, [share.part for share in found if share.part.label in sources])
    except GatherError as error:
        return _say_faults(run, [str(error)])
    records = [share.record for share in found if share.record is not None]
    away = [share.part.label for share in found if share.part.label in idle and not share.part.files]
    warnings = [*plan.warnings, *doubts(records, setup.settings.events)]
    for warning in warnings:
        typer.echo(f"{run.folder}: {warning}", err=True)
    if warnings:
        doubtful.append(run)
    gathering = Gathering(plan, to, sources)
    if await asyncio.to_thread(lambda: gathering.is_there):
        typer.echo(f"{run.folder}: there already, {_amount(plan)}{_without(plan, others, away)}")
        return True
    began_s = time.monotonic()
    try:
        async with reported(lambda: _so_far(run, gathering.progress, time.monotonic() - began_s)):
            await gathering.carry_out()
    except Unfinished as error:
        how = "repeat the command to go on" if error.again else "once this is mended, repeat the command"
        return _say_faults(run, str(error).splitlines(), f"; what is complete is kept: {how}")
    except GatherError as error:
        return _say_faults(run, [str(error)])
    passed_s = time.monotonic() - began_s
    how = _how(gathering.progress, passed_s)
    typer.echo(f"{run.folder}: {_amount(plan)} in {to / run.folder}: {how}{_without(plan, others, away)}")
    return True


def doubts(records: Sequence[Manifest], events: EventsSettings) -> list[str]:
    """Return what the manifests of a run say against its data, besides what the merger refuses.

    Where no check has compared the boards, what the closings have found is compared.
    """
    lines = [
        f"{record.router}: in the run: {remark}"
        for record in records
        for remark in _of_sync(record.remarks or (), record.sync)
    ]
    lines += [f"{record.router}: {text}" for record in records for text in record.differs]
    streams = {stream.sender: record.router for record in records for stream in record.streams or ()}
    unchecked = [record for record in records if record.checked_s is None]
    found = [stream for record in records for stream in record.streams or ()]
    if unchecked:
        rate_hz = max((rate_of(found, record.started_s, record.stopped_s) for record in records), default=0.0)
        departures = compare(found, events, rate_hz=rate_hz)
        lines += [f"{streams[one.sender]}: {one.text}" for one in departures if one.bad]
        limit = events.missing_minor_percent / 100
        lines += [
            f"{streams[one.sender]}: {one.sender}: {counted(one.missing, 'event')} missing"
            for one in found
            if one.missing and not is_bad(one) and one.missing > limit * (one.last - one.first + 1)
        ]
    return lines


def _of_sync(remarks: Sequence[str], sync: str) -> Sequence[str]:
    """Return what was said of the boards' events in a run: `sync` is the worst of it."""
    words = tuple(f"{state.label}: " for state in (Sync.OUT_OF_STEP, Sync.RESET, Sync.TORN))
    return [remark for remark in remarks if remark.startswith(words)] or ([sync] if sync else [])


@dataclass(frozen=True, slots=True)
class _Share:
    """A data router's share of a run, what is wrong with it, and its manifest where it has one."""

    part: Part
    faults: Sequence[str] = ()
    record: Manifest | None = None

    def if_idle(self) -> _Share:
        """Return the share if no board of the data router took part: what is not there is no fault."""
        return self if self.part.files or self.record is not None else _Share(self.part)


async def _part(router: RouterSettings, host: Source | None, run: RunRef) -> _Share:
    nothing = Part(router.label, (), None)
    if host is None:
        return _Share(nothing, [f"{NO_FILES}; leave it out with --without {router.label}"])
    try:
        raw = await host.manifest(run)
        if raw is None and router.frames is None:
            return _Share(nothing, [no_manifest(router, run)])
        there = await host.gathered(run, closed=True, checksums=False)
        if raw is None:
            return _Share(Part(router.label, there, None))  # a sentry writes none
        where = f"{router.staging}/{run}/{manifest.FILE_NAME}"
        record = manifest.load(raw, where)
        sizes = replace(record, files=tuple(replace(file, sha256="") for file in record.files))
        faults = list(differences(sizes, there, run, router.label))
        if late := await late_files(host, record):
            faults.append(f"late data of this run are still in {router.staging}: {names_text(late)}")
    except (HostUnreachable, HostTimeout) as error:
        without = f"--without {router.label}"
        return _Share(
            nothing, [f"{error}; repeat the command when it answers, or leave it out with {without}"]
        )
    except (HostError, ManifestError) as error:
        return _Share(nothing, str(error).splitlines())
    bad = tuple(stream_text(stream) for stream in record.streams or () if is_bad(stream))
    return _Share(Part(router.label, record.files, raw, bad), faults, record)


def _say_faults(run: RunRef, faults: list[str], more: str = "") -> bool:
    for fault in faults:
        typer.echo(f"{run.folder}: {fault}", err=True)
    typer.echo(f"{run.folder}: not gathered{more}", err=True)
    return False


def _amount(plan: Plan) -> str:
    return amount(sum(map(len, plan.items.values())), plan.data_bytes)


def _without(plan: Plan, others: Sequence[str], away: Sequence[str]) -> str:
    groups = (("empty", plan.empty), ("took no part", away), ("left out", others))
    return "".join(f"; {what}: {', '.join(names)}" for what, names in groups if names)


def _how(progress: Progress, passed_s: float) -> str:
    texts = []
    if progress.there:
        texts.append(f"{_size(progress.there)} was there")
    if progress.linked:
        texts.append(f"{_size(progress.linked)} linked")
    if progress.copied:
        rate = progress.copied / max(passed_s, 1e-3)
        texts.append(f"{_size(progress.copied)} copied at {rate / 1e6:.0f} MB/s")
    return ", ".join(texts) or "no data"


def _size(data_bytes: int) -> str:
    return amount(0, data_bytes).partition(", ")[2]


def _so_far(run: RunRef, progress: Progress, passed_s: float) -> str:
    here = progress.there + progress.copied + progress.linked
    rate = progress.copied / max(passed_s, 1e-3) / 1e6
    return (
        f"{run.folder}: {_size(here)} of {_size(progress.total)}, {rate:.0f} MB/s, "
        f"{counted(progress.working, 'host')} at work"
    )
