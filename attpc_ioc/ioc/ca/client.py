"""Who is at the other end of a circuit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Client:
    """One connected client program, as it named itself.

    `user` and `host` are what the program claims (empty until then); `address` is the peer's `ip:port` as
    the operating system knows it; `id` counts circuits from 1.
    """

    id: int
    address: str
    user: str = ""
    host: str = ""

    @property
    def host_address(self) -> str:
        """The peer's `ip`."""
        return self.address.rpartition(":")[0]


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """What one client costs, to find one that takes too much.

    `pvs` are the PV names of its `channels`, up to the number that was asked for.
    `queued` updates (of `queued_bytes`) are pending; `dropped` counts updates that newer ones replaced.
    """

    client: Client
    channels: int
    pvs: tuple[str, ...]
    subscriptions: int
    queued: int
    queued_bytes: int
    dropped: int
    puts_at_work: int
    connected_s: float
