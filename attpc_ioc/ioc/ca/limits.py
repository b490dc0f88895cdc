"""How much one client may cost, and what all of them did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds on what clients can make the server spend.

    - `max_clients`: circuits at a time; further ones are closed at once.
    - `max_channels`, `max_subscriptions`: of one circuit; further ones are refused.
    - `max_puts`: puts of one circuit at work at a time; further messages of that circuit wait.
    - `max_message_bytes`: the longest message that is taken from a client.
    - `queue_depth`: updates that wait for one subscription; a further one replaces the newest.
    - `max_backlog_bytes`: of all updates that wait for one client; beyond it is disconnected.
    - `send_buffer_bytes`: what the system may hold for a client that does not read.
    - `stall_s`: a client that takes nothing for this long while data waits is disconnected.
    - `dead_peer_s`: a peer that does not answer on the TCP level for this long is disconnected.
    - `turn_messages`: messages of one client that are worked on before others have their turn.
    """

    max_clients: int = 500
    max_channels: int = 20_000
    max_subscriptions: int = 40_000
    max_puts: int = 256
    max_message_bytes: int = 1 << 20
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
