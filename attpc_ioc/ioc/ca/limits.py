"""How much one client may cost, and what all of them did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds on what clients can make the server spend.

    - `max_clients`, `max_clients_per_address`: circuits at a time, of all and of one address; `places` says
      who gives way.
    - `max_memory_bytes`: what channels, subscriptions and waiting updates of all clients take; as above.
    - `max_channels`, `max_subscriptions`: of one circuit; further ones are refused.
    - `max_puts`: puts of one circuit that run at a time, and a quarter of those of all; further ones are
      refused.
    - `max_message_bytes`: the longest message that is taken from a client.
    - `max_input_bytes`: of all clients' messages that are not there as a whole, or wait for their turn;
      beyond it the client with the most is disconnected.
    - `message_s`: a client that does not send the rest of a message for this long is disconnected.
    - `queue_depth`: updates that wait for one subscription; a further one replaces the newest.
    - `max_backlog_bytes`: of all updates that wait for one client; beyond it only the newest of each
      subscription is kept, and if these are more it is disconnected.
    - `send_buffer_bytes`: what the system may hold for a client that does not read.
    - `stall_s`: a client that takes nothing for this long while data waits is disconnected.
    - `dead_peer_s`: a peer that does not answer on the TCP level for this long is disconnected; not before
      `stall_s` and five seconds.
    - `turn_messages`: messages of one client that are worked on before others have their turn.
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
    """Counts since the server was made; those up to `deepest_queue` are of now."""

    clients: int = 0
    channels: int = 0
    subscriptions: int = 0
    queued: int = 0
    """Updates that wait for clients that do not take them."""
    queued_bytes: int = 0
    deepest_queue: int = 0
    """Updates that wait for the slowest client."""
    dropped: int = 0
    disconnected: int = 0
    """Circuits that the server ended because of what the client did or did not do."""
    searches: int = 0
    gets: int = 0
    puts: int = 0
    rejected: int = 0
    events: int = 0
    input_bytes: int = 0
    """What waits now of all clients' messages, because the rest is missing or their turn has not come."""


_LINES = 5
_LINES_ALL = 50
_WINDOW_S = 60.0
_ADDRESSES = 1000


class LineLimit:
    """Limits the log lines about clients, and says how many were left out.

    There are five a minute about one address, and 50 about all: one client may have many addresses.
    """

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, int, int]] = {}
        """Of each address: when its minute began, the lines in it, and how many were left out."""
        self._all_began_s = 0.0
        self._all = 0

    def ask(self, address: str, now_s: float) -> int | None:
        """Return None where a line is to be left out, else how many were left out before it."""
        if now_s - self._all_began_s >= _WINDOW_S:
            self._all_began_s, self._all = now_s, 0
        began_s, lines, left_out = self._told.get(address, (now_s, 0, 0))
        if now_s - began_s >= _WINDOW_S:
            began_s, lines = now_s, 0
        if address not in self._told and len(self._told) >= _ADDRESSES:
            del self._told[next(iter(self._told))]
        if lines >= _LINES or self._all >= _LINES_ALL:
            self._told[address] = (began_s, lines, left_out + 1)
            return None
        self._all += 1
        self._told[address] = (began_s, lines + 1, 0)
        return left_out
