"""The ports: TCP, with TLS where there is a certificate, and the Unix socket of a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import ssl
from pathlib import Path

from .door import Door
from .gate import TlsGate
from .settings import WebSettings

BACKLOG = 128


class CannotListen(Exception):
    """Why it cannot listen, and which key of the settings is about that."""


class Listening:
    """What is listened at, and the certificate."""

    def __init__(self, settings: WebSettings, door: Door) -> None:
        self._settings = settings
        self._door = door
        self._gate: TlsGate | None = None
        self._servers: dict[str, asyncio.Server] = {}
        self._tls: ssl.SSLContext | None = None
        self._files_seen: object = None

    async def open(self) -> None:
        """Listen where it does not yet; raises `CannotListen`."""
        settings, loop = self._settings, asyncio.get_running_loop()
        await self.read_certificate()
        if "port" not in self._servers:
            if self._tls is not None:
                self._gate = TlsGate(self._door, self._tls)
            try:
                self._servers["port"] = await loop.create_server(
                    self._gate or self._door, settings.address, settings.port, backlog=BACKLOG
                )
            except OSError as error:
                why = "another program uses it" if error.errno == errno.EADDRINUSE else error.strerror
                place = f"port {settings.port} of {settings.address}"
                raise CannotListen(
                    f"cannot listen at {place}: {why}; port in [plugins.web] can be another"
                ) from None
        path = settings.proxy.socket if settings.proxy is not None else None
        if path is not None and "socket" not in self._servers:
            try:
                self._servers["socket"] = await loop.create_unix_server(self._door, path, backlog=BACKLOG)
                await asyncio.to_thread(os.chmod, path, 0o660)
            except OSError as error:
                raise CannotListen(
                    f"cannot listen at {path}, socket in [plugins.web.proxy]: {error.strerror or error}"
                ) from None

    async def read_certificate(self) -> None:
        """Read the certificate if its files are new; raises `CannotListen`, and an earlier one stays."""
        certificate, key = self._settings.certificate, self._settings.key
        if certificate is None or key is None:
            return
        seen = await asyncio.to_thread(_seen, certificate, key)
        if self._tls is not None and seen == self._files_seen:
            return
        checked = await asyncio.to_thread(tls_of, certificate, key)
        if self._tls is None:
            self._tls = checked
        else:  # that of the server, for connections from now on
            self._tls.load_cert_chain(certificate, key, _no_password)
        self._files_seen = seen

    async def close(self) -> None:
        """Listen no more."""
        for server in self._servers.values():
            server.close()
        if "socket" in self._servers and self._settings.proxy is not None:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(os.unlink, self._settings.proxy.socket or "")
        if self._gate is not None:
            await self._gate.close()


def tls_of(certificate: str, key: str) -> ssl.SSLContext:
    """Return what a TLS server needs; raises `CannotListen`."""
    for name, path, words in (
        ("certificate", certificate, "-----BEGIN CERTIFICATE-----"),
        ("key", key, "PRIVATE KEY-----"),
    ):
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise CannotListen(f"{name} in [plugins.web], {path}: {error.strerror}") from None
        if words.encode() not in text:
            raise CannotListen(f"{name} in [plugins.web], {path}: there is no {name} in PEM in it")
    if b"ENCRYPTED" in text:
        raise CannotListen(f"key in [plugins.web], {key}: it has a password, and must have none")
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        made.load_cert_chain(certificate, key, _no_password)
    except ssl.SSLError as error:
        fits = error.reason != "KEY_VALUES_MISMATCH"
        why = f"TLS cannot use them: {error}" if fits else "they do not belong together"
        raise CannotListen(f"certificate and key in [plugins.web], {certificate} and {key}: {why}") from None
    except (OSError, ValueError) as error:
        raise CannotListen(f"certificate in [plugins.web], {certificate}: {error}") from None
    return made


def _no_password() -> str:
    """Give no password: otherwise the library asks at the terminal."""
    return ""


def _seen(*paths: str) -> object:
    found: list[object] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
    return found
