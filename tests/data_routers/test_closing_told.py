"""What became of a run's files is told again until every plugin that promised to keep it has taken it."""

from __future__ import annotations

from attpc_ioc.plugin import hookimpl
from tests.support.data_rig import data_rig, section, start_run, stop_run


class Reluctant:
    """A durable plugin whose disk is full at first."""

    attpc_durable = True

    def __init__(self) -> None:
        self.full = True
        self.refused: list[str] = []
        self.taken: list[str] = []

    @hookimpl
    async def attpc_run_files(self, event):
        (self.refused if self.full else self.taken).append(event.state)
        if self.full:
            raise OSError("the disk is full")


async def test_a_closing_that_no_record_took_is_told_again(tmp_path, monkeypatch):
    keeper = Reluctant()
    patient = section(watch={"period_s": 1.0, "timeout_s": 5.0})
    plugins = [("keeper", keeper)]
    async with data_rig(tmp_path, monkeypatch, cobos=1, text=patient, plugins=plugins) as it:
        await start_run(it)
        await stop_run(it)
        await it.until(lambda: keeper.refused.count("Done") > 2, 60.0, "both hosts told more than once")
        keeper.full = False
        await it.until(lambda: keeper.taken.count("Done") == 2, 60.0, "both hosts on record")
