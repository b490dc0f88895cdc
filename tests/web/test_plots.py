"""Plots: what an archiver would scan of runs and data sources, over the last hours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attpc_plugins.web.plots import KEPT, PlotData, thinned
from attpc_plugins.web.service import Service

from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.row import Reading
from attpc_ioc.simulator.data.options import Access
from tests.support.data_rig import QUICK_DATA, SECTION, section
from tests.support.web import WebRig, web_rig


def service(it: WebRig) -> Service:
    assert it.plugin.service is not None
    return it.plugin.service


def seen(reading: Reading | None) -> bool:
    return reading is not None and reading.severity is not Severity.INVALID


async def test_rates_and_disks_are_kept(tmp_path, monkeypatch):
    data = replace(QUICK_DATA, folder=tmp_path / "hosts", access=(Access.LOCAL,))
    async with web_rig(tmp_path, monkeypatch, data=data, **{SECTION: section()}) as it:
        free = f"{it.rig.prefix}CoBo0:Router:DiskFree_RBV"
        await it.rig.until(lambda: seen(it.rig.posted("CoBo0:Router:DiskFree_RBV")))
        plots = service(it)._web.plots
        for second in range(3):
            plots.sample(2e9 + second)
        status, found = await it.get("/api/v1/plots", params={"since": "1999999999"})
        assert status == 200
        PlotData.model_validate(found)
        assert found["times"] == [2e9, 2e9 + 1, 2e9 + 2]
        shown = (await it.value("CoBo0:Router:DiskFree_RBV"))["value"]
        assert found["series"][free]["values"][-1] == pytest.approx(shown, rel=0.05)
        assert f"{it.rig.prefix}Run:Rate_RBV" in found["series"]
        assert not any(":IOC:" in name for name in found["series"])
        _, one = await it.get(
            "/api/v1/plots", params=[("pv", free), ("points", "1"), ("since", "1999999999")]
        )
        assert (list(one["series"]), one["times"]) == ([free], [2e9 + 2])
        for query, status, words in (
            ({"pv": "Nothing"}, 404, "is not kept"),
            ({"since": "x"}, 422, "since: 'x' is not a number"),
            ({"points": "0"}, 422, f"from 1 to {KEPT}"),
        ):
            assert (await it.get("/api/v1/plots", params=query))[0] == status
            assert words in (await it.get("/api/v1/plots", params=query))[1]["detail"]


def test_points_are_means_of_what_is_known():
    times, values = np.arange(7.0), np.array([[9.0, 1, 3, np.nan, 5, np.nan, np.nan]])
    at, mean = thinned(times, values, 3)
    assert at.tolist() == [3.0, 6.0]
    assert np.array_equal(mean, [[2.0, 5.0]], equal_nan=True)
    assert thinned(times, values, 7)[1] is values
    assert thinned(times[:0], values[:, :0], 3)[0].size == 0
