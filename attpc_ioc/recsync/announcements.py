"""Hears recceivers announce themselves by UDP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from ipaddress import IPv4Network

from .messages import Announcement, ProtocolError, read_announcement

AT_ONCE = 16
"""Datagrams read in one turn of the event loop."""

PAUSE_S = 0.1
"""Time between two turns: a flood of datagrams is dropped by the kernel, not by this program."""

_BYTES = 64


def bound_socket(address: str, port: int) -> socket.socket:
    """Return a socket that hears announcements beside those of other programs on the port.

    Raises `OSError`.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


class Announcements:
    """Passes the announcements heard on a socket to a function, those that are allowed.

    `servers` are the networks of recceivers; None allows all that announce themselves. One that another host
    announces is allowed only if both are in `servers`.
    """

    def __init__(
        self,
        sock: socket.socket,
        servers: tuple[IPv4Network, ...] | None,
        heard: Callable[[Announcement], None],
    ) -> None:
        self._sock = sock
        self._servers = servers
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._later: asyncio.TimerHandle | None = None
        self.ignored = 0
        """Datagrams that were no announcement, or not allowed."""
        self._listen()

    def close(self) -> None:
        """Stop, and close the socket."""
        if self._later is not None:
            self._later.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _listen(self) -> None:
        self._later = None
        self._loop.add_reader(self._sock, self._readable)

    def _readable(self) -> None:
        self._loop.remove_reader(self._sock)
        self._later = self._loop.call_later(PAUSE_S, self._listen)
        for _ in range(AT_ONCE):
            try:
                data, (sender, _port) = self._sock.recvfrom(_BYTES)
            except OSError:  # none is left, or the network is away: then later ones come
                return
            try:
                announcement = read_announcement(data, sender)
            except ProtocolError:
                self.ignored += 1
                continue
            if self._allowed(sender, announcement):
                self._heard(announcement)
            else:
                self.ignored += 1

    def _allowed(self, sender: str, announcement: Announcement) -> bool:
        if self._servers is None:
            return announcement.direct
        return self._is_server(sender) and self._is_server(announcement.address)

    def _is_server(self, address: str) -> bool:
        network = IPv4Network(address)
        return any(network.subnet_of(one) for one in self._servers or ())
