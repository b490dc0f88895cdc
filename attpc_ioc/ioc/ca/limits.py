"""How much one client may cost, and what all of them did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds on what clients can make the server spend.

    - `max_clients`: circuits at a time; a further one takes the place of the oldest that has had time to make
      a channel and has none, or is closed at once.
    - `max_channels`, `max_subscriptions`: of one circuit; further ones are refused.
    - `max_puts`: puts of one circuit at work at a time; further ones are refused.
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
    found: int = 0
    gets: int = 0
    puts: int = 0
    rejected: int = 0
    events: int = 0
    input_bytes: int = 0
    """What waits now of all clients' messages, because the rest is missing or their turn has not come."""


_LINES = 5
_WINDOW_S = 60.0
_ADDRESSES = 1000


class LineLimit:
    """Bounds how many lines the log has about one address: five a minute, and how many were left out."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[float, int]] = {}

    def ask(self, address: str, now_s: float) -> int | None:
        """Return None where a line is to be left out, else how many were left out before it."""
        began_s, lines = self._told.get(address, (now_s, 0))
        left_out = 0
        if now_s - began_s >= _WINDOW_S:
            left_out = max(0, lines - _LINES)
            began_s, lines = now_s, 0
        if address not in self._told and len(self._told) >= _ADDRESSES:
            del self._told[next(iter(self._told))]
        self._told[address] = (began_s, lines + 1)
        return left_out if lines < _LINES else None
