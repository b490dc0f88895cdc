"""Run sheets: observables in their order, typed values, the same as in the run before."""

from __future__ import annotations

import math

import pytest
from attpc_plugins.run_history.store.errors import Conflict, NotFound, StoreRejected
from attpc_plugins.run_history.store.model.history import Moment, Observable, RunChanges
from attpc_plugins.run_history.store.model.records import MeasurementRecord, RunRef
from attpc_plugins.run_history.store.model.values import Value, ValueKind, kind_of

from tests.support.run_records import EXPERIMENT, SHIFT, T0, Life, Stamps, follow, open_store

PRESSURE = Observable("pressure", ValueKind.FLOAT, "torr", "of the target", "Gas:P")


async def names(store, **options):
    return [o.name for o in await store.observables(EXPERIMENT, **options)]


async def test_a_sheet_is_edited(dsn):
    async with open_store(dsn) as store:
        for name in ("a", "b", "c"):
            await store.put_observable(EXPERIMENT, Observable(name, ValueKind.INTEGER))
        await store.put_observable(EXPERIMENT, PRESSURE, new=True)
        assert (await store.observables(EXPERIMENT))[3] == PRESSURE
        await store.order_observables(EXPERIMENT, ["pressure", "c"])
        assert await names(store) == ["pressure", "c", "a", "b"]
        await store.put_observable(EXPERIMENT, Observable("c", ValueKind.STRING, comment="changed"))
        assert (await store.observables(EXPERIMENT))[1].kind is ValueKind.STRING
        await store.rename_observable(EXPERIMENT, "b", "bee")
        await store.remove_observable(EXPERIMENT, "a")
        assert await names(store, removed=True) == ["pressure", "c", "bee"]
        assert await store.observables("another") == ()


async def test_what_a_sheet_refuses(dsn):
    async with open_store(dsn) as store:
        await store.put_observable(EXPERIMENT, PRESSURE)
        await store.put_observable(EXPERIMENT, Observable("b", ValueKind.INTEGER))
        with pytest.raises(Conflict, match="'pressure' already"):
            await store.put_observable(EXPERIMENT, PRESSURE, new=True)
        with pytest.raises(Conflict, match="'pressure' already"):
            await store.rename_observable(EXPERIMENT, "b", "pressure")
        with pytest.raises(NotFound, match="no observable 'nothing'"):
            await store.rename_observable(EXPERIMENT, "nothing", "x")
        with pytest.raises(NotFound, match="no observable 'nothing'"):
            await store.remove_observable(EXPERIMENT, "nothing")
        with pytest.raises(NotFound, match="no observable 'nothing'"):
            await store.order_observables(EXPERIMENT, ["b", "nothing"])
        with pytest.raises(NotFound, match="no experiment 'nowhere'"):
            await store.remove_observable("nowhere", "b")
        for name in ("", " x", "x\ny", "x" * 101):
            with pytest.raises(StoreRejected, match="an observable's name"):
                await store.put_observable(EXPERIMENT, Observable(name, ValueKind.FLOAT))
        assert await names(store) == ["pressure", "b"]


async def test_values_of_a_removed_observable_stay(dsn):
    async with open_store(dsn) as store:
        await follow(store, Life(1, Stamps()).starting())
        await store.put_observable(EXPERIMENT, PRESSURE)
        await store.edit(EXPERIMENT, 1, RunChanges(), values={"pressure": 2.5})
        await store.remove_observable(EXPERIMENT, "pressure")
        assert await names(store) == []
        assert await names(store, removed=True) == ["pressure"]
        assert (await store.run(EXPERIMENT, 1)).measurements[0].value == 2.5
        await store.put_observable(EXPERIMENT, PRESSURE, new=True)
        assert await names(store) == ["pressure"]


VALUES: list[Value] = [0, -(2**63), 2**63 - 1, 0.0, -1.5e-300, math.inf, -math.inf, "", "text\nof two lines"]


@pytest.mark.parametrize("value", VALUES)
async def test_values_keep_their_type(dsn, value):
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 1)
    async with open_store(dsn) as store:
        await follow(store, Life(1, stamps).starting())
        await follow(
            store,
            MeasurementRecord(
                stamps(), T0, ref, "o", Moment.START, value, "u", 2, "Some:PV", T0 - 0.5, who=SHIFT
            ),
        )
        (found,) = (await store.run(EXPERIMENT, 1)).measurements
        (observable,) = await store.observables(EXPERIMENT, removed=True)
    assert repr(found.value) == repr(value)
    assert (found.units, found.severity, found.pv, found.entered_by) == ("u", 2, "Some:PV", str(SHIFT))
    assert found.stamped_at is not None
    assert found.stamped_at.timestamp() == T0 - 0.5
    assert (observable.kind, observable.removed) == (kind_of(value), True)


async def test_what_is_no_number_is_a_value(dsn):
    async with open_store(dsn) as store:
        await follow(store, Life(1, Stamps()).starting())
        await store.put_observable(EXPERIMENT, PRESSURE)
        await store.edit(EXPERIMENT, 1, RunChanges(), values={"pressure": math.nan})
        (found,) = (await store.run(EXPERIMENT, 1)).measurements
    assert isinstance(found.value, float)
    assert math.isnan(found.value)


async def test_a_disconnected_pv_is_recorded_as_such(dsn):
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 1)
    async with open_store(dsn) as store:
        await follow(store, Life(1, stamps).starting())
        await follow(store, MeasurementRecord(stamps(), T0, ref, "o", Moment.STOP, fault="disconnected"))
        (found,) = (await store.run(EXPERIMENT, 1)).measurements
    assert (found.value, found.fault) == (None, "disconnected")


async def test_a_pv_that_changes_its_type_gives_values_of_both(dsn):
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 1)
    async with open_store(dsn) as store:
        await follow(store, Life(1, stamps).starting())
        await follow(store, MeasurementRecord(stamps(), T0, ref, "o", Moment.START, 1.5))
        await follow(store, MeasurementRecord(stamps(), T0, ref, "o", Moment.STOP, "open"))
        found = (await store.run(EXPERIMENT, 1)).measurements
    assert [m.value for m in found] == [1.5, "open"]


async def test_the_latest_value_of_a_moment_stays(dsn):
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 1)
    async with open_store(dsn) as store:
        await follow(store, Life(1, stamps).starting())
        for after, value in ((5.0, 5), (9.0, 9), (1.0, 1)):
            await follow(store, MeasurementRecord(stamps(), T0 + after, ref, "o", Moment.ENTERED, value))
        (found,) = (await store.run(EXPERIMENT, 1)).measurements
    assert found.value == 9


async def test_the_same_as_in_the_run_before(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        await store.put_observable(EXPERIMENT, PRESSURE)
        await store.put_observable(EXPERIMENT, Observable("gas", ValueKind.STRING))
        for number in (3, 5, 7):
            await follow(store, Life(number, stamps).starting())
        ref3, ref7 = RunRef(EXPERIMENT, 3), RunRef(EXPERIMENT, 7)
        await store.apply_many(
            [
                MeasurementRecord(stamps(), T0, ref3, "pressure", Moment.START, 1.0, "torr"),
                MeasurementRecord(stamps(), T0, ref3, "pressure", Moment.STOP, 2.0, "torr"),
                MeasurementRecord(stamps(), T0, ref7, "pressure", Moment.START, 99.0, "torr"),
                MeasurementRecord(stamps(), T0, ref3, "gas", Moment.STOP, fault="disconnected"),
            ]
        )
        previous = await store.previous_values(EXPERIMENT, 5)
        assert {name: m.value for name, m in previous.items()} == {"pressure": 2.0}
        ref5 = RunRef(EXPERIMENT, 5)
        for observable in ("pressure", "gas"):
            await follow(
                store,
                MeasurementRecord(stamps(), T0 + 1, ref5, observable, Moment.ENTERED, same_as_previous=True),
            )
        pressure, gas = (await store.run(EXPERIMENT, 5)).measurements
        assert (pressure.value, pressure.units, pressure.carried) == (2.0, "torr", True)
        assert (gas.value, gas.carried, gas.fault) == (None, False, "no earlier run has a value")


async def test_entering_a_value_checks_it(dsn):
    async with open_store(dsn) as store:
        await follow(store, Life(1, Stamps()).starting())
        await store.put_observable(EXPERIMENT, PRESSURE)
        await store.edit(EXPERIMENT, 1, RunChanges(), values={"pressure": 3}, who=SHIFT)
        (found,) = (await store.run(EXPERIMENT, 1)).measurements
        assert (repr(found.value), found.units, found.entered_by) == ("3.0", "torr", str(SHIFT))
        with pytest.raises(StoreRejected, match="'high' is not of kind float"):
            await store.edit(EXPERIMENT, 1, RunChanges(), values={"pressure": "high"})
        with pytest.raises(NotFound, match="no run 2"):
            await store.edit(EXPERIMENT, 2, RunChanges(), values={"pressure": 1.0})
        with pytest.raises(NotFound, match="no observable 'x'"):
            await store.edit(EXPERIMENT, 1, RunChanges(), values={"x": 1.0})
