"""Limits on what clients may cost, and counts of what they did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits on what clients may cost the server.

    - `max_clients`, `max_clients_per_address`: circuits at a time, in total and of one address; see `places`
      for which one is closed.
    - `max_memory_bytes`: memory of channels, subscriptions and queued updates of all clients; as above.
    - `max_channels`, `max_subscriptions`: of one circuit; further ones are refused.
    - `max_puts`: puts that one circuit may have running, and a quarter of those of all; further ones are
      refused.
    - `max_message_bytes`: the longest message accepted from a client.
    - `max_input_bytes`: buffered input of all clients, incomplete or not yet handled;
      beyond it the client with the most is disconnected.
    - `message_s`: a client that does not send the rest of a message for this long is disconnected.
    - `queue_depth`: updates queued for one subscription; a further one replaces the newest.
    - `max_backlog_bytes`: updates queued for one client; beyond it only the newest of each
      subscription is kept, and if those exceed it too the client is disconnected.
    - `send_buffer_bytes`: what the operating system may hold for a client that does not read.
    - `stall_s`: a client that reads nothing for this long while data is pending is disconnected.
    - `dead_peer_s`: a peer that does not acknowledge on TCP level for this long is disconnected; not before
      `stall_s` and five seconds.
    - `turn_messages`: messages of one client that are handled before others have their turn.
    """

    max_clients: int = 500
    max_clients_per_address: int = 200
    max_memory_bytes: int = 512 << 20
    max_channels: int = 20_000
    max_subscriptions: int = 40_000
    max_puts: int = 4096
    max_message_bytes: int = 1 << 20
    max_input_bytes: int = 64 << 20
    message_s: float = 30.0
    queue_depth: int = 4
    max_backlog_bytes: int = 16 << 20
    send_buffer_bytes: int = 256 << 10
    stall_s: float = 30.0
    dead_peer_s: float = 30.0
    turn_messages: int = 200


@dataclass(slots=True)
class ServerStats:
    """Counts since the server was made; those up to `deepest_queue` are current values."""

    clients: int = 0
    channels: int = 0
    subscriptions: int = 0
    queued: int = 0
    """Updates queued for clients that do not read."""
    queued_bytes: int = 0
    deepest_queue: int = 0
    """Updates queued for the slowest client."""
    dropped: int = 0
    disconnected: int = 0
    """Circuits that the server closed because of the client's behaviour."""
    searches: int = 0
    gets: int = 0
    puts: int = 0
    rejected: int = 0
    events: int = 0
    input_bytes: int = 0
    """Buffered input of all clients now, incomplete or not yet handled."""


_LINES = 5
_LINES_ALL = 50
_WINDOW_S = 60.0
_ADDRESSES = 1000


class LineLimit:
    """Limits log lines about clients, and says how many were left out.

    Five a minute about one address, 50 about all: one client may have many addresses.
    """

    def __init__(self) -> None:
        self._written: dict[str, tuple[float, int, int]] = {}
        """By address: start of its minute, lines in it, and how many were left out."""
        self._all_began_s = 0.0
        self._all = 0

    def ask(self, address: str, now_s: float) -> int | None:
        """Return None if the line is to be left out, else how many were left out before it."""
        if now_s - self._all_began_s >= _WINDOW_S:
            self._all_began_s, self._all = now_s, 0
        began_s, lines, left_out = self._written.get(address, (now_s, 0, 0))
        if now_s - began_s >= _WINDOW_S:
            began_s, lines = now_s, 0
        if address not in self._written and len(self._written) >= _ADDRESSES:
            del self._written[next(iter(self._written))]
        if lines >= _LINES or self._all >= _LINES_ALL:
            self._written[address] = (began_s, lines, left_out + 1)
            return None
        self._all += 1
        self._written[address] = (began_s, lines + 1, 0)
        return left_out
