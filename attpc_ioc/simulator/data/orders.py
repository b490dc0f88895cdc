"""Switches faults of data hosts by name, for the shell command."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from attpc_ioc.errors import Refused

from .host import DataHost
from .options import Access
from .readout import DataFaults
from .sentry_state import SentryFaults


class HostFault(StrEnum):
    """The faults of one data host, by their names on the command line."""

    DOWN = "host-down"
    HUNG = "host-hung"
    SLOW = "host-slow"
    DISK_FULL = "disk-full"
    DATA_STOP = "data-stop"
    DATA_SLOW = "data-slow"
    DATA_ENDLESS = "data-endless"
    DATA_LATE = "data-late"
    DATA_BEHIND = "data-behind"
    DATA_LOSE = "data-lose"
    DATA_RESET = "data-reset"
    DATA_SHIFT = "data-shift"
    DATA_CLOCK = "data-clock"
    DATA_TORN = "data-torn"
    DATA_FULL = "data-full"
    SENTRY_OLD = "sentry-old"
    SENTRY_DISK = "sentry-disk"
    SENTRY_DEAF = "sentry-deaf"
    SENTRY_KILL = "sentry-kill"
    SENTRY_TERM = "sentry-term"


@dataclass(frozen=True, slots=True)
class Amounts:
    """The values that an order gives; what is None has the fault's default."""

    factor: float | None = None
    extra_s: float | None = None
    events: int | None = None


_GATE = (HostFault.DOWN, HostFault.HUNG, HostFault.SLOW)
_DATA: dict[HostFault, tuple[str, str, object]] = {
    HostFault.DISK_FULL: ("disk_full", "", True),
    HostFault.DATA_STOP: ("stopped", "", True),
    HostFault.DATA_SLOW: ("factor", "factor", 0.1),
    HostFault.DATA_ENDLESS: ("endless", "", True),
    HostFault.DATA_LATE: ("late_s", "extra_s", 5.0),
    HostFault.DATA_BEHIND: ("pace", "factor", 0.5),
    HostFault.DATA_LOSE: ("lost", "factor", 0.1),
    HostFault.DATA_RESET: ("reset", "", True),
    HostFault.DATA_SHIFT: ("shift", "events", 1),
    HostFault.DATA_CLOCK: ("clock_s", "extra_s", 1.0),
    HostFault.DATA_TORN: ("torn", "", True),
    HostFault.DATA_FULL: ("full", "", True),
}
"""The field of `DataFaults`, the amount that it is given, and the default of this."""

_SENTRY = {
    HostFault.SENTRY_OLD: "old",
    HostFault.SENTRY_DISK: "wrong_disk",
    HostFault.SENTRY_DEAF: "deaf",
    HostFault.SENTRY_KILL: "kill",
    HostFault.SENTRY_TERM: "term",
}
"""The field of `SentryFaults`."""

_NOT_OF_A_MUTANT = (HostFault.DATA_SLOW, HostFault.DATA_FULL)
_OFF = DataFaults()


def has(host: DataHost, fault: HostFault) -> bool:
    """Return whether a host supports a fault."""
    return not _against(host, fault)


def faults_on(host: DataHost) -> tuple[HostFault, ...]:
    """Return the faults that are on."""
    gate = host.gate
    states = {
        HostFault.DOWN: gate is not None and not gate.is_open and not host.sentry.gone,
        HostFault.HUNG: gate is not None and gate.hung,
        HostFault.SLOW: gate is not None and gate.delay_s > 0,
    }
    for fault, (field, _, _) in _DATA.items():
        states[fault] = getattr(host.faults, field) != getattr(_OFF, field)
    for fault, field in _SENTRY.items():
        states[fault] = getattr(host.sentry.faults, field)
    return tuple(fault for fault, on in states.items() if on)


async def switch(host: DataHost, fault: HostFault, on: bool = True, amounts: Amounts | None = None) -> None:
    """Switch a fault on or off; raises `Refused` if a host does not support it, or not this amount."""
    if reason := _against(host, fault):
        raise Refused(f"{fault} is not about {host.name}: {reason}")
    amounts = amounts or Amounts()
    if fault in _GATE:
        await _switch_gate(host, fault, on, 1.0 if amounts.extra_s is None else amounts.extra_s)
    elif fault in _SENTRY:
        assert host.sentry.switch is not None
        await host.sentry.switch(_SENTRY[fault], on)
    else:
        field, amount, value = _DATA[fault]
        if amount and getattr(amounts, amount) is not None:
            value = getattr(amounts, amount)
        if fault is HostFault.DATA_BEHIND and amounts.factor is not None and amounts.factor >= 1:
            raise Refused(f"{fault} needs a factor below 1: the part of the data that comes in time")
        setattr(host.faults, field, value if on else getattr(_OFF, field))


async def clear(host: DataHost) -> None:
    """Switch off all faults of a host."""
    host.faults.clear()
    if host.sentry.switch is not None:
        for field in SentryFaults.__slots__:
            await host.sentry.switch(field, False)
    if host.gate is not None:
        host.gate.hung = False
        host.gate.delay_s = 0.0
        await host.gate.open()


def _against(host: DataHost, fault: HostFault) -> str:
    """Return why a host does not support a fault; empty if it does."""
    if fault in _GATE and host.gate is None:
        return "it is reached by its folder on this machine"
    if fault in _SENTRY and host.access is not Access.SENTRY:
        return f"it has no sentry, it is reached by {host.access}"
    if fault in _NOT_OF_A_MUTANT and host.board.clock_master:
        return "the MuTAnT's frames have one length"
    return ""


async def _switch_gate(host: DataHost, fault: HostFault, on: bool, delay_s: float) -> None:
    gate = host.gate
    assert gate is not None
    if fault is HostFault.HUNG:
        gate.hung = on
    elif fault is HostFault.SLOW:
        gate.delay_s = delay_s if on else 0.0
    elif on:
        await gate.close()
    elif not host.sentry.gone:
        await gate.open()
