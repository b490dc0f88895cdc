"""Reports to the service manager: ready, alive, reloading, stopping, and the state in a line.

The protocol is that of sd_notify(3): datagrams of `NAME=value` lines to the Unix socket that `NOTIFY_SOCKET`
names, a path or, with `@` before it, a name in Linux's abstract space. Without the variable nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, MutableMapping

from attpc_ioc.errors import system_reason
from attpc_ioc.log import get_logger
from attpc_ioc.printable import one_line

log = get_logger(__name__)

STATUS_PERIOD_S = 1.0
"""How often the status is checked; it is sent when it changed."""

_WATCHDOG_SHARE = 3.0
"""Signs of life sent in the time that the manager waits for one: one may be late."""


class ServiceManager:
    """Reports the state of the program to the service manager, if there is one.

    The variables are removed from the environment, so that child processes (such as the embedded database)
    do not report in this program's name. Nothing here blocks: what cannot be sent at once is sent
    with the next message. `run` is for the event loop that serves clients: when that loop hangs, no sign of
    life is sent, and the manager restarts the service.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        address = env.pop("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", ""))
        """The service is restarted after this time without a sign of life; 0: never."""
        self._status = ""
        self._unsent: dict[str, str] = {}
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        elif address:
            log.warning("cannot notify the service manager: not a Unix socket", notify_socket=address)

    def close(self) -> None:
        """Report nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self) -> None:
        """Report that clients are answered, and that reloading is done."""
        self._unsent.pop("RELOADING", None)
        self._send(READY="1")

    def stopping(self) -> None:
        """Report that the program is ending."""
        self._send(STOPPING="1", STATUS="ending")

    def reloading(self) -> None:
        """Report that files are reloaded; `ready` reports the end of it."""
        self._send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows; it is sent only if it changed."""
        line = " ".join(one_line(text).split())
        if line != self._status:
            self._status = line
            self._send(STATUS=line)

    async def run(self, status: Callable[[], str]) -> None:
        """Send signs of life and the present status until cancelled; return if there is no manager."""
        if self._socket is None:
            return
        watchdog_s = self.watchdog_s / _WATCHDOG_SHARE
        period_s = min(watchdog_s, STATUS_PERIOD_S) if watchdog_s else STATUS_PERIOD_S
        loop = asyncio.get_running_loop()
        alive_at = loop.time()
        while self._socket is not None:
            self.status(status())
            if watchdog_s and loop.time() >= alive_at:
                alive_at = loop.time() + watchdog_s - period_s / 2
                self._send(WATCHDOG="1")
            elif self._unsent:
                self._send()
            await asyncio.sleep(period_s)

    def _send(self, **fields: str) -> None:
        if self._socket is None:
            return
        message = self._unsent | fields
        text = "\n".join(f"{name}={value}" for name, value in message.items())
        try:
            self._socket.sendto(text.encode(), self._address)
        except BlockingIOError:
            # A late sign of life is useless; all else is sent when the manager reads again.
            self._unsent = {name: value for name, value in message.items() if name != "WATCHDOG"}
        except OSError as error:
            if not self._unsent:
                log.warning("cannot notify the service manager", reason=system_reason(error))
            self._unsent = {name: value for name, value in message.items() if name != "WATCHDOG"}
        else:
            self._unsent = {}


def _watchdog_s(period_us: str, process: str) -> float:
    """Return the watchdog's time in seconds; 0 if there is none, or it is for another process."""
    if process and process != str(os.getpid()):
        return 0.0
    if not period_us:
        return 0.0
    if not period_us.isdecimal():
        log.warning("WATCHDOG_USEC of the service manager is not a number", watchdog_usec=period_us)
        return 0.0
    return int(period_us) / 1e6
