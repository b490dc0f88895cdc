"""A real SSH server for each simulated host, and the keys and files for its clients.

One key opens all of them; only public-key login works. A session may only run the command `perl -`, as a
child process in the host's folder; there is no shell, no file transfer, no terminal, no forwarding. `ps` and
`df` are found first in the host's own folder: they report the simulated processes and disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shlex
import signal
from collections.abc import Iterable
from pathlib import Path

import asyncssh

from attpc_ioc.log import get_logger

from .host import DataHost

log = get_logger(__name__)

COMMAND = "perl -"
"""The only command that a session may run."""

_GRACE_S = 2.0
_CHANGED_BYTES = 10_000_000
"""How far `df` may lag."""


class SshKeys:
    """The files in `<folder>`: the servers' key, the client's key, `known_hosts` and `ssh_config`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host_key = folder / "host_key"
        self.client_key = folder / "id_ed25519"
        self.known_hosts = folder / "known_hosts"
        self.config = folder / "ssh_config"

    def make(self) -> None:
        """Make missing keys; raises `OSError`, also if no `ssh_config` can name them."""
        if any(character in str(self.folder) for character in '"\r\n'):
            text = "the SSH configuration cannot name a folder with a double quote or a line break"
            raise OSError(errno.EINVAL, text, str(self.folder))
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.host_key, self.client_key):
            if not path.exists():
                key = asyncssh.generate_private_key("ssh-ed25519", comment="simulated data host")
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(key.export_private_key("openssh"))
        quoted = str(self.client_key).replace("%", "%%")
        self.config.write_text(
            "# Leads to simulated data hosts only.\n"
            "Host *\n"
            "    User attpc\n"
            f'    IdentityFile "{quoted}"\n'
            "    IdentitiesOnly yes\n"
            "    IdentityAgent none\n",
            encoding="utf-8",
        )

    def let_know(self, addresses: Iterable[tuple[str, int]]) -> None:
        """Write `known_hosts` for servers at these addresses; raises `OSError`."""
        key = asyncssh.read_private_key(self.host_key).export_public_key("openssh").decode().split()
        lines = [f"[{host}]:{port} {key[0]} {key[1]}\n" for host, port in addresses]
        self.known_hosts.write_text("".join(lines), encoding="utf-8")


class SshServer:
    """The SSH server of one data host, on a free loopback port for the host's gate only."""

    def __init__(self, host: DataHost, keys: SshKeys, bin_folder: Path) -> None:
        self._host = host
        self._keys = keys
        self._bin = bin_folder
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._children: set[asyncio.subprocess.Process] = set()
        self._sessions: set[asyncio.Task[object]] = set()
        self._published: tuple[int, int] | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address and port."""
        await asyncio.to_thread(self._make_programs)
        self._acceptor = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Guard(self._connections),
            server_host_keys=[str(self._keys.host_key)],
            authorized_client_keys=asyncssh.import_authorized_keys(self._public_key()),
            process_factory=self._session,
            encoding=None,
            allow_pty=False,
            agent_forwarding=False,
            server_version="simulated_data_host",
        )
        return "127.0.0.1", self._acceptor.get_port()

    async def stop(self) -> None:
        """Close every connection and end every child process."""
        if self._acceptor is not None:
            acceptor, self._acceptor = self._acceptor, None
            acceptor.close()
            for connection in list(self._connections):
                connection.abort()
            await acceptor.wait_closed()
        for child in list(self._children):
            _kill(child)
        if self._sessions:
            await asyncio.wait(self._sessions)

    @property
    def children(self) -> tuple[int, ...]:
        """The process ids of running commands."""
        return tuple(child.pid for child in self._children)

    def publish(self) -> None:
        """Update what `ps` and `df` of the host show."""
        host = self._host
        free = host.disk_free_bytes
        if self._published is not None:
            number, published_free = self._published
            if number == host.process_number and abs(published_free - free) < _CHANGED_BYTES:
                return
        try:
            self._write(free)
        except OSError as fault:
            log.warning("simulated ps and df cannot be written", host=host.name, reason=str(fault))
        self._published = (host.process_number, free)

    def _write(self, free: int) -> None:
        host = self._host
        programs = {1: "init", 301: "sshd", 302: "getEccSoapServer"}
        if host.process_runs:
            programs[host.process_number] = host.options.process
        lines = (f"{number:5} S    {name}\n" for number, name in programs.items())
        _write(self._bin / "processes", "".join(lines))
        total = host.disk_total_bytes
        used = total - free
        _write(
            self._bin / "disk",
            "Filesystem     1024-blocks      Used Available Capacity Mounted on\n"
            f"/dev/disk1 {total // 1024} {used // 1024} {free // 1024} {used * 100 // max(total, 1)}% /\n",
        )

    def _public_key(self) -> str:
        return asyncssh.read_private_key(self._keys.client_key).export_public_key("openssh").decode()

    def _make_programs(self) -> None:
        self._bin.mkdir(parents=True, exist_ok=True)
        for name, source in (("ps", "processes"), ("df", "disk")):
            path = self._bin / name
            path.write_text(f"#!/bin/sh\nexec cat {shlex.quote(str(self._bin / source))}\n", encoding="utf-8")
            path.chmod(0o755)
        self._published = None
        self.publish()

    async def _session(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            if process.command != COMMAND or process.subsystem is not None:
                process.stderr.write(f"this simulated host runs {COMMAND!r} and nothing else\n".encode())
                process.exit(126)
                return
            await self._run(process)
        finally:
            self._sessions.discard(task)

    async def _run(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        child = await asyncio.create_subprocess_exec(
            *COMMAND.split(),
            cwd=self._host.folder,
            env={
                "PATH": f"{self._bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                "HOME": str(self._host.folder),
                "USER": "attpc",
                "LANG": "C",
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._children.add(child)
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        gone = asyncio.ensure_future(process.wait_closed())
        inward = asyncio.ensure_future(_pass_in(process.stdin, child.stdin))
        outward = asyncio.ensure_future(
            asyncio.gather(_pass_out(child.stdout, process.stdout), _pass_out(child.stderr, process.stderr))
        )
        try:
            await asyncio.wait({gone, outward}, return_when=asyncio.FIRST_COMPLETED)
            if not outward.done():
                # The caller is gone; as with sshd the command sees the end of its input, and usually ends.
                child.stdin.close()
                await asyncio.wait({outward}, timeout=_GRACE_S)
            else:
                process.exit(await child.wait())
        finally:
            _kill(child)
            for task in (gone, inward, outward):
                task.cancel()
            await asyncio.gather(gone, inward, outward, return_exceptions=True)
            # The end of a process is told once its output was read to its end, also what nobody wants.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE_S):
                    await asyncio.gather(child.stdout.read(), child.stderr.read(), child.wait())
            self._children.discard(child)


async def _pass_in(reader: asyncssh.SSHReader[bytes], writer: asyncio.StreamWriter) -> None:
    """Forward the caller's data, until its end or until the command has closed its input."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _pass_out(reader: asyncio.StreamReader, writer: asyncssh.SSHWriter[bytes]) -> None:
    """Forward the command's output, until its end or until the caller is gone."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


class _Guard(asyncssh.SSHServer):
    """Keeps the connections of one server, so that they can be ended."""

    def __init__(self, connections: set[asyncssh.SSHServerConnection]) -> None:
        self._connections = connections
        self._own: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection."""
        self._own = conn
        self._connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        if self._own is not None:
            self._connections.discard(self._own)


def _kill(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def _write(path: Path, text: str) -> None:
    """Replace a file atomically: a program that reads it sees the old or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
