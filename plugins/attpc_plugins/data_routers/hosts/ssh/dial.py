"""Makes one SSH connection to a host, through the jump hosts of the user's SSH configuration."""

from __future__ import annotations

import asyncio
import getpass
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncssh

from attpc_plugins.data_routers.hosts.host import HostRefused, HostTimeout, HostUnreachable
from attpc_plugins.data_routers.hosts.limits import CONNECT_S, in_seconds
from attpc_plugins.data_routers.hosts.worker import Worker

from .files import ConfigCopies, expanded, read_known_hosts, usable_certificates, usable_keys
from .link_errors import SSH_PORT, ShownKey, connect_error, key_refusal
from .meter import METER, RECEIVED_AT_ONCE, Meter

asyncssh.set_log_level("WARNING")  # it logs each connection and channel; what matters is logged here

KEEPALIVE_S = 5.0
KEEPALIVE_COUNT = 2
"""A host that does not answer for 10 s is lost; a connection that only seems alive costs one poll."""

PROHIBITED = 1
"""RFC 4254's "administratively prohibited": a reason for not opening a channel."""

USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")

BULK_AT_ONCE = 1 << 18
"""Maximum bytes handled in one turn of the event loop on a connection for whole files."""
BULK_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Ciphers for whole files where the SSH configuration names none: twice as fast here as the default one."""

BARRED_EXCHANGES = (b"group-exchange", b"gss-gex", b"rsa2048")
"""Key exchanges in which the host chooses the numbers: one chosen for it keeps the program busy for minutes,
and whether it is the right host is known only afterwards."""


@dataclass(frozen=True, slots=True)
class Target:
    """A host as the settings name it, its SSH files, and the time limit for connecting."""

    host: str
    port: int | None
    user: str
    config: str | None
    known_hosts: str | None
    connect_s: float = CONNECT_S
    """Applies to the connection with its jump hosts, and again to the start of an agent."""

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}" + (f" port {self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The contents of the user's SSH files for a target, read before connecting."""

    arguments: dict[str, Any]
    known: asyncssh.SSHKnownHosts
    known_file: str
    """The file of known hosts to which a new key should be added."""
    host: str
    alias: str
    jumps: str
    """The jump hosts, as `ProxyJump` names them."""
    direct: bool
    """Whether it is reached without a jump host or proxy command."""
    bad_hosts: tuple[str, ...]
    """Lines of known hosts that were ignored."""
    passed: tuple[str, ...]
    """Everything that was ignored."""


@dataclass(frozen=True, slots=True)
class _Via:
    """A connected jump host, and its name."""

    connection: asyncssh.SSHClientConnection
    name: str


class _Client(asyncssh.SSHClient):
    """Notes how far a connection got, and which unknown key was shown. It never prompts."""

    def __init__(self, known: asyncssh.SSHKnownHosts, outer: Meter | None, at_once: int) -> None:
        self._known = known
        self._outer = outer
        self._at_once = at_once
        self.connected = False
        self.shown: ShownKey | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.connected = True
        Meter(conn, self._outer, self._at_once)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Refuse the key: asyncssh calls this only for unknown keys."""
        known = self._known.match(host, addr, port if port != SSH_PORT else None)[0]
        self.shown = ShownKey(host, port, key, tuple(known))
        return False


class Dial:
    """One attempt to connect, `make`, within the target's `connect_s` from its beginning.

    `at_once`: the most bytes that are handled in one turn of the event loop.
    """

    def __init__(self, target: Target, worker: Worker, at_once: int = RECEIVED_AT_ONCE) -> None:
        self._target = target
        self._at_once = at_once
        self._worker = worker
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._where = str(target)
        """The host that is being connected: the target or a jump host."""
        self._client: _Client | None = None
        self.passed: dict[str, None] = {}
        """What was ignored in the SSH files, each with file and line, in order."""

    async def make(self) -> asyncssh.SSHClientConnection:
        """Return the connection. Raises `HostUnreachable`, `HostTimeout` and `HostRefused`."""
        limit_s = self._target.connect_s
        connection: asyncssh.SSHClientConnection | None = None
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._reach(self._target, None, ())
            return connection
        except TimeoutError as error:
            if self._client is not None and self._client.connected:
                raise HostTimeout(f"{self._where} did not answer within {in_seconds(limit_s)}") from error
            raise HostUnreachable(f"{self._where}: no connection within {in_seconds(limit_s)}") from error
        finally:
            try:
                if self._folder is not None:
                    await asyncio.to_thread(self._folder.cleanup)
            except asyncio.CancelledError:
                if connection is not None:
                    connection.abort()
                raise

    async def _reach(
        self, target: Target, via: _Via | None, before: tuple[Target, ...]
    ) -> asyncssh.SSHClientConnection:
        """Connect to a target, through its jump hosts; `before` are the targets that need it as jump host."""
        where = str(target) if not before else f"the jump host {target} on the way to {self._target.host}"
        self._where, self._client = where, None
        limit_s = self._target.connect_s
        prepared = await self._worker.run(limit_s, lambda _deadline: self._prepare(target, where))
        self.passed |= dict.fromkeys(prepared.passed)
        if via is None and prepared.jumps:
            if any((one.host, one.port) == (target.host, target.port) for one in before):
                raise HostRefused(
                    f"{where} is its own jump host: give it 'ProxyJump none' in the SSH configuration"
                )
            via = await self._jump(target, prepared.jumps, before)
        try:
            connection = await self._connect(target, where, prepared, via)
        except BaseException:
            if via is not None:
                via.connection.abort()
            raise
        if via is not None:
            connection.set_tunnel(via.connection)  # it is closed with the connection
        return connection

    async def _jump(self, target: Target, jumps: str, before: tuple[Target, ...]) -> _Via | None:
        via: _Via | None = None
        for hop in [_hop(target, jump.strip()) for jump in jumps.split(",")]:
            via = _Via(await self._reach(hop, via, (*before, target)), str(hop))
        return via

    async def _connect(
        self, target: Target, where: str, prepared: _Prepared, via: _Via | None
    ) -> asyncssh.SSHClientConnection:
        self._where = where
        outer = None if via is None else via.connection.get_extra_info(METER)
        client = self._client = _Client(prepared.known, outer, self._at_once)

        async def connect(**more: Any) -> asyncssh.SSHClientConnection:
            return await asyncssh.connect(
                target.host,
                known_hosts=prepared.known,
                client_factory=lambda: client,
                tunnel=None if via is None else via.connection,
                **prepared.arguments,
                **more,
            )

        try:
            try:
                return await connect()
            except (asyncssh.ConnectionLost, asyncssh.KeyExchangeFailed, ConnectionError):
                # A host that no longer has a key of the known type disconnects. Asking for any key shows
                # which one it has; that key is not trusted.
                if not client.connected:
                    raise
                return await connect(server_host_key_algs="default")
        except TimeoutError:
            raise
        except asyncssh.ChannelOpenError as error:
            jump = via.name if via is not None else ""
            if error.code == PROHIBITED:
                raise HostRefused(
                    f"the jump host {jump} does not forward to {where}: see 'AllowTcpForwarding' and "
                    "'PermitOpen' of its sshd_config"
                ) from error
            raise HostUnreachable(f"{where}: the jump host {jump} cannot reach it: {error.reason}") from error
        except Exception as error:
            if client.shown is not None:
                raise key_refusal(
                    where,
                    client.shown,
                    prepared.host,
                    prepared.known_file,
                    scan=prepared.direct and via is None and not prepared.alias,
                    passed=prepared.bad_hosts,
                ) from error
            by_command = "" if prepared.direct or via is not None else " (by its ProxyCommand)"
            raise connect_error(f"{where}{by_command}", error) from error

    def _copies(self) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="attpc-ssh-")
        return Path(self._folder.name)

    def _prepare(self, target: Target, where: str) -> _Prepared:
        """Read the SSH files; blocks. Raises `HostRefused` if they cannot be used."""
        copies = ConfigCopies(self._copies)
        try:
            return _read(target, copies, bulk=self._at_once > RECEIVED_AT_ONCE)
        except (OSError, ValueError, asyncssh.Error) as error:
            said = copies.with_names(str(error))
            raise HostRefused(f"the SSH configuration for {where} cannot be used: {said}") from error


def _hop(target: Target, jump: str) -> Target:
    """Return a jump host, `[user@]host[:port]`, with the target's SSH files."""
    user, _, place = jump.removeprefix("ssh://").rpartition("@")
    host, colon, port = place.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = place, ""
    if port and not (port.isascii() and port.isdigit()):
        raise HostRefused(f"'ProxyJump' for {target} names the jump host {jump!r}: its port is not a number")
    return replace(target, host=host.strip("[]"), port=int(port) if port else None, user=user)


def _read(target: Target, copies: ConfigCopies, *, bulk: bool) -> _Prepared:
    arguments: dict[str, Any] = {
        "username": target.user or (),
        "port": target.port or (),
        "config": _config(target, copies),
        "preferred_auth": "publickey",
        "password": None,
        "password_auth": False,
        "kbdint_auth": False,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": KEEPALIVE_COUNT,
        # `Dial.make` has the one limit.
        "connect_timeout": None,
        "login_timeout": 0,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "request_pty": False,
        # Compressed data can expand a thousandfold.
        "compression_algs": ("none",),
    }
    options = asyncssh.SSHClientConnectionOptions(host=target.host, client_keys=None, **arguments)
    found = options.config
    if bulk and not found.get("Ciphers"):
        arguments["encryption_algs"] = BULK_CIPHERS
    arguments["kex_algs"] = tuple(
        name.decode() for name in options.kex_algs if not any(part in name for part in BARRED_EXCHANGES)
    )

    def files(name: str) -> list[str]:
        value = found.get(name, ())
        return [os.path.expanduser(str(file)) for file in value] if isinstance(value, list | tuple) else []

    passed: list[str] = []
    if named := files("IdentityFile"):
        only = bool(found.get("IdentitiesOnly"))
        arguments["client_keys"], bad = usable_keys(named, skip_public=only)
        arguments["ignore_encrypted"] = True
        passed += bad
    if named := files("CertificateFile"):
        arguments["client_certs"], bad = usable_certificates(named)
        passed += bad
    command = found.get("ProxyCommand")
    if isinstance(command, str):
        # `ssh` passes it to a shell, asyncssh does not; and asyncssh would take its standard error
        # as the host's, and a closed one as the connection's end.
        arguments["proxy_command"] = ["/bin/sh", "-c", f"exec 3>&2 2>/dev/null; exec {command}"]
    # Made again for its faults, which are reported separately.
    asyncssh.SSHClientConnectionOptions(host=target.host, **arguments)
    known_files = _known_hosts_files(target, options)
    known, bad_hosts = read_known_hosts(known_files)
    jumps = found.get("ProxyJump")
    return _Prepared(
        arguments,
        known,
        known_files[0],
        options.host,
        options.host_key_alias or "",
        jumps if isinstance(jumps, str) else "",
        command is None,
        bad_hosts,
        (*passed, *bad_hosts),
    )


def _config(target: Target, copies: ConfigCopies) -> list[str]:
    default = os.path.expanduser("~/.ssh/config")
    if target.config is None and not os.access(default, os.R_OK):
        return []
    return [copies.readable(target.config if target.config is not None else default)]


def _known_hosts_files(target: Target, options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    """Return the files of known hosts. A configuration that switches the check off does not do so here."""
    if target.known_hosts is not None:
        return [target.known_hosts]
    tokens = {
        "%": "%",
        "h": options.host,
        "n": target.host,
        "p": str(options.port),
        "r": options.username,
        "d": os.path.expanduser("~"),
        "u": getpass.getuser(),
        "i": str(os.getuid()),
        "k": options.host_key_alias or target.host,
    }
    found: list[str] = []
    for name, default in (
        ("UserKnownHostsFile", USER_KNOWN_HOSTS),
        ("GlobalKnownHostsFile", GLOBAL_KNOWN_HOSTS),
    ):
        named = options.config.get(name)
        files = [str(file) for file in named] if isinstance(named, list) else []
        found += [expanded(file, tokens) for file in (files or default)]
    return found
