"""The screens by PVAccess, held against what an IOC serves over it."""

from __future__ import annotations

import asyncio

from attpc_ioc.export.protocol import PVA, over_pva
from attpc_ioc.export.screens import screens
from tests.export.bobfiles import shown
from tests.ioc.test_every_pv import HISTORY
from tests.support.data_rig import data_rig
from tests.support.patience import PATIENCE_S
from tests.support.pva import p4p_client


async def test_every_pv_of_the_screens_is_served_and_every_table_has_the_columns_shown(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, **HISTORY) as it, p4p_client(it.place) as client:
        widgets = shown(screens(over_pva(it.app.table), tables=True))
        names = sorted({pv for widget in widgets for pv in widget.pvs})
        async with asyncio.timeout(PATIENCE_S):
            got = await client.get([name.removeprefix(PVA) for name in names])
        values = dict(zip(names, got, strict=True))
        tables = {widget.text("pv_name"): widget for widget in widgets if widget.type == "table"}
        of_type = {name for name, value in values.items() if value.getID() == "epics:nt/NTTable:1.0"}
        assert of_type == tables.keys()
        served = ("Fleet", "Routers", "History", "Alarms")
        assert tables.keys() == {f"{PVA}{it.prefix}{name}" for name in served}
        for name, widget in tables.items():
            columns = [column.findtext("name") for column in widget.element.iter("column")]
            # Phoebus takes the widths by place, and the headings from the labels.
            assert columns == values[name]["labels"], name
