"""One SSH connection to a host, kept and made again when it is broken, shared by all that is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from attpc_ioc.log import get_logger

from .host import HostError, HostRefused, HostTimeout, HostUnreachable
from .limits import in_seconds
from .link_errors import SSH_PORT, ShownKey, connect_error, key_refusal
from .worker import Worker

log = get_logger(__name__)

asyncssh.set_log_level("WARNING")  # it tells of each connection and channel; what matters is said here

KEEPALIVE_S = 5.0
KEEPALIVE_COUNT = 2
"""A host that answers nothing for 10 s is lost; a connection that only looks alive costs a look."""

GLOBAL_KNOWN_HOSTS = "/etc/ssh/ssh_known_hosts"
CLOSING_S = 0.5


@dataclass(frozen=True, slots=True)
class Target:
    """A host as the settings name it, and the files that say more of it."""

    host: str
    port: int | None
    user: str
    config: str | None
    known_hosts: str | None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}" + (f" port {self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What the user's SSH files say of a target, read before anything is connected."""

    arguments: dict[str, Any]
    known: asyncssh.SSHKnownHosts
    known_file: str
    """The one to which a new key is to be added."""
    host: str
    alias: str


class _Client(asyncssh.SSHClient):
    """Notes how far a connection came, and which unknown key was shown. Never asks anybody for anything."""

    def __init__(self, known: asyncssh.SSHKnownHosts) -> None:
        self._known = known
        self.connected = False
        self.shown: ShownKey | None = None

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:  # noqa: ARG002
        self.connected = True

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Refuse: it is asked only for keys that are not among the known ones."""
        known = self._known.match(host, addr, port if port != SSH_PORT else None)[0]
        self.shown = ShownKey(host, port, key, tuple(known))
        return False


def _prepare(target: Target) -> _Prepared:
    """Read the SSH files; blocks. Raises `HostRefused` where they cannot be used."""
    arguments: dict[str, Any] = {
        "username": target.user or (),
        "port": target.port or (),
        "config": [target.config] if target.config is not None else (),
        "preferred_auth": "publickey",
        "password": None,
        "password_auth": False,
        "kbdint_auth": False,
        "keepalive_interval": KEEPALIVE_S,
        "keepalive_count_max": KEEPALIVE_COUNT,
        "agent_forwarding": False,
        "x11_forwarding": False,
        "request_pty": False,
    }
    try:
        options = asyncssh.SSHClientConnectionOptions(host=target.host, client_keys=None, **arguments)
        # As for `ssh`: a key file that is named and not there is passed over, a locked one is the agent's.
        identities = options.config.get("IdentityFile", ())
        named = [str(file) for file in identities] if isinstance(identities, list | tuple) else []
        if named:
            arguments["client_keys"] = [file for file in named if os.path.exists(os.path.expanduser(file))]
            arguments["ignore_encrypted"] = True
        # Made once more for its faults, which are told as such.
        asyncssh.SSHClientConnectionOptions(host=target.host, **arguments)
        files = _known_hosts_files(target, options.known_hosts)
        known = asyncssh.read_known_hosts([file for file in files if os.path.exists(file)])
    except (OSError, ValueError, asyncssh.Error) as error:
        raise HostRefused(f"the SSH configuration for {target} cannot be used: {error}") from error
    return _Prepared(arguments, known, files[0], options.host, options.host_key_alias or "")


def _known_hosts_files(target: Target, configured: object) -> list[str]:
    """Return the files of known hosts. A configuration that switches the check off does not do so here."""
    if target.known_hosts is not None:
        return [target.known_hosts]
    named = [str(file) for file in configured] if isinstance(configured, list | tuple) else []
    return [*(named or [str(Path("~/.ssh/known_hosts").expanduser())]), GLOBAL_KNOWN_HOSTS]


class Link:
    """One connection. `connection` gives it, made when there is none; `drop` has the next call make one."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._connection: asyncssh.SSHClientConnection | None = None
        self._making: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._silent: weakref.WeakKeyDictionary[asyncssh.SSHClientConnection, float] = (
            weakref.WeakKeyDictionary()
        )
        self._worker = Worker("the folder of the SSH configuration")

    async def connection(self, limit_s: float) -> asyncssh.SSHClientConnection:
        """Return the connection.

        Raises `HostUnreachable`, `HostTimeout` and `HostRefused`. Those who ask while it is being made wait
        for the same one, each for its own limit.
        """
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._making is None or self._making.done():
            self._making = asyncio.get_running_loop().create_task(self._make(limit_s))
            self._making.add_done_callback(_look_at)
        making = self._making
        await asyncio.wait({making}, timeout=limit_s)
        if not making.done():
            raise HostTimeout(f"{self.target} did not answer within {in_seconds(limit_s)}")
        if making.cancelled():
            raise HostUnreachable(f"{self.target}: the connection was given up")
        return making.result()

    async def _make(self, limit_s: float) -> asyncssh.SSHClientConnection:
        client: _Client | None = None
        prepared: _Prepared | None = None
        try:
            async with asyncio.timeout(limit_s):
                prepared = await self._worker.run(limit_s, lambda _deadline: _prepare(self.target))
                client = _Client(prepared.known)
                try:
                    self._connection = await self._connect(prepared, client)
                except (asyncssh.ConnectionLost, asyncssh.KeyExchangeFailed, ConnectionError):
                    # A host that has no more key of the kind that is known of it hangs up. It is asked for
                    # any key then, to be able to say what it shows; it is trusted no more than before.
                    if not client.connected:
                        raise
                    self._connection = await self._connect(prepared, client, server_host_key_algs="default")
        except HostError:
            raise
        except TimeoutError as error:
            if client is not None and client.connected:
                raise HostTimeout(f"{self.target} did not answer within {in_seconds(limit_s)}") from error
            raise HostUnreachable(f"{self.target}: no connection within {in_seconds(limit_s)}") from error
        except Exception as error:
            if client is not None and prepared is not None and client.shown is not None:
                where = str(self.target)
                raise key_refusal(
                    where, client.shown, prepared.host, prepared.alias, prepared.known_file
                ) from error
            raise connect_error(str(self.target), error) from error
        log.info("SSH connection made", host=str(self.target))
        return self._connection

    async def _connect(
        self, prepared: _Prepared, client: _Client, **more: Any
    ) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            self.target.host,
            known_hosts=prepared.known,
            client_factory=lambda: client,
            **prepared.arguments,
            **more,
        )

    def drop(self, connection: asyncssh.SSHClientConnection, silent_s: float | None = None) -> None:
        """End a connection at once, when it still is the present one; nothing is waited for.

        `silent_s`: for how long, in seconds, something on it had no answer, where that is the reason.
        """
        if self._connection is connection:
            if silent_s is not None:
                self._silent[connection] = silent_s
            connection.abort()
            self._connection = None

    def silence(self, connection: asyncssh.SSHClientConnection | None) -> HostTimeout | None:
        """Return what all are to be told who were asking on a connection that was dropped for its silence."""
        silent_s = self._silent.get(connection) if connection is not None else None
        if silent_s is None:
            return None
        return HostTimeout(f"{self.target} did not answer within {in_seconds(silent_s)}")

    async def close(self) -> None:
        """End the connection, within a second."""
        making, connection = self._making, self._connection
        if making is not None and not making.done():
            making.cancel()
            await asyncio.wait({making}, timeout=CLOSING_S)
        if connection is None:
            return
        self._connection = None
        connection.close()
        try:
            async with asyncio.timeout(CLOSING_S):
                await connection.wait_closed()
        except TimeoutError:
            connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_S):
                    await connection.wait_closed()
        finally:
            # Also where whoever closes it has no more time: nothing of it is left behind.
            connection.abort()


def _look_at(task: asyncio.Task[asyncssh.SSHClientConnection]) -> None:
    """Note a failure that nobody waits for any more; whoever waits gets it too."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("SSH connection failed", reason=str(error))
