"""The systemd unit that runs the IOC as a service.

Source of the directives: systemd.service(5), systemd.exec(5), systemd.kill(5). The reasons for them are in
`docs/how-to/service.md`; comments in the unit are for who changes it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.errors import AttpcError

USER = "attpc"
STATE = "attpc-ioc"
"""The folder under `/var/lib` that the unit has made for its user."""
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
"""What `ProtectHome=` is about."""

TEMPORARY = (Path("/tmp"), Path("/var/tmp"))
"""What `PrivateTmp=` is about."""

_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
"""A name of an account as systemd takes it (its "relaxed" form without what no distribution makes)."""

_STATE_BASE = Path("/var/lib")

_UNIT = """\
[Unit]
Description=Run control of the AT-TPC: EPICS IOC {prefix}
Wants=network-online.target
After=network-online.target
# Tried again for ever: an address or a disk that is late is no reason to stay away.
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
# An event loop that hangs is ended, with what it was doing in the log, and started again.
WatchdogSec=10
TimeoutAbortSec=5
# The IOC itself ends what it has started, in its order; what is left then is killed.
KillMode=mixed
# A client, a host or a server that makes it grow without end costs this service, and no other program.
MemoryMax=2G
TasksMax=512
LimitNOFILE=16384
LimitCORE=0
UMask=0027

# It needs the network, its state directory and nothing else.
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
    """What the unit is made for; paths are absolute, and `..` in them goes where it does on this machine.

    - `program`: the shell command `attpc-ioc`; `settings`: its settings file.
    - `state_dir`: where the settings have the state directory, None where they do not say.
    """

    prefix: str
    program: Path
    settings: Path
    state_dir: Path | None = None
    user: str = USER


def service_unit(service: Service) -> str:
    """Return the text of the unit.

    Raises ValueError for a path that is not absolute, and `AttpcError` for an account's name that can be none
    and for a state directory that is emptied behind the IOC's back.
    """
    if not _USER.fullmatch(service.user):
        raise AttpcError(f"{service.user!r} is no name of an account")
    for path in (service.program, service.settings):
        if not path.is_absolute():
            raise ValueError(f"{path} is not absolute")
    # The file's own name stays: a relative state directory is looked for beside the link, not its target.
    program, settings = (_straight(path.parent) / path.name for path in (service.program, service.settings))
    needed, writable = [program, settings], ""
    state_dir = _straight(service.state_dir) if service.state_dir is not None else _STATE_BASE / STATE
    if _is_in(state_dir, TEMPORARY):
        raise AttpcError(
            f"ioc.state_dir {state_dir} is a temporary folder: it is emptied from time to time, run numbers "
            "and all, and a service does not see it; name another one, or none for /var/lib/attpc-ioc"
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
    """Return a path without `..`, which systemd does not take; links stay where there is none of it."""
    return path.resolve() if ".." in path.parts else path


def _is_in(path: Path, folders: tuple[Path, ...]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(path: Path) -> str:
    """Return a path as systemd reads it: quoted where need be, with its own signs doubled."""
    text = _plain(str(path)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if any(sign in text for sign in " \t'\"\\;") else text


def _word(path: Path) -> str:
    """Return a path as a word of a command line, where `$` begins a variable."""
    return _quoted(path).replace("$", "$$")
