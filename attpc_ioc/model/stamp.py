"""The core's stamp on every recorded event."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """Which IOC, which boot of it, and the event's number in that boot; unique for ever."""

    ioc: str
    boot: str
    seq: int
