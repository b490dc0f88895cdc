"""One hostile ECC server of eleven: clients of the IOC, its memory and its other modules do not notice."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.support.ca import free_port
from tests.support.child import child, echo_ms, forget_peak, high, peak_kb
from tests.support.iocprocess import IocProcess, ioc_process
from tests.support.rig import rig

from .hostile import OWN_CONFIG, all_ways
from .ways import each_once

VICTIM = "cobo10"
POLL = "moving_period_s = 0.02\nquiet_period_s = 0.1\ntimeout_s = 0.5\nbackoff_max_s = 0.1"
MOST_ECHO_MS = 50.0
MOST_MORE_KB = 48 * 1024
"""The allocator keeps some of what the largest replies took: 20 to 33 MB were seen."""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_nobody_else_notices_a_hostile_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        rig(tmp_path, monkeypatch, cobos=11, mutant=False, start=False, poll=POLL) as it,
        contextlib.AsyncExitStack() as stack,
    ):
        port = free_port()
        text = it.settings_file.read_text().replace(f"port = {it.fleet[VICTIM].port}\n", f"port = {port}\n")
        it.settings_file.write_text(text)
        hostile = await stack.enter_async_context(
            child("tests.security.hostile", str(port), env=it.place.env)
        )
        ioc = await stack.enter_async_context(ioc_process(it))
        victim = f"{it.prefix}Ecc:{VICTIM}"
        commands = {"REST": f"{victim}:RefreshConfigs", "CONFIGURE": f"{victim}:Configure", "ALL": ""}
        pvs = (f"{it.prefix}Ecc:cobo0:State_RBV", *filter(None, commands.values()))
        echo = await stack.enter_async_context(
            child("tests.security.echo", str(ioc.pid), *pvs, env=it.place.env)
        )
        await ioc.shows(f"Ecc:{VICTIM}:State_RBV", "Idle")
        usual = high(json.loads(await echo.ask("200")))
        most_ms = max(MOST_ECHO_MS, 3 * usual)
        forget_peak(ioc.pid)
        before_kb = peak_kb(ioc.pid)
        slow, large, selected = {}, {}, ""
        for way in each_once(all_ways(), "REST", "CONFIGURE"):
            command = commands[way.partition(":")[0]]
            if command.endswith(":Configure") and not selected:
                await hostile.ask(way)
                selected = f"{OWN_CONFIG}/{OWN_CONFIG}/{OWN_CONFIG}"
                await ioc.shows(f"Ecc:{VICTIM}:State_RBV", "Prepared")
                await it.ok(f"Ecc:{VICTIM}:RefreshConfigs")
                assert (await it.put_text(f"Ecc:{VICTIM}:Config", selected)).code == 0
            took_ms = await echo_ms(way, hostile, echo, most_ms, command)
            if took_ms > most_ms:
                slow[way] = round(took_ms)
            if (more_kb := peak_kb(ioc.pid) - before_kb) > MOST_MORE_KB:
                large[way] = more_kb
        assert (slow, large) == ({}, {}), f"usual {usual:.1f} ms, {before_kb} kB"
        await hostile.ask("ALL:good")
        await ioc.shows(f"Ecc:{VICTIM}:State_RBV", "Idle")
        assert_others_undisturbed(ioc)


def assert_others_undisturbed(ioc: IocProcess) -> None:
    lost = [line for line in ioc.log if "lost" in line and VICTIM not in line]
    assert lost == []
    assert not [line for line in ioc.log if "Traceback" in line or "unexpectedly" in line]
    assert max(map(len, ioc.log)) < 20_000
