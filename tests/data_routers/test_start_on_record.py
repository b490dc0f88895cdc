"""What is said when a run begins is on record with that run, and not with the one before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.options import Access
from tests.data_routers.test_start_listing import AT_ONCE, EAGER, closed, left, start_over
from tests.support.data_rig import data_rig, section, stop_run
from tests.support.history import connected, drained, given_plugins
from tests.support.history_shell import Shell
from tests.support.postgres import database, dsn, postgres_place, postgres_server  # noqa: F401
from tests.support.rig import SHORT_LIMITS

PASSED = "run starts in spite of"


async def test_what_an_override_passed_is_with_its_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,  # noqa: F811
) -> None:
    limits = SHORT_LIMITS.replace("run_number_s = 0.5", "run_number_s = 2.0")
    async with data_rig(
        tmp_path,
        monkeypatch,
        access=Access.LOCAL,
        data=EAGER,
        text=section(closing={"quiet_s": 0.3}),
        durations=AT_ONCE,
        cobos=1,
        plugins=given_plugins(),
        limits=limits,
        **{"plugins.run_history": f'dsn = "{dsn}"'},
    ) as it:
        await connected(it)
        host = it.fleet.data["CoBo[0]"]
        (host.staging / "stray.graw").write_bytes(b"of nobody")
        await it.take_to(State.READY)
        # The hosts are asked about the folder of the next run, once its number is known.
        await it.until(
            lambda: (
                it.run.next_number >= 0
                and any("stray" in reason for reason in it.run.checklist)
                and not any("not asked yet" in reason for reason in it.run.checklist)
            ),
            what="it is seen",
        )
        numbers = []
        for _ in range(5):
            numbers.append(await start_over(it))
            await it.until(lambda: len(left(host)) > 1, 20.0, "data was written")
            await stop_run(it)
            await closed(it, numbers[-1])
        await drained(it)
        experiment = it.run.experiment
        shell = Shell(it.settings_file)
        for number in numbers:
            shown = await asyncio.to_thread(shell.run, "history", "show", experiment, number)
            lines = [line for line in shown.splitlines() if PASSED in line]
            assert len(lines) == 1, shown
            assert f"(number {number})" in lines[0]
