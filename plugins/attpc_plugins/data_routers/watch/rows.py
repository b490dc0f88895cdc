"""The rows of the data routers: `$(P)<source>:Router:` and the sums at `$(P)Run:`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from attpc_ioc.model.command import Scope, ScopeKind
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.row import AlarmUse, Archive, Limits, Record, Row
from attpc_plugins.data_routers.settings import LimitsSettings

from .flow import NEVER_FULL_H, Flow

ONLINE = "Router:Online_RBV"
RESTARTED = "Router:Restarted_RBV"
CLEAN = "Router:Clean_RBV"
FILES = "Router:Files_RBV"
WRITTEN = "Router:Written_RBV"
RATE = "Router:Rate_RBV"
DISK_FREE = "Router:DiskFree_RBV"
DISK_USED = "Router:DiskUsed_RBV"
TIME_TO_FULL = "Router:TimeToFull_RBV"
FLOW = "Router:Flow_RBV"
"""Parts of the names of a source's PVs."""

_RUN_WRITTEN, _RUN_RATE = "Written_RBV", "Rate_RBV"
RUN_WRITTEN, RUN_RATE = f"Run:{_RUN_WRITTEN}", f"Run:{_RUN_RATE}"
OVERRIDE = "Run:Override"
"""Names after the prefix."""

DISK_UNKNOWN = "its free disk space is not known"

GIGABYTE = 1e9
MEGABYTE = 1e6

Why = Callable[[str, str], str]
"""Returns the reason of an alarm for a row's part and a source's name; empty if there is none."""

_NO_YES = ("No", "Yes")


def where_routers_are(row: Row, sources: frozenset[str]) -> Row:
    """Return a row of this plugin, limited to the `sources` that have a router.

    The PVs of a source without a router never get a value, nor do the sums if there is no router at all.
    """
    if row.scope is ScopeKind.SOURCE:
        return replace(row, used_in=sources)
    together = row.scope is ScopeKind.RUN and row.part in (_RUN_WRITTEN, _RUN_RATE)
    return replace(row, used_in=frozenset()) if together and not sources else row


def in_table(row: Row) -> Row:
    """Return a row of this plugin, as a column of the table `Routers` if it is of a router."""
    return replace(row, table="Routers") if row.part.startswith("Router:") else row


def router_rows(limits: LimitsSettings, why: Why) -> Iterator[Row]:
    """Yield the rows of this plugin. They are INVALID and UDF until the first poll of a router."""

    def reason(part: str) -> Callable[[Fleet, Scope], str]:
        return lambda _fleet, scope: why(part, scope.name)

    source = ScopeKind.SOURCE
    yield Row(
        ONLINE,
        source,
        Record.BI,
        "Its data router's process runs",
        labels=("Offline", "Online"),
        severities={0: Severity.MAJOR},
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("data router does not run", delay_s=5),
        guidance="Start the data router on its host again. INVALID: the host does not answer; "
        "Plugin:data_routers:Message_RBV says why.",
        reason=reason(ONLINE),
    )
    yield Row(
        RESTARTED,
        source,
        Record.BI,
        "Restarted since its board's Configure",
        labels=_NO_YES,
        severities={1: Severity.MAJOR},
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("data router restarted since Configure"),
        guidance="A board connects to its data router in Configure only: until the next one nothing of it is "
        "written. Between runs: Reset and Configure the board. In a run: stop the run first. No alarm for "
        "the MuTAnT between runs: each start of a run configures it again.",
        reason=reason(RESTARTED),
    )
    yield Row(
        FLOW,
        source,
        Record.MBBI,
        "Whether data come in the run",
        labels=tuple(flow.label for flow in Flow),
        severities={int(Flow.LOW): Severity.MINOR, int(Flow.DEAD): Severity.MAJOR},
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("data do not come"),
        guidance="Dead: the board, its link or its data router has died or was restarted, whatever its ECC "
        "server says, or "
        "there are no triggers (then all are Dead): stop the run when its data matter. Low: look at "
        "its thresholds and its link.",
        reason=reason(FLOW),
    )
    yield Row(
        CLEAN,
        source,
        Record.BI,
        "No stray files where it writes",
        labels=("Dirty", "Clean"),
        archive=Archive.MONITOR,
        guidance="Dirty before a run: close the last run (`attpc-ioc files close`), or move the files away "
        "with `mv -n`, which replaces nothing. Late data of closed runs are no stray files.",
    )
    yield Row(
        FILES,
        source,
        Record.LONGIN,
        "Files of the run in progress",
        archive=Archive.MONITOR,
    )
    yield Row(
        WRITTEN,
        source,
        Record.AI,
        "Data of the run in progress",
        units="GB",
        precision=3,
        limits=Limits(lopr=0.0),
        archive=Archive.SCAN,
        archive_period_s=10.0,
    )
    yield Row(
        RATE,
        source,
        Record.AI,
        "Rate of data",
        units="MB/s",
        precision=2,
        limits=Limits(lopr=0.0),
        archive=Archive.SCAN,
        archive_period_s=10.0,
    )
    yield Row(
        DISK_FREE,
        source,
        Record.AI,
        "Free space of its disk",
        units="GB",
        precision=1,
        limits=Limits(lopr=0.0, low=limits.disk_minor_gb, lolo=limits.disk_major_gb),
        archive=Archive.SCAN,
        archive_period_s=60.0,
        alarm_tree=True,
        alarm=AlarmUse("disk is nearly full", delay_s=10),
        guidance="Make room on the disk of the data router's host. INVALID although the host answers: it "
        "does not find the disk, such as a sentry that was started with a wrong name of it.",
        reason=reason(DISK_FREE),
    )
    yield Row(
        DISK_USED,
        source,
        Record.AI,
        "Used part of its disk",
        units="%",
        precision=1,
        limits=Limits(lopr=0.0, hopr=100.0),
        archive=Archive.SCAN,
        archive_period_s=60.0,
    )
    yield Row(
        TIME_TO_FULL,
        source,
        Record.AI,
        "Time until its disk is full",
        units="h",
        precision=2,
        limits=Limits(lopr=0.0, hopr=NEVER_FULL_H, low=limits.full_minor_h),
        alarm_tree=True,
        alarm=AlarmUse("disk will soon be full", latching=False, delay_s=60),
        guidance="At the present rate of all that write to the disk. MAJOR: before Run:MaxDuration is over. "
        "Make room, or stop the run earlier.",
        reason=reason(TIME_TO_FULL),
    )
    yield Row(
        _RUN_WRITTEN,
        ScopeKind.RUN,
        Record.AI,
        "Data of all routers in the run",
        units="GB",
        precision=3,
        limits=Limits(lopr=0.0),
        archive=Archive.SCAN,
        archive_period_s=10.0,
    )
    yield Row(
        _RUN_RATE,
        ScopeKind.RUN,
        Record.AI,
        "Rate of all routers together",
        units="MB/s",
        precision=2,
        limits=Limits(lopr=0.0),
        archive=Archive.SCAN,
        archive_period_s=10.0,
    )
    yield Row(
        "Override",
        ScopeKind.RUN,
        Record.BO,
        "Pass the passable reasons once",
        labels=_NO_YES,
        setpoint="override",
        saved=False,
        initial=0,
        archive=Archive.MONITOR,
        guidance="Yes passes those reasons against a start that the settings call passable. "
        "The next accepted start sets it to No again.",
    )
