"""Messages for errors while connecting over SSH, with what to do."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import asyncssh

from attpc_ioc.errors import system_reason
from attpc_plugins.data_routers.hosts.host import HostError, HostRefused, HostTimeout, HostUnreachable

SSH_PORT = 22


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A host key that is not in the file of known hosts."""

    name: str
    """The name in the file of known hosts: the host's name or its `HostKeyAlias`."""
    port: int
    key: asyncssh.SSHKey
    known_ones: tuple[asyncssh.SSHKey, ...]
    """The keys of that name in the file."""


def key_refusal(
    where: str, shown: ShownKey, host: str, file: str, *, scan: bool, passed: Sequence[str]
) -> HostRefused:
    """Return the error for an unknown or changed host key, with the command that adds it.

    `scan`: whether `ssh-keyscan` reaches the host and finds it by its known-hosts name; `passed` are
    ignored lines of known hosts.
    """
    algorithm = shown.key.get_algorithm()
    fingerprint = shown.key.get_fingerprint()
    kind = algorithm.split("-")[1] if algorithm.startswith("ssh-") else algorithm.split("-")[0]
    name = shown.name if shown.port == SSH_PORT else f"[{shown.name}]:{shown.port}"
    if scan:
        keyscan = f"ssh-keyscan -t {kind} -p {shown.port} {shlex.quote(host)}"
        add = f"{keyscan} >> {shlex.quote(file)}"
    else:
        line = f"{name} {shown.key.export_public_key('openssh').decode('ascii').strip()}"
        add = f"echo {shlex.quote(line)} >> {shlex.quote(file)}"
    compare = (
        f"compare its fingerprint {fingerprint} with what `ssh-keygen -lf "
        f"/etc/ssh/ssh_host_{kind}_key.pub` prints on that host"
    )
    if shown.known_ones:
        known = ", ".join(sorted({key.get_fingerprint() for key in shown.known_ones}))
        remove = f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(file)}"
        return HostRefused(
            f"the {algorithm} host key of {where} has CHANGED from {known}: another machine answers there, "
            f"or the host was reinstalled. If so, {compare}, and then run: {remove} && {add}"
        )
    but = f" (ignored: {'; '.join(passed)})" if passed else ""
    return HostRefused(
        f"the {algorithm} host key of {where} is not known{but}: {compare}, and then run: {add}"
    )


def connect_error(where: str, error: Exception) -> HostError:
    """Return the exception for an error while connecting, other than an unknown host key."""
    if isinstance(error, asyncssh.PermissionDenied):
        return HostRefused(
            f"{where} accepts none of our SSH keys: add the IOC's public key to ~/.ssh/authorized_keys of "
            "that account, or name the key by 'IdentityFile' in the SSH configuration; a key with a "
            f"passphrase must be in the SSH agent, because the IOC cannot ask for it ({error.reason})"
        )
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return HostRefused(f"the host key of {where} cannot be trusted: {error.reason}")
    if isinstance(error, asyncssh.KeyExchangeFailed):
        return HostRefused(
            f"{where} and the IOC support no common algorithms, or its known host key is of a type that it "
            f"no longer has: {error.reason}"
        )
    if isinstance(error, asyncssh.Error):
        return HostUnreachable(f"{where}: {error.reason}")
    if isinstance(error, TimeoutError):
        return HostTimeout(f"{where} did not answer in time")
    if isinstance(error, OSError):
        return HostUnreachable(f"{where}: {_system_words(error)}")
    return HostRefused(f"the SSH configuration for {where} cannot be used: {error}")


def _system_words(error: OSError) -> str:
    # After attempts at several addresses asyncio joins all their texts into one, without an errno.
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return system_reason(error)
