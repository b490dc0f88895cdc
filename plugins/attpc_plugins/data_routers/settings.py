"""The plugin's section of the settings file, `[plugins.data_routers]`."""

from __future__ import annotations

import posixpath
from enum import StrEnum
from ipaddress import AddressValueError, IPv6Address
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from attpc_ioc.model.names import FleetNames
from attpc_ioc.settings import Section
from attpc_ioc.settings.values import host_fault

Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
GigaBytes = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


def _path(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f"must be an absolute path on its host, such as '/data/staging', not {value!r}")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError(f"must have no control characters, not {value!r}")
    return value.rstrip("/") or "/"


HostPath = Annotated[str, Field(max_length=1000), AfterValidator(_path)]
"""An absolute path on some host; spaces and any letters are allowed."""


def _host(value: str) -> str:
    """Accept hosts as for ECC servers, and IPv6 addresses too."""
    if value and not _is_ipv6(value) and (fault := host_fault(value)):
        raise ValueError(fault)
    return value


def _is_ipv6(value: str) -> bool:
    try:
        IPv6Address(value)
    except AddressValueError:
        return False
    return True


HostName = Annotated[str, Field(max_length=255), AfterValidator(_host)]


def _known(names: tuple[str, ...], known: tuple[str, ...], what: str) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"there is no {what} {', '.join(unknown)}; there are: {', '.join(known) or 'none'}")
    return names


def _sources(names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    fleet = info.context
    return _known(names, fleet.sources, "data source") if isinstance(fleet, FleetNames) else names


def _ecc_servers(names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    fleet = info.context
    return _known(names, fleet.ecc_servers, "ECC server") if isinstance(fleet, FleetNames) else names


Sources = Annotated[tuple[str, ...], AfterValidator(_sources)]
"""Data sources of the fleet; any names if the fleet is not known."""
EccServers = Annotated[tuple[str, ...], AfterValidator(_ecc_servers)]
"""ECC servers of the fleet; any names if the fleet is not known."""


PROCESSES = ("DataExporter", "dataRouter")
"""What the program of a data router is called, at the AT-TPC and elsewhere."""

SENTRY_PORT = 8080
"""Default port of a sentry."""


class Access(StrEnum):
    """How a host is reached."""

    SENTRY = "sentry"
    SSH = "ssh"
    LOCAL = "local"


class Firmness(StrEnum):
    """The effect of an interlock on the start of a run."""

    REFUSE = "refuse"
    PASSABLE = "passable"
    """Refuses it, unless `Run:Override` is set."""
    WARN = "warn"
    """Allows it, and reports the reason in the log and the plugin's message."""


class ReachSettings(Section):
    """How the host of a router or an ECC server is reached."""

    access: Access = Field(
        description="`sentry`: HTTP to its attpc_sentry; `ssh`; `local`: a folder of this machine."
    )
    host: HostName = Field(default="", description="Host name or address; not for `local`.")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Default: 8080 for `sentry`, else the SSH configuration's."
    )
    user: str = Field(
        default="",
        max_length=64,
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.@-]*)?$",
        description="SSH user. Default: the SSH configuration's, else the IOC's own account.",
    )
    log: HostPath | None = Field(default=None, description="The program's log file on its host.")


class RouterSettings(ReachSettings):
    """`[[plugins.data_routers.router]]`: one data router."""

    name: str = Field(
        default="",
        max_length=39,
        pattern=r"^([A-Za-z0-9_][A-Za-z0-9_-]*)?$",
        description="Its name in commands and messages. Default: the first of `sources`.",
    )
    sources: Sources = Field(
        min_length=1,
        examples=[["CoBo0"]],
        description="The data sources whose data it writes, as named in PVs.",
    )
    staging: HostPath | None = Field(
        default=None,
        description="The folder in which it writes `*.graw`; needed for `ssh` and `local`.",
    )
    frames: Access | None = Field(
        default=None,
        description="For a `sentry`: how the frames are read beside it, `ssh` (with `user`, `frames_port`) "
        "or `local`; needs `staging`. Nothing is written there.",
    )
    frames_port: int | None = Field(
        default=None, ge=1, le=65535, description="SSH port for `frames`. Default: the SSH configuration's."
    )
    process: str | None = Field(
        default=None,
        max_length=255,
        description="Name of its program among the host's processes; empty: not checked. "
        "Default: whichever of `DataExporter` and `dataRouter` runs.",
    )

    @property
    def label(self) -> str:
        """Its name in commands and messages."""
        return self.name or self.sources[0]

    @property
    def processes(self) -> tuple[str, ...]:
        """The names of which its program has one; empty: not checked."""
        if self.process is None:
            return PROCESSES
        return (self.process,) if self.process else ()

    @property
    def program(self) -> str:
        """Its program's name for messages; empty where it is not checked."""
        return " or ".join(self.processes)

    @model_validator(mode="after")
    def _reach(self) -> Self:
        if self.access is not Access.SENTRY and self.staging is None:
            raise ValueError(f"'staging' must be given for access = \"{self.access}\"")
        if self.access is not Access.LOCAL and not self.host:
            raise ValueError(f"'host' must be given for access = \"{self.access}\"")
        if self.access is Access.LOCAL and self.host:
            raise ValueError("'host' must not be given for access = \"local\": that is this machine")
        if self.frames is not None and (self.access is not Access.SENTRY or self.frames is Access.SENTRY):
            raise ValueError('\'frames\' is for access = "sentry" only, and is "ssh" or "local"')
        if self.frames is not None and self.staging is None:
            raise ValueError("'staging' must be given for 'frames'")
        return self

    @property
    def reads_frames(self) -> bool:
        """Whether the frames of its files can be looked at."""
        return self.access is not Access.SENTRY or self.frames is not None


class EccHostSettings(ReachSettings):
    """`[[plugins.data_routers.ecc]]`: the configuration files and the log of an ECC server."""

    names: EccServers = Field(
        default=(), description="The ECC servers of this table; empty: all that no other table names."
    )
    xcfg: HostPath = Field(description="The folder of the `describe-NAME.xcfg`, `configure-NAME.xcfg` files.")

    @model_validator(mode="after")
    def _reach(self) -> Self:
        if self.access is Access.SENTRY:
            raise ValueError('\'access\' must be "ssh" or "local": a sentry shows no configuration files')
        if (self.access is Access.LOCAL) == bool(self.host):
            raise ValueError("'host' must be given for access = \"ssh\", and for that only")
        return self


class LimitsSettings(Section):
    """`[plugins.data_routers.limits]`: when the PVs of a router are in alarm."""

    dead_after_s: Seconds = Field(
        default=10.0, description="Running without a byte for this long is `Dead` (MAJOR)."
    )
    low_ratio: float = Field(
        default=0.3,
        ge=0,
        lt=1,
        description="A CoBo's rate below this part of the others' median is `Low` (MINOR). 0: never.",
    )
    low_after_s: Seconds = Field(default=20.0, description="Time that the rate must be that low, in seconds.")
    gone_after_s: Seconds = Field(
        default=4.0, description="Seconds that the router's process must be missing before an alarm."
    )
    disk_minor_gb: GigaBytes = Field(default=100.0, description="Less free disk space is MINOR.")
    disk_major_gb: GigaBytes = Field(default=20.0, description="Less free disk space is MAJOR.")
    disk_after_s: Seconds = Field(
        default=4.0, description="Seconds that a disk limit must be exceeded before an alarm."
    )
    start_min_gb: GigaBytes = Field(
        default=20.0, description="A start with less free disk space is refused, see `interlocks.disk`."
    )
    full_minor_h: float = Field(
        default=2.0,
        ge=0,
        le=1000,
        description="Less time to full is MINOR; less than the run's remaining time (`Run:MaxDuration`) "
        "is MAJOR.",
    )
    stop_below_gb: GigaBytes = Field(
        default=0.0, description="A disk with less free space stops the run, in the normal way. 0: never."
    )


class InterlockSettings(Section):
    """`[plugins.data_routers.interlocks]`: conditions that refuse the start of a run."""

    router_down: Firmness = Field(
        default=Firmness.REFUSE, description="A host does not answer, or its router is not running."
    )
    router_restarted: Firmness = Field(
        default=Firmness.PASSABLE,
        description="A router was restarted after its board was configured, so it gets no data of the board.",
    )
    dirty: Firmness = Field(
        default=Firmness.PASSABLE, description="Stray files in a staging folder, also those being closed."
    )
    disk: Firmness = Field(
        default=Firmness.PASSABLE, description="Less free disk space than `limits.start_min_gb`."
    )
    run_exists: Firmness = Field(
        default=Firmness.REFUSE, description="The folder of the next run exists on a host."
    )


class ClosingSettings(Section):
    """`[plugins.data_routers.closing]`: how the files of a run are moved to its folder."""

    enabled: bool = Field(default=True, description="Whether this is done automatically after each run.")
    quiet_s: Seconds = Field(
        default=30.0,
        description="Files are moved when none has grown for this long; routers still write after Stop.",
    )
    limit_s: Seconds = Field(
        default=1800.0, description="Seconds that files may go on growing before that is a failure."
    )
    sentry_waits_s: Seconds = Field(
        default=30.0,
        description="Seconds that an attpc_sentry waits before it moves files; 30 is fixed in its source.",
    )
    checksums: bool = Field(default=False, description="Whether the manifest has a SHA-256 of each file.")


class EventsSettings(Section):
    """`[plugins.data_routers.events]`: the look at the frames of the run in progress."""

    enabled: bool = Field(
        default=True, description="Whether the headers of frames are read in the growing files."
    )
    behind_s: Seconds = Field(
        default=10.0,
        description="A board that has not reached an event this long after most of the others is `Behind` "
        "(MINOR).",
    )
    out_of_step_after_s: Seconds = Field(
        default=2.0, description="Seconds that a board must be out of step before it is `OutOfStep` (MAJOR)."
    )
    torn_after_s: Seconds = Field(
        default=4.0,
        description="Seconds that a part of a frame must be the end of a file before it is `Torn` (MAJOR).",
    )
    clock_us: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="A board is out of step when its time at an event has changed against the others' by "
        "more than so many microseconds.",
    )
    missing_minor_percent: Percent = Field(
        default=1.0, description="More missing events of a board, in percent, are MINOR."
    )
    missing_major_percent: Percent = Field(
        default=10.0, description="More missing events of a board, in percent, are MAJOR."
    )
    missing_after_s: Seconds = Field(
        default=10.0, description="Seconds that so many events must be missing before an alarm."
    )


class BackupSettings(Section):
    """`[plugins.data_routers.backup]`: copies of the configuration files that each run used."""

    folder: HostPath | None = Field(
        default=None,
        description="Folder of this machine for `<experiment>/run_0042/`; without it only the history has "
        "them.",
    )


def _place(router: RouterSettings) -> tuple[object, ...]:
    """Return a key that identifies the folder in which a router writes, as far as the settings tell."""
    if router.access is Access.SENTRY:
        # Only the sentry knows the folder that it watches.
        return router.access, router.host.lower(), router.port or SENTRY_PORT
    folder = posixpath.normpath("/" + (router.staging or "").lstrip("/"))
    return router.access, router.host.lower(), router.port, router.user, folder


class DataRoutersSettings(Section):
    """`[plugins.data_routers]`: the hosts that record the data."""

    period_s: Seconds = Field(default=2.0, description="Time between two polls of a host, in seconds.")
    timeout_s: Seconds = Field(default=3.0, description="Time limit of an answer to a poll, in seconds.")
    connect_timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=300,
        description="Time limit of connecting over SSH, and again of starting the agent there, in seconds.",
    )
    rate_window_s: Seconds = Field(default=10.0, description="Averaging time of rates, in seconds.")
    ssh_config: HostPath | None = Field(
        default=None, description="SSH configuration file. Default: `~/.ssh/config` if it exists."
    )
    known_hosts: HostPath | None = Field(
        default=None, description="File of known host keys. Default: `~/.ssh/known_hosts`."
    )
    limits: LimitsSettings = Field(default=LimitsSettings(), description="When PVs are in alarm.")
    interlocks: InterlockSettings = Field(
        default=InterlockSettings(), description="Conditions that refuse the start of a run."
    )
    closing: ClosingSettings = Field(
        default=ClosingSettings(), description="How the files of a run are moved to its folder."
    )
    events: EventsSettings = Field(
        default=EventsSettings(), description="The look at the frames of the run in progress."
    )
    backup: BackupSettings = Field(
        default=BackupSettings(), description="Copies of the configuration files that each run used."
    )
    router: tuple[RouterSettings, ...] = Field(default=(), description="The data routers, one table each.")
    ecc: tuple[EccHostSettings, ...] = Field(
        default=(), description="The configuration files and logs of ECC servers."
    )

    @property
    def online_limit_s(self) -> float:
        """Time limit of `check --online` for one host: that of the running plugin."""
        return 2 * self.connect_timeout_s + self.timeout_s

    @model_validator(mode="after")
    def _together(self) -> Self:
        labels = [router.label for router in self.router]
        sources = [source for router in self.router for source in router.sources]
        for what, names in (("name", labels), ("source", sources)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"each {what} must be of one router only: {', '.join(twice)} is of several")
        writers: dict[tuple[object, ...], list[str]] = {}
        for router in self.router:
            writers.setdefault(_place(router), []).append(router.label)
        if several := [labels for labels in writers.values() if len(labels) > 1]:
            shared = "; ".join(" and ".join(labels) for labels in several)
            raise ValueError(
                f"each staging folder, and each sentry, must be of one router only: {shared} have the same; "
                "use one table for them, with all its data sources in 'sources'"
            )
        served = [name for ecc in self.ecc for name in ecc.names or ("every other ECC server",)]
        if twice := sorted({name for name in served if served.count(name) > 1}):
            raise ValueError(
                f"each ECC server must be in one 'ecc' table only: {', '.join(twice)} is in several"
            )
        return self
