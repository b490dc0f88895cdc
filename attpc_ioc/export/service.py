"""The systemd unit that runs the IOC as a service.

Source of the directives: systemd.service(5), systemd.exec(5), systemd.kill(5). `docs/how-to/service.md` has
the reasons; comments in the unit are for those who edit it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.errors import AttpcError

USER = "attpc"
STATE = "attpc-ioc"
"""The folder under `/var/lib` that systemd makes for the user of the unit."""
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
"""The folders of `ProtectHome=`."""

TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
"""The folders of `PrivateTmp=`."""

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
"""An account name that systemd accepts (a subset of its "relaxed" form)."""

_STATE_BASE = Path("/var/lib")

_UNIT = """\
[Unit]
Description=Run control of the AT-TPC: EPICS IOC {prefix}
Wants=network-online.target
After=network-online.target
# Restarted without limit: a late address or disk must not stop it.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={user}
StateDirectory={state}
StateDirectoryMode=0700
Environment=XDG_STATE_HOME={base}
ExecStart={program} run {settings}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=2
TimeoutStartSec=60
TimeoutStopSec=10
# A hanging event loop is killed, with its stack in the log, and the service is restarted.
WatchdogSec=10
TimeoutAbortSec=5
# The IOC ends its children in order; systemd kills what is left.
KillMode=mixed
# If a client, a host or a server makes it grow without limit, only this service suffers.
MemoryMax=2G
TasksMax=512
LimitNOFILE=16384
LimitCORE=0
UMask=0027

# It needs only the network and its state directory.
ProtectSystem=strict
ProtectHome={home}
{writable}PrivateTmp={tmp}
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True)
class Service:
    """The parameters of the unit; paths are absolute, and `..` in them is resolved on this machine.

    - `program`: the shell command `attpc-ioc`; `settings`: its settings file.
    - `state_dir`: the state directory of the settings, None if they have none.
    """

    prefix: str
    program: Path
    settings: Path
    state_dir: Path | None = None
    user: str = USER


def service_unit(service: Service) -> str:
    """Return the text of the unit.

    Raises ValueError for a path that is not absolute, and `AttpcError` for an invalid account name and for a
    state directory that other programs empty.
    """
    if not _USER.fullmatch(service.user):
        raise AttpcError(f"{service.user!r} is not the name of an account")
    for path in (service.program, service.settings):
        if not path.is_absolute():
            raise ValueError(f"{path} is not absolute")
    # The file's own name is not resolved: a relative state directory is beside the link, not its target.
    program, settings = (_straight(path.parent) / path.name for path in (service.program, service.settings))
    needed, writable = [program, settings], ""
    state_dir = _straight(service.state_dir) if service.state_dir is not None else _STATE_BASE / STATE
    if _is_in(state_dir, TEMPORARY):
        raise AttpcError(
            f"ioc.state_dir {state_dir} is a temporary folder: it is emptied from time to time, with the run "
            "numbers, and a service does not see it; name another one, or none for /var/lib/attpc-ioc"
        )
    if state_dir != _STATE_BASE / STATE:
        needed.append(state_dir)
        writable = f"ReadWritePaths={_quoted(state_dir)}\n"
    return _UNIT.format(
        prefix=_plain(service.prefix),
        user=_plain(service.user),
        state=STATE,
        base=_STATE_BASE,
        program=_word(program),
        settings=_word(settings),
        home="read-only" if any(_is_in(path, HOMES) for path in needed) else "yes",
        tmp="no" if any(_is_in(path, TEMPORARY) for path in needed) else "yes",
        writable=writable,
    )


def _straight(path: Path) -> Path:
    """Return a path without `..`, which systemd does not accept; other paths keep their links."""
    return path.resolve() if ".." in path.parts else path


def _is_in(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(path: Path) -> str:
    """Return a path as systemd reads it: quoted where needed, with its special characters doubled."""
    text = _plain(str(path)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if any(sign in text for sign in " \t'\"\\;") else text


def _word(path: Path) -> str:
    """Return a path as a word of a command line, in which `$` begins a variable."""
    return _quoted(path).replace("$", "$$")
