"""A server that shows another state with each poll: its changes are counted, and none of them is lost."""

from __future__ import annotations

import asyncio
import itertools
import logging
from pathlib import Path

import pytest

from attpc_ioc.control.modules import module
from attpc_ioc.model.events import Origin, StateChanged
from attpc_ioc.model.states import State
from attpc_ioc.settings import load_settings
from tests.support.ecc_raw import envelope, http, raw_server, state_xml
from tests.support.probe import Probe
from tests.support.rig import rig

RESTLESS = "cobo1"


def of(probe: Probe, module: str) -> list[StateChanged]:
    return [change for change in probe.of(StateChanged) if change.module == module]


async def test_a_restless_server_is_reported_by_its_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "CHANGES_MOST", 10)
    monkeypatch.setattr(module, "CHANGES_S", 2.0)
    states = itertools.cycle((State.IDLE, State.DESCRIBED, State.PREPARED))
    shown = [State.IDLE]

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"GetState" in request and resting.is_set():
            shown.append(State.READY)
        elif b"GetState" in request:
            shown.append(next(states))
        writer.write(http(envelope(state_xml(int(shown[-1]), 1))))

    resting = asyncio.Event()
    probe = Probe()
    async with (
        raw_server(answer) as server,
        rig(tmp_path, monkeypatch, cobos=2, mutant=False, plugins=[("probe", probe)], start=False) as it,
    ):
        port = it.fleet[RESTLESS].port
        text = it.settings_file.read_text().replace(f"port = {port}\n", f"port = {server.port}\n")
        it.settings_file.write_text(text)
        it.settings = load_settings(it.settings_file)
        with caplog.at_level(logging.INFO, logger="attpc_ioc"):
            await it.start_ioc()
            counted = "which were only counted"
            await it.until(lambda: [c for c in of(probe, RESTLESS) if counted in c.reason], 10.0, "a count")
            resting.set()
            await it.until(lambda: of(probe, RESTLESS)[-1].new is State.READY, 10.0, "the last state")
        told = of(probe, RESTLESS)
        sums = [int(c.reason.split()[0]) for c in told if counted in c.reason]
        one_by_one = [c for c in told if counted not in c.reason]
        happened = sum(old is not new for old, new in itertools.pairwise(shown))
        assert sums
        assert len(one_by_one) <= 10 * (len(sums) + 1)
        # The first of all is that it answers, and no change of a state.
        assert len(one_by_one) + sum(sums) in (happened, happened + 1)
        assert {c.origin for c in told if counted in c.reason} == {Origin.EXTERNAL}
        lines = [r for r in caplog.records if getattr(r, "keys", {}).get("module") == RESTLESS]
        assert len(lines) < len(told) + 10 * (len(sums) + 1)
        assert "External: " in it.module(RESTLESS).result.message
