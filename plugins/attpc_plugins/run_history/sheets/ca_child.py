"""A short-lived program that reads PVs by Channel Access and prints one JSON object per line.

It runs in its own process, because libca ends its process when a server sends something unexpected,
keeps threads, and reads its environment once. It imports nothing of this product, so that it starts
quickly. Order on standard input: `{"limit_s": 2.0, "pvs": ["A", "B"]}`. Each answer has `pv` and
either `fault`, or `type` (as in `TYPES`, or `array`), `value`, `units`, `severity` and `stamp` (seconds and
nanoseconds since 1970). It ends when all are answered, at the limit, or when the caller is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import math
import os
import socket
import sys
import threading
from typing import Any

TYPES = ("string", "integer", "float", "enum", "char", "integer", "float")
"""Types by libca's number of a native type."""

TEXT_MAX = 65536
"""Maximum elements of a CHAR array that is read as a text."""

EPICS_EPOCH_S = 631152000
"""The time stamp, in Unix time, of a record that was never processed."""


def without_repeater() -> socket.socket | None:
    """Make libca start no `caRepeater`, which would outlive this process.

    libca starts one if it can bind to the repeater's port. If that is free, libca is directed to a port
    that this process holds: the real one stays free for other programs on this machine.
    """
    port = os.environ.get("EPICS_CA_REPEATER_PORT", "5065")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(("", int(port)))
        except (OSError, ValueError, OverflowError):
            return None
    held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    held.bind(("", 0))
    os.environ["EPICS_CA_REPEATER_PORT"] = str(held.getsockname()[1])
    return held


def say(answer: dict[str, Any]) -> None:
    """Print one answer at once."""
    sys.stdout.write(json.dumps(answer, allow_nan=False) + "\n")
    sys.stdout.flush()


async def read(pv: str, limit_s: float) -> dict[str, Any]:
    """Return the answer for one PV."""
    import aioca

    info = await aioca.cainfo(pv, timeout=limit_s, throw=False)
    if not info.ok:
        return {"pv": pv, "fault": "disconnected"}
    if not info.read:
        return {"pv": pv, "fault": "no read access"}
    kind = TYPES[info.datatype]
    text = kind == "char" and info.count > 1
    array = info.count > 1 and not text
    stamped, described = await asyncio.gather(
        aioca.caget(
            pv,
            datatype=aioca.DBR_CHAR_STR if text else aioca.DBR_ENUM_STR if kind == "enum" else None,
            format=aioca.FORMAT_TIME,
            count=1 if array else min(info.count, TEXT_MAX),
            timeout=limit_s,
            throw=False,
        ),
        aioca.caget(pv, format=aioca.FORMAT_CTRL, count=1, timeout=limit_s, throw=False),
    )
    if not (stamped.ok and described.ok):
        return {"pv": pv, "fault": "disconnected"}
    seconds, nanoseconds = stamped.raw_stamp
    answer: dict[str, Any] = {
        "pv": pv,
        "type": "array" if array else "text" if text else "integer" if kind == "char" else kind,
        "units": str(getattr(described, "units", "")),
        "severity": int(stamped.severity),
        "stamp": None if seconds <= EPICS_EPOCH_S else [int(seconds), int(nanoseconds)],
    }
    if array:
        return answer | {"value": int(info.count)}
    if kind == "enum":
        number: Any = described
        return answer | {"value": [int(number), str(stamped)]}
    return answer | {"value": plain(stamped, answer["type"])}


def plain(value: Any, kind: str) -> int | float | str:
    """Return a value for JSON; a float that is not finite becomes a text."""
    if kind in ("string", "text"):
        return str(value)
    if kind == "integer":
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else str(number)


async def answer_each(pvs: list[str], limit_s: float) -> None:
    """Read all PVs at once, each within the limit, and print each answer as it comes."""

    async def one(pv: str) -> None:
        try:
            async with asyncio.timeout(limit_s):
                answer = await read(pv, limit_s)
        except TimeoutError:
            answer = {"pv": pv, "fault": "disconnected"}
        except Exception as error:  # a fault of one PV must not stop the others
            answer = {"pv": pv, "fault": f"cannot be read: {type(error).__name__}: {error}"[:300]}
        say(answer)

    await asyncio.gather(*(one(pv) for pv in pvs))


def end_with_asker() -> None:
    """End this process when its standard input is closed: the caller is gone."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Read the order, answer it, and end."""
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_asker, daemon=True).start()
    held = without_repeater()
    with contextlib.ExitStack() as stack:
        if held is not None:
            stack.enter_context(held)
        # Imported here: the environment is set, and the import is done when the limit begins.
        importlib.import_module("aioca")
        asyncio.run(answer_each(list(order["pvs"]), float(order["limit_s"])))
        sys.stdout.flush()
        # libca's orderly end would wait for servers that do not answer.
        os._exit(0)


if __name__ == "__main__":
    main()
