"""The values of the routers' PVs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attpc_ioc.model.states import Severity, Status
from attpc_ioc.plugin import PluginContext
from attpc_ioc.pvs.row import Reading

from .around import FleetFacts
from .flow import Flow
from .router import Router
from .rows import (
    CLEAN,
    DISK_FREE,
    DISK_USED,
    FILES,
    FLOW,
    GIGABYTE,
    MEGABYTE,
    ONLINE,
    RATE,
    RESTARTED,
    RUN_RATE,
    RUN_WRITTEN,
    TIME_TO_FULL,
    WRITTEN,
)

_FLOW_SEVERITY = {Flow.LOW: Severity.MINOR, Flow.DEAD: Severity.MAJOR}
_LIMIT_STATUS = (Status.NO_ALARM, Status.LOW, Status.LOLO)


def show_router(ctx: PluginContext, router: Router, facts: FleetFacts) -> None:
    """Publish a router's values at each of its sources.

    Nothing is published before the first result of a poll. A source whose ECC server is disabled shows no
    alarm.
    """
    if router.watch.answering is None:
        return
    readings = tuple(_readings(router))
    for source in router.sources:
        for part, reading in (*readings, (RESTARTED, _restarted(router, source, facts))):
            shown = reading if source in facts.enabled else Reading(reading.value)
            ctx.publish(f"{source}:{part}", shown)


def show_run(ctx: PluginContext, routers: Sequence[Router]) -> None:
    """Publish the sums; INVALID while no host answers. A silent host counts with its last value."""
    if all(router.watch.answering is None for router in routers):
        return
    answering = [router for router in routers if router.watch.answering]
    written = sum(router.meter.written.data_bytes for router in routers) / GIGABYTE
    measured = [router for router in answering if router.has_rate]
    rate = sum(router.rate for router in measured) / MEGABYTE
    for pv, value, known in ((RUN_WRITTEN, written, answering), (RUN_RATE, rate, measured)):
        ctx.publish(pv, Reading(value) if known else Reading(value, Severity.INVALID, Status.COMM))


def _readings(router: Router) -> Iterator[tuple[str, Reading]]:
    for part, reading in _values(router):
        known = part in (ONLINE, FLOW) or not router.partial
        if part == RATE:
            known = router.has_rate
        elif part in (DISK_FREE, DISK_USED, TIME_TO_FULL):
            known = known and router.knows_disk
        if router.watch.answering and known:
            yield part, reading
        else:
            yield part, Reading(reading.value, Severity.INVALID, Status.COMM)


def _restarted(router: Router, source: str, facts: FleetFacts) -> Reading:
    restarted = router.restarted(source)
    if not router.watch.answering or router.partial:
        return Reading(int(restarted), Severity.INVALID, Status.COMM)
    matters = source in facts.running or source not in facts.zeroed
    return _alarmed(int(restarted), Severity.MAJOR if restarted and matters else Severity.NO_ALARM)


def _values(router: Router) -> Iterator[tuple[str, Reading]]:
    polled, written = router.polled, router.meter.written
    process = polled is not None and polled.process
    yield ONLINE, _alarmed(int(process), Severity.MAJOR if router.gone else Severity.NO_ALARM)
    yield FLOW, _alarmed(int(router.flow), _FLOW_SEVERITY.get(router.flow, Severity.NO_ALARM))
    yield CLEAN, Reading(int(polled is not None and not router.strays))
    yield FILES, Reading(written.files)
    yield WRITTEN, Reading(written.data_bytes / GIGABYTE)
    yield RATE, Reading(router.rate / MEGABYTE)
    free, total = (polled.disk_free_bytes, polled.disk_total_bytes) if polled is not None else (0, 0)
    yield DISK_FREE, _limited(free / GIGABYTE, router.disk_level)
    yield DISK_USED, Reading(100.0 * (total - free) / total if total else 0.0)
    yield TIME_TO_FULL, _limited(router.hours_to_full, router.full_level)


def _alarmed(value: int, severity: Severity) -> Reading:
    return Reading(value, severity, Status.STATE if severity else Status.NO_ALARM)


def _limited(value: float, level: int) -> Reading:
    return Reading(value, Severity(level), _LIMIT_STATUS[level])
