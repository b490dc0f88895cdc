"""Switches faults of data hosts by name, for the shell command."""

from __future__ import annotations

from enum import StrEnum

from attpc_ioc.errors import Refused

from .host import DataHost


class HostFault(StrEnum):
    """The faults of one data host, by their names on the command line."""

    DOWN = "host-down"
    HUNG = "host-hung"
    SLOW = "host-slow"
    DISK_FULL = "disk-full"
    DATA_STOP = "data-stop"
    DATA_SLOW = "data-slow"
    DATA_ENDLESS = "data-endless"


_OF_THE_GATE = (HostFault.DOWN, HostFault.HUNG, HostFault.SLOW)


def has(host: DataHost, fault: HostFault) -> bool:
    """Return whether a host supports a fault: a host that is only a local folder has no port."""
    return host.gate is not None or fault not in _OF_THE_GATE


def faults_on(host: DataHost) -> tuple[HostFault, ...]:
    """Return the faults that are on."""
    gate, data = host.gate, host.faults
    states = {
        HostFault.DOWN: gate is not None and not gate.is_open,
        HostFault.HUNG: gate is not None and gate.hung,
        HostFault.SLOW: gate is not None and gate.delay_s > 0,
        HostFault.DISK_FULL: data.disk_full,
        HostFault.DATA_STOP: data.stopped,
        HostFault.DATA_SLOW: data.factor != 1.0,
        HostFault.DATA_ENDLESS: data.endless,
    }
    return tuple(fault for fault, on in states.items() if on)


async def switch(
    host: DataHost, fault: HostFault, on: bool = True, *, factor: float = 0.1, delay_s: float = 1.0
) -> None:
    """Switch a fault on or off.

    `factor` is for `data-slow`, `delay_s` (each way, in seconds) for `host-slow`. Raises `Refused` if a host
    does not support the fault, such as one that is only a local folder.
    """
    if fault in _OF_THE_GATE:
        await _switch_gate(host, fault, on, delay_s)
    elif fault is HostFault.DISK_FULL:
        host.faults.disk_full = on
    elif fault is HostFault.DATA_STOP:
        host.faults.stopped = on
    elif fault is HostFault.DATA_SLOW:
        host.faults.factor = factor if on else 1.0
    else:
        host.faults.endless = on


async def clear(host: DataHost) -> None:
    """Switch off all faults of a host."""
    host.faults.clear()
    if host.gate is not None:
        host.gate.hung = False
        host.gate.delay_s = 0.0
        await host.gate.open()


async def _switch_gate(host: DataHost, fault: HostFault, on: bool, delay_s: float) -> None:
    gate = host.gate
    if gate is None:
        raise Refused(f"{fault} is not about {host.name}: it is reached by its folder on this machine")
    if fault is HostFault.HUNG:
        gate.hung = on
    elif fault is HostFault.SLOW:
        gate.delay_s = delay_s if on else 0.0
    elif on:
        await gate.close()
    else:
        await gate.open()
