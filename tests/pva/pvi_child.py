"""A program of ophyd-async that knows nothing but a prefix: `python -m tests.pva.pvi_child PREFIX`.

It makes a device by PVI, uses it, and prints what it has seen as one line of JSON. ophyd-async has one
PVAccess client in a process, so each test has a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from ophyd_async.core import Device, Signal, SignalRW, TriggerableCommand, wait_for_value
from ophyd_async.epics.core import PviDeviceConnector

LIMIT_S = 60.0


async def main(prefix: str) -> dict[str, Any]:
    device: Any = Device(name="attpc", connector=PviDeviceConnector(prefix))
    await device.connect(timeout=LIMIT_S)
    seen: dict[str, Any] = {"children": dict(children(device))}
    await device.config.set("e20009", timeout=LIMIT_S)
    await device.go_to.set("Ready", timeout=LIMIT_S)
    seen["states"] = [
        await state.get_value()
        for state in (device.state, device.ecc.cobo0.state, device.sources.CoBo0.state)
    ]
    await device.run.title.set("by ophyd-async", timeout=LIMIT_S)
    await device.run.run_class.set("Beam", timeout=LIMIT_S)
    await start(device)
    seen["run"] = [await device.run.state.get_value(), await device.run.title.get_value()]
    try:
        await device.run.do_start.trigger(timeout=LIMIT_S)
    except Exception as error:
        seen["refused"] = str(error)
    await device.run.do_stop.trigger(timeout=LIMIT_S)
    seen["stopped"] = await device.run.state.get_value()
    # A table follows within 0.2 s.
    await wait_for_value(device.fleet, lambda table: set(table.State_RBV) == {"Ready"}, timeout=LIMIT_S)
    seen["fleet"] = list((await device.fleet.get_value()).Name)
    seen["units"] = (await device.run.duration.describe())["attpc-run-duration"].get("units")
    return seen


async def start(device: Any) -> None:
    """Start a run, again where a busy machine let a data host or a board be late."""
    ends = asyncio.get_running_loop().time() + LIMIT_S
    while True:
        try:
            await device.run.do_start.trigger(timeout=LIMIT_S)
        except Exception as error:
            if "answer" not in str(error) or asyncio.get_running_loop().time() > ends:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def children(device: Device) -> Any:
    """Yield the kind of each signal and command, by its source."""
    for _, child in device.children():
        if isinstance(child, Signal | TriggerableCommand):
            kind = (
                "x" if isinstance(child, TriggerableCommand) else "w" if isinstance(child, SignalRW) else "r"
            )
            yield child.source.removeprefix("pva://"), kind
        else:
            yield from children(child)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
