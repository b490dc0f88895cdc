"""Twelve hosts, of each kind or behind one server: a run of 1 GB, and the next one."""

from __future__ import annotations

import pytest

from attpc_ioc.simulator.data.options import Access, DataOptions
from tests.support.ca import camonitor
from tests.support.closed_runs import DONE, all_in_place
from tests.support.data_rig import alarm, data_rig, section, shown, start_run, stop_run
from tests.support.sshd import Sshd
from tests.support.thorough import THOROUGH

COBO_BYTES_S = 30e6
DATA = DataOptions(
    cobo_bytes_s=COBO_BYTES_S, drain_s=0.5, asads=4, tick_s=0.05, catalog_wait_s=0.5, access=tuple(Access)
)
SOURCES = (*(f"CoBo{i}" for i in range(11)), "MuTAnT")


@pytest.fixture(params=["each in turn", "sshd", *(Access if THOROUGH else ())])
def ways(request: pytest.FixtureRequest) -> Access | Sshd | None:
    """Give the way to all hosts, or none where they are reached in each way in turn."""
    if request.param == "each in turn":
        return None
    return request.getfixturevalue("shared_sshd") if request.param == "sshd" else request.param


@pytest.mark.slow
async def test_a_run_of_a_gigabyte_and_the_next(tmp_path, monkeypatch, ways):
    # Fleet, hosts and IOC share one process here: limits as in real life, with room for a busy machine.
    text = section(watch={"period_s": 1.0, "timeout_s": 5.0, "rate_window_s": 4.0})
    async with data_rig(
        tmp_path, monkeypatch, access=ways, data=DATA, text=text, cobos=11, limits="", poll=""
    ) as it:

        def everywhere(part, value):
            return all(shown(it, f"{source}:Router:{part}") == value for source in SOURCES)

        await it.until(lambda: everywhere("Clean_RBV", 1), 30.0, "all clean")
        before = 0
        for number in range(2):
            async with camonitor(it.place, f"{it.prefix}CoBo7:Router:Rate_RBV") as monitor:
                await monitor.until(1)
                await start_run(it)
                assert it.run.number == number
                await it.until(lambda: everywhere("Flow_RBV", 1), 30.0, "all flowing")
                assert everywhere("Clean_RBV", 0)
                await it.until(lambda: shown(it, "Run:Written_RBV") > 1.0, 40.0, "1 GB")
                lines = await monitor.until(3)
            rates = [float(line.split()[3]) for line in lines]
            assert all(0.0 <= rate <= 1.6 * COBO_BYTES_S / 1e6 for rate in rates), rates
            for source in SOURCES[:-1]:
                await it.until(
                    lambda s=source: (
                        shown(it, f"{s}:Router:Rate_RBV") == pytest.approx(COBO_BYTES_S / 1e6, rel=0.2)
                    ),
                    10.0,
                    f"the rate of {source}",
                )
            for source in SOURCES:
                await it.until(
                    lambda s=source: alarm(it, f"{s}:Router:Flow_RBV") == "NO_ALARM",
                    10.0,
                    f"no alarm of {source}",
                )
            await stop_run(it)
            await it.until(lambda: everywhere("Clean_RBV", 1), 30.0, "all in their place")
            await it.until(lambda: shown(it, "Run:Rate_RBV") == 0.0, 10.0, "no data any more")
            await it.until(lambda: not it.run.checklist, 20.0, f"nothing against a start: {it.run.checklist}")
            found = await all_in_place(it, number)
            assert shown(it, "Run:Closing_RBV") == DONE
            for source, files in found.items():
                assert len(files) == (1 if source == "MuTAnT" else 4)
                assert shown(it, f"{source}:Router:Files_RBV") == len(files)
                assert shown(it, f"{source}:Router:Written_RBV") == pytest.approx(
                    sum(files.values()) / 1e9, rel=1e-6
                )
            size = sum(size for files in found.values() for size in files.values())
            total = sum(host.written_bytes for host in it.fleet.data)
            assert size == total - before, "all that was written"
            before = total
            # The sum is shown a moment after its parts.
            await it.until(
                lambda size=size: shown(it, "Run:Written_RBV") == pytest.approx(size / 1e9, rel=1e-6),
                10.0,
                f"the sum of {size} bytes",
            )
            assert size > 1e9
