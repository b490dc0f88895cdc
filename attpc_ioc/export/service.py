"""The systemd unit that runs the IOC as a service.

Source of the directives: systemd.service(5), systemd.exec(5), systemd.kill(5). The reasons for them are in
`docs/how-to/service.md`; comments in the unit are for who changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

USER = "attpc"
STATE = "attpc-ioc"
"""The folder under `/var/lib` that the unit has made for its user."""
HOMES = (Path("/home"), Path("/root"), Path("/run/user"))
"""What `ProtectHome=` is about."""

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
StateDirectoryMode=0750
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
OOMScoreAdjust=-500
LimitNOFILE=16384
LimitCORE=0
UMask=0027

# It needs the network, its state directory and nothing else.
ProtectSystem=strict
ProtectHome={home}
{writable}PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
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
    """What the unit is made for; paths are absolute.

    - `program`: the shell command `attpc-ioc`; `settings`: its settings file.
    - `state_dir`: where the settings have the state directory, None where they do not say.
    """

    prefix: str
    program: Path
    settings: Path
    state_dir: Path | None = None
    user: str = USER


def service_unit(service: Service) -> str:
    """Return the text of the unit. Raises ValueError for a path that is not absolute."""
    for path in (service.program, service.settings):
        if not path.is_absolute():
            raise ValueError(f"{path} is not absolute")
    needed, writable = [service.program, service.settings], ""
    if service.state_dir is not None and service.state_dir != _STATE_BASE / STATE:
        needed.append(service.state_dir)
        writable = f"ReadWritePaths={_quoted(service.state_dir)}\n"
    at_home = any(path.is_relative_to(home) for path in needed for home in HOMES)
    return _UNIT.format(
        prefix=_plain(service.prefix),
        user=_plain(service.user),
        state=STATE,
        base=_STATE_BASE,
        program=_word(service.program),
        settings=_word(service.settings),
        home="read-only" if at_home else "yes",
        writable=writable,
    )


def _plain(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(path: Path) -> str:
    """Return a path as systemd reads it: quoted where need be, with its own signs doubled."""
    text = _plain(str(path)).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"' if any(sign in text for sign in " \t'\"\\;") else text


def _word(path: Path) -> str:
    """Return a path as a word of a command line, where `$` begins a variable."""
    return _quoted(path).replace("$", "$$")
