"""Data routers whose host runs an `attpc_sentry`: an HTTP server that reports and moves files.

Its behaviour, from its public sources (ATTPC/attpc_sentry):

- `process` and `disk` are the configured *names*. While the router does not run, the sentry answers HTTP 500
  and `could not find a process with name …`, and reports nothing else. (A word like `Inactive` in `process`
  is understood, too.)
- `data_written_gb` is what the router's process has written since its own start, in all runs: only its growth
  belongs to a run. `data_path_files` counts every file of the folder, of any name.
- A disk that it does not find has a total of 0 GB.
- `POST /catalog` waits 30 s, makes the run's folder, renames the files into it one by one, and then looks for
  the router: the answer that the router does not run comes after the files were moved. It stops in the middle
  if the client disconnects.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping

import aiohttp

from attpc_ioc.errors import system_reason
from attpc_ioc.model import outside
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.model import Polled
from attpc_plugins.data_routers.settings import SENTRY_PORT, RouterSettings

from .host import HostFault, HostTimeout, HostUnreachable, RouterGone, RunFolderExists
from .limits import CallLimits, in_seconds
from .words import check_run

GIGA = 1_000_000_000
MOST_GB = 1e9
"""Values above 1e18 bytes are rejected."""
ANSWER_LIMIT = 1 << 16
RECEIVED_AT_ONCE = 1 << 13
SHOWN = 200

DOWN_WORDS = frozenset(
    {"inactive", "offline", "dead", "down", "stopped", "none", "not running", "not found", "missing"}
)
"""Values of `process` for a router that does not run."""

FAILED_STATUS = 500


class HttpSentryHost:
    """A sentry. Implements `SentryHost`."""

    def __init__(self, router: RouterSettings, limits: CallLimits) -> None:
        port = router.port if router.port is not None else SENTRY_PORT
        host = f"[{router.host}]" if ":" in router.host else router.host
        self._host = host
        self._url = f"http://{host}:{port}"
        self._where = f"the sentry at {router.host}:{port}"
        self._processes = router.processes
        self._label = router.label
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def connect(self) -> None:
        """Do nothing: each call connects for itself."""

    async def poll(self, next_run: RunRef | None) -> Polled:  # noqa: ARG002 - a sentry cannot tell
        """Return the sentry's report; `next_exists` is None, because a sentry does not report it.

        Raises `RouterGone` if the router does not run.
        """
        return self._polled(await self._ask("GET", "/status", None, self._limits.poll_s))

    async def catalog(self, run: RunRef) -> Polled:
        """Have the sentry move the run's files, and return its answer; takes half a minute or more.

        Raises `RunFolderExists` if the sentry reports that, and `RouterGone` if the files were moved but the
        router has ended.
        """
        check_run(run)
        body = {"experiment": run.experiment, "run_number": run.number}
        return self._polled(await self._ask("POST", "/catalog", body, self._limits.checksums_s))

    async def tail(self, lines: int) -> bytes:  # noqa: ARG002 - the same for any number
        """Raise `HostFault`: a sentry shows no logs."""
        raise HostFault(
            f"{self._where} shows no logs: the log of {self._label} can be read on its host, or over SSH "
            'with access = "ssh"'
        )

    async def disconnect(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None, limit_s: float) -> bytes:
        """Return the bytes of a good answer."""
        if self._session is None:
            # A proxy of the environment is for the internet, not for the experiment's own network.
            # Each call makes a new connection: the sentry may close a kept one at that moment, and then it
            # would not be known whether it has begun to move files.
            self._session = aiohttp.ClientSession(
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=None),
                connector=aiohttp.TCPConnector(force_close=True, socket_factory=_socket),
                # Answers are not decompressed, because a few bytes can become gigabytes.
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with (
                asyncio.timeout(limit_s),
                self._session.request(method, self._url + path, json=body, allow_redirects=False) as response,
            ):
                status = response.status
                data = await response.content.read(ANSWER_LIMIT)
                while len(data) < ANSWER_LIMIT and (more := await response.content.read(ANSWER_LIMIT)):
                    data += more
        except TimeoutError as error:
            raise HostTimeout(f"{self._where} did not answer within {in_seconds(limit_s)}") from error
        except aiohttp.ClientConnectorError as error:
            raise HostUnreachable(f"{self._where}: {_words(error.os_error)}") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
            raise HostUnreachable(f"{self._where} broke the connection: {error}") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise HostFault(f"{self._where} gave an answer that is not HTTP: {error}") from error
        if status != 200:
            raise self._refusal(status, data)
        if len(data) >= ANSWER_LIMIT:
            raise HostFault(f"{self._where} gave an answer that is far too long")
        return data

    def _refusal(self, status: int, data: bytes) -> HostFault:
        text = _shown(data)
        if status == FAILED_STATUS and "already exists" in text:
            return RunFolderExists(f"{self._where}: {text}")
        if status == FAILED_STATUS and "could not find a process" in text:
            return RouterGone(f"{self._where}: {text}")
        return HostFault(f"{self._where} answered HTTP {status}: {text or 'without a reason'}")

    def _polled(self, data: bytes) -> Polled:
        try:
            answer = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise HostFault(f"{self._where} gave an answer that is not JSON: {_shown(data)}") from error
        if not isinstance(answer, dict):
            raise HostFault(f"{self._where} gave an answer that is not a status: {_shown(data)}")
        process, disk = self._text(answer, "process"), self._text(answer, "disk")
        folder = self._text(answer, "data_path")
        total = self._bytes(answer, "disk_total_gb")
        notes: list[str] = []
        runs = process.strip().lower() not in DOWN_WORDS and process.strip() != ""
        if not runs:
            notes.append(f"the sentry reports for the router: {process or 'nothing'}")
        elif self._processes and process not in self._processes:
            notes.append(f"the sentry watches {process!r}")
        if total == 0:
            notes.append(f"the sentry finds no disk {disk!r}")
        return Polled(
            process=runs,
            files=self._count(answer, "data_path_files"),
            data_bytes=self._bytes(answer, "data_written_gb"),
            disk_free_bytes=self._bytes(answer, "disk_avail_gb"),
            disk_total_bytes=total,
            next_exists=None,
            place=f"{self._host}:{folder}" if folder else "",
            note="; ".join(notes),
        )

    def _value(self, answer: Mapping[str, object], key: str) -> object:
        if key not in answer:
            raise HostFault(f"{self._where} gave a status without {key!r}")
        return answer[key]

    def _text(self, answer: Mapping[str, object], key: str) -> str:
        value = self._value(answer, key)
        if not isinstance(value, str):
            raise self._wrong(key, ValueError(f"{outside.shown(value)} is not a text"))
        return outside.text(value, SHOWN)

    def _bytes(self, answer: Mapping[str, object], key: str) -> int:
        try:
            return round(outside.amount(self._value(answer, key), MOST_GB) * GIGA)
        except ValueError as error:
            raise self._wrong(key, error) from error

    def _count(self, answer: Mapping[str, object], key: str) -> int:
        try:
            return outside.count(self._value(answer, key), outside.MOST_SHOWN)
        except ValueError as error:
            raise self._wrong(key, error) from error

    def _wrong(self, key: str, error: ValueError) -> HostFault:
        return HostFault(f"{self._where} gave an impossible status: {key!r}: {error}")


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket with a small buffer: what it receives is parsed in one turn of the event loop."""
    family, kind, protocol, _name, _address = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_AT_ONCE)
    return made


def _words(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    # In the system's words: asyncio's are `Connect call failed`, with the address once more.
    return os.strerror(error.errno) if error.errno else system_reason(error)


def _shown(data: bytes) -> str:
    return outside.text(" ".join(data.decode("utf-8", "replace").split()), SHOWN)
