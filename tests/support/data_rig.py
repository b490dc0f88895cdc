"""A rig whose data routers write, with the plugin that watches them, at a pace that a test can wait for."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attpc_ioc.model.command import RUN
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.options import Access, DataOptions
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig, rig
from tests.support.sshd import Sshd

NAME = "data_routers"
SECTION = f"plugins.{NAME}"

QUICK_DATA = DataOptions(cobo_bytes_s=2e6, drain_s=0.3, asads=2, tick_s=0.02, catalog_wait_s=0.2)
"""Rates as the simulator's own, with routers that write often and are soon done after a stop."""

QUICK_WATCH = {"period_s": 0.3, "timeout_s": 1.0, "rate_window_s": 1.0}

NO_LIMITS = {
    "dead_after_s": 600.0,
    "disk_minor_gb": 0.0,
    "disk_major_gb": 0.0,
    "start_min_gb": 0.0,
    "full_minor_h": 0.0,
}
"""Limits that the disk of no machine that runs the tests is in the way of."""

ALL_ACCESS = [
    pytest.param(Access.LOCAL, id="local"),
    pytest.param(Access.SSH, id="ssh"),
    pytest.param(Access.SENTRY, id="sentry"),
]


def section(
    watch: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    interlocks: Mapping[str, str] | None = None,
    closing: Mapping[str, Any] | None = None,
    events: Mapping[str, Any] | None = None,
) -> str:
    """The lines of `[plugins.data_routers]` besides its routers, on top of what all tests have."""
    tables = {
        "": {**QUICK_WATCH, **(watch or {})},
        "limits": {**NO_LIMITS, **(limits or {})},
        "interlocks": dict(interlocks or {}),
        "closing": {"quiet_s": 0.5, **(closing or {})},
        "events": {"behind_s": 2.0, "out_of_step_after_s": 0.2, "torn_after_s": 0.5, **(events or {})},
    }
    lines = []
    for table, values in tables.items():
        if table:
            lines.append(f"[{SECTION}.{table}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


@contextlib.asynccontextmanager
async def data_rig(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    access: Access | Sshd | None = Access.LOCAL,
    data: DataOptions = QUICK_DATA,
    text: str | None = None,
    cobos: int = 2,
    **more: Any,
) -> AsyncIterator[Rig]:
    """Run a fleet that writes data and an IOC that watches it. `text`: of its section, see `section`.

    With a real `sshd` as `access`, the simulated hosts' folders are reached through that; None: each host as
    `data` says.
    """
    ways = data.access if access is None else (access if isinstance(access, Access) else Access.LOCAL,)
    options = replace(data, folder=data.folder or tmp_path / "hosts", access=ways)
    lines = section() if text is None else text
    if isinstance(access, Sshd):
        assert options.folder is not None
        lines = _through_sshd(lines, access, options.folder, cobos)
    tables = not isinstance(access, Sshd)
    given = {SECTION: lines}
    async with rig(
        tmp_path,
        monkeypatch,
        data=options,
        data_tables=tables,
        cobos=cobos,
        **given,
        **more,
    ) as it:
        yield it


def _through_sshd(lines: str, sshd: Sshd, folder: Path, cobos: int) -> str:
    ways_in = [f'ssh_config = "{sshd.config}"', f'known_hosts = "{sshd.known_hosts}"']
    tables = []
    for source in (*(f"CoBo{i}" for i in range(cobos)), "MuTAnT"):
        tables += [
            f"[[{SECTION}.router]]",
            f'sources = ["{source}"]',
            'access = "ssh"',
            'host = "127.0.0.1"',
            f"port = {sshd.port}",
            f'user = "{sshd.user}"',
            f'staging = "{folder / source.lower() / "data"}"',
            'process = "sshd"',
        ]
    return "\n".join([*ways_in, lines, *tables])


async def start_run(it: Rig) -> None:
    """Take all modules to Ready, wait until nothing is against a start, and start a run."""
    await it.take_to(State.READY)
    # The hosts are asked about the folder of the next run, once its number is known.
    await it.until(
        lambda: it.run.next_number >= 0 and not it.run.checklist,
        what=f"a start is possible: {it.run.checklist}",
    )
    await submit_start(it)


async def submit_start(it: Rig) -> None:
    """Start a run, again where a busy machine let a host miss two short periods."""
    end_s = time.monotonic() + PATIENCE_S
    while not (outcome := await it.submit("Start", RUN)).ok:
        busy = "no answer in|did not answer within|not asked yet about"
        assert re.search(busy, outcome.message), outcome.message
        assert time.monotonic() < end_s, outcome.message
        await asyncio.sleep(0.05)


async def stop_run(it: Rig) -> None:
    """Stop the run."""
    outcome = await it.submit("Stop", RUN)
    assert outcome.ok, outcome.message


def shown(it: Rig, name: str) -> Any:
    """The value of a PV as it was posted last; None where it never was."""
    reading = it.posted(name)
    return None if reading is None else reading.value


def alarm(it: Rig, name: str) -> str:
    """The severity of a PV as it was posted last."""
    reading = it.posted(name)
    return "INVALID" if reading is None else reading.severity.name
