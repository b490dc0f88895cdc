"""No file system call leaves the event loop waiting: on a hung disk or NFS server each would stop the IOC."""

from __future__ import annotations

import pytest
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.model.run import RunState
from attpc_ioc.simulator.data.options import Access
from tests.support.data_rig import SECTION, data_rig, section, shown, start_run, stop_run
from tests.support.history import untroubled
from tests.support.loopfiles import loop_files
from tests.support.rig import HISTORY, Rig

ANYBODY = "ASG(DEFAULT) { RULE(1, WRITE) }"


async def closed(it: Rig) -> None:
    """Wait until the files of the last run are in their place on every host."""

    def done() -> bool:
        return all(
            shown(it, f"{host.source}:Router:Close_RBV") == int(CloseState.DONE) for host in it.fleet.data
        )

    await it.until(done, 60.0, "the run is closed")


@pytest.mark.parametrize("access", [Access.LOCAL, Access.SSH, Access.SENTRY])
async def test_runs_are_taken_and_closed_without_a_file_call_in_the_loop(tmp_path, monkeypatch, dsn, access):
    backup, rules = tmp_path / "backup", tmp_path / "access.acf"
    backup.mkdir()
    rules.write_text(ANYBODY)
    # What takes its time on a busy machine is no fault here.
    patient = section(watch={"period_s": 1.5, "timeout_s": 5.0})
    text = f'{patient}\n[{SECTION}.backup]\nfolder = "{backup}"\n[access]\nfile = "{rules}"'
    more = {f"plugins.{HISTORY}": f'dsn = "{dsn}"', "limits": "run_number_s = 10.0"}
    async with data_rig(
        tmp_path, monkeypatch, access=access, cobos=1, text=text, long_replies=True, **more
    ) as it:
        with loop_files(tmp_path) as watch:
            for _ in range(2):
                await start_run(it)
                await it.until(lambda: shown(it, "Run:Configs_RBV") == 2, 30.0, "the configs are kept")
                await it.put_text("Run:Title", "a title")
                await it.put_text("Run:Experiment", "another name")
                await stop_run(it)
                await it.until_run(RunState.STOPPED)
                await closed(it)
            it.app.access.ask_again()
            await it.put("RefreshConfigs")
            await untroubled(it)
        assert watch.found == set()
