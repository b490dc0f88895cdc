"""The rows of the IOC itself, `$(P)IOC:`: the names, types, units and limits of devIocStats.

Source: `ioc.template` and `iocEnvVar.template` of epics-modules/iocStats. `SYSRESET` and the writable update
periods are left out on purpose: no client may restart run control. The `CA_` names beyond `CA_CLNT_CNT` and
`CA_CONN_CNT` are this server's own. `attpc_ioc.ioc.stats` publishes the values.
"""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.states import Severity

from .row import AlarmUse, Archive, Limits, Record, Row

KIND = ScopeKind.IOC

ACCESS_FILE, ACCESS_TEXT = "AccessFile_RBV", "AccessText_RBV"
OTHER_SERVERS, CLOCK_STEP = "OtherServers_RBV", "ClockStep_RBV"
PVACCESS, PVACCESS_TEXT = "PvAccess_RBV", "PvAccessText_RBV"
"""Parts of the names of rows that others publish."""

ACCESS_FILE_LABELS = ("None", "InForce", "Broken")
"""Labels for the access security file, by the numbers of `attpc_ioc.access.FileStatus`."""

PVACCESS_LABELS = ("Off", "Serving", "Failed")
"""Labels for PVAccess, by the numbers in `attpc_ioc.ioc.pvaccess`."""

ACCESS_LABELS = ("Running", "Maintenance", "Test", "OFFLINE")


def _text(part: str, desc: str) -> Row:
    return Row(part, KIND, Record.STRINGIN, desc, initial="")


def _long(part: str, desc: str) -> Row:
    return Row(part, KIND, Record.LONG_TEXT, desc, initial="")


def _number(
    part: str,
    desc: str,
    units: str = "",
    limits: Limits = Limits(),  # noqa: B008  (frozen)
    *,
    precision: int = 0,
    mdel: float = 0.0,
    record: Record = Record.AI,
) -> Row:
    return Row(
        part,
        KIND,
        record,
        desc,
        units=units,
        limits=limits,
        precision=precision,
        mdel=mdel,
        adel=mdel,
        initial=0.0,
    )


_MEGABYTE = 1024.0 * 1024.0
_LOAD = Limits(hopr=100.0, lopr=0.0, hihi=80.0, high=70.0)

ROWS: tuple[Row, ...] = (
    Row(
        "ACCESS",
        KIND,
        Record.MBBO,
        "Access mode of the IOC",
        labels=ACCESS_LABELS,
        severities={1: Severity.MINOR, 2: Severity.MINOR, 3: Severity.MAJOR},
        initial=0,
    ),
    _text("STARTTOD", "Time and date of startup"),
    _text("TOD", "Current time and date"),
    Row(
        "HEARTBEAT",
        KIND,
        Record.CALCOUT,
        "1 Hz counter since startup",
        initial=0.0,
        archive=Archive.SCAN,
        archive_period_s=10.0,
        alarm_tree=True,
        alarm=AlarmUse("run control is not reachable", delay_s=10),
        guidance="It has no alarm of its own: it is in alarm when it cannot be reached, and then so is every "
        "PV of this IOC. Is the IOC's host up, is its service running, does the network work? The hardware "
        "and a run continue without the IOC.",
    ),
    _text("UPTIME", "Elapsed time since start"),
    _number("CA_CLNT_CNT", "Number of CA clients", limits=Limits(hopr=200.0, hihi=175.0, high=100.0)),
    _number("CA_CONN_CNT", "Number of CA connections"),
    _number("CA_SUB_CNT", "Number of CA subscriptions"),
    _number("CA_QUEUED", "CA updates queued for all clients"),
    _number("CA_QUEUED_BYTES", "Memory of queued CA updates", "byte"),
    _number("CA_QUEUE_MAX", "Most CA updates queued for one client"),
    _number("CA_DROPPED", "CA updates replaced by newer ones"),
    _number("CA_DISCON_CNT", "CA clients disconnected by the IOC"),
    _number("CA_REFUSED", "CA puts refused or failed"),
    _number("CA_EVENT_RATE", "CA updates sent", "1/s", precision=1),
    _number("CA_GET_RATE", "CA gets", "1/s", precision=1),
    _number("CA_PUT_RATE", "CA puts", "1/s", precision=1),
    _number("CA_SEARCH_RATE", "CA searches received", "1/s", precision=1),
    _number("PVA_CLNT_CNT", "Number of PVAccess clients"),
    _number("PVA_PV_CNT", "Number of PVs with a PVAccess client"),
    _number("PVA_REFUSED", "PVAccess puts refused or failed"),
    _number("RECORD_CNT", "Number of records"),
    _number("FD_MAX", "Max file descriptors"),
    _number("FD_CNT", "Allocated file descriptors"),
    _number("FD_FREE", "Available FDs", limits=Limits(hopr=150.0, low=20.0, lolo=5.0), record=Record.CALC),
    _number("SYS_CPU_LOAD", "System CPU load", "%", _LOAD, precision=1, mdel=0.1),
    _number("IOC_CPU_LOAD", "IOC CPU load", "%", _LOAD, precision=1, mdel=0.1),
    _number("CPU_CNT", "Number of CPUs"),
    _number("MEM_USED", "Allocated memory", "byte", mdel=_MEGABYTE),
    _number("MEM_FREE", "Free memory", "byte", mdel=_MEGABYTE),
    _number("MEM_MAX", "Maximum memory", "byte"),
    _text("KERNEL_VERS", "Kernel version"),
    _text("EPICS_VERS", "Version of the CA implementation"),
    _long("EPICS_VERSION", "Version of the CA implementation"),
    _text("HOSTNAME", "Host name"),
    _text("APP_DIR1", "Application directory part 1"),
    _text("APP_DIR2", "Application directory part 2"),
    _long("APP_DIR", "Application directory"),
    _text("ENGINEER", "Engineer"),
    _text("LOCATION", "Location"),
    _number("PROCESS_ID", "Process ID"),
    _number("PARENT_ID", "Parent process ID"),
    Row(
        ACCESS_FILE,
        KIND,
        Record.MBBI,
        "Access security file",
        labels=ACCESS_FILE_LABELS,
        severities={2: Severity.MAJOR},
        initial=0,
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("access security file is broken", latching=False),
        guidance="Broken: the access security file was changed and cannot be read; the earlier rules stay in "
        "force. AccessText_RBV has file, line and column; correct it and send the IOC SIGHUP "
        "(systemctl reload attpc-ioc).",
    ),
    Row(
        ACCESS_TEXT,
        KIND,
        Record.LONG_TEXT,
        "Message on the access security file",
        elements=4096,
        initial="",
    ),
    Row(
        OTHER_SERVERS,
        KIND,
        Record.LONG_TEXT,
        "Others that answer for this prefix",
        initial="",
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("another server answers for run control's names"),
        guidance="Another IOC serves the same prefix, or a gateway leads to one: clients connect to either "
        "of them. The PV has its address, host and process: stop it, or give it a "
        "prefix of its own. A gateway in front of this IOC is not shown. The PV clears within two minutes.",
    ),
    Row(
        PVACCESS,
        KIND,
        Record.MBBI,
        "Whether PVAccess is served",
        labels=PVACCESS_LABELS,
        initial=0,
        guidance="PVAccess is switched on, but p4p, which it needs, is not installed; PvAccessText_RBV says "
        "why. Channel Access is not affected. Install p4p, or set pva.enabled to false in the settings.",
    ),
    Row(PVACCESS_TEXT, KIND, Record.LONG_TEXT, "PVAccess: ports, or why not served", initial=""),
    Row(
        CLOCK_STEP,
        KIND,
        Record.AI,
        "Last step back of the time stamps",
        units="s",
        precision=3,
        initial=0.0,
        archive=Archive.MONITOR,
        guidance="The host's clock was set back by more than the time stamps may run ahead: stamps went "
        "back by this much. Check the host's time service.",
    ),
)
