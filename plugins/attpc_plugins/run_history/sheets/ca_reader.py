"""Reads PVs anywhere on the network, within a time limit and without risk for the IOC; see `ca_child`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from attpc_ioc.errors import system_reason

CHILD = Path(__file__).with_name("ca_child.py")

START_S = 5.0
"""Time limit of the start of the reading process, in addition to that of the reading."""

NAME_SERVERS = "EPICS_CA_NAME_SERVERS"

DISCONNECTED = "disconnected"

LINE_MAX = 1 << 20


async def read_pvs(
    pvs: Iterable[str], limit_s: float, also_at: Iterable[str] = ()
) -> Mapping[str, dict[str, Any]]:
    """Return an answer for each PV, as described in `ca_child`; never raises for a PV's fault.

    PVs are searched according to `EPICS_CA_*` of this process's environment, and at `also_at` (`host:port`,
    over TCP). A PV without an answer within `limit_s` has the fault `disconnected`. The process has ended on
    return, also if the wait is cancelled.
    """
    wanted = list(dict.fromkeys(pvs))
    answers: dict[str, dict[str, Any]] = {}
    if not wanted:
        return answers
    trouble = DISCONNECTED
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, NAME_SERVERS: " ".join([os.environ.get(NAME_SERVERS, ""), *also_at]).strip()},
            limit=LINE_MAX,
        )
    except OSError as error:
        trouble = f"cannot be read: {system_reason(error)}"
    else:
        try:
            async with asyncio.timeout(START_S + limit_s):
                await _talk(process, wanted, limit_s, answers)
        except TimeoutError:
            trouble = f"cannot be read: no answer within {START_S + limit_s:g} s"
        except (OSError, ValueError) as error:
            trouble = f"cannot be read: {type(error).__name__}: {error}"
        finally:
            await _end(process)
        if trouble == DISCONNECTED and process.returncode:
            trouble = f"cannot be read: the reading process ended with code {process.returncode}"
    return {pv: answers.get(pv, {"pv": pv, "fault": trouble}) for pv in wanted}


async def _talk(
    process: asyncio.subprocess.Process, wanted: list[str], limit_s: float, answers: dict[str, dict[str, Any]]
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"limit_s": limit_s, "pvs": wanted}).encode() + b"\n")
    # One that has ended already: its code says more.
    with contextlib.suppress(ConnectionError):
        await process.stdin.drain()
    # Its input stays open until all is read: closing it tells the process to end.
    while line := await process.stdout.readline():
        answer = json.loads(line)
        answers[str(answer["pv"])] = answer
    await process.wait()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
