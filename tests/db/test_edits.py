"""What people change of runs afterwards: who, when, from what and to what, in whatever order it arrives."""

from __future__ import annotations

import itertools

import pytest
from attpc_plugins.run_history.store.errors import NotFound, StoreRejected
from attpc_plugins.run_history.store.model.config_name import config_name_of
from attpc_plugins.run_history.store.model.history import Module, Observable, Quality, RunChanges
from attpc_plugins.run_history.store.model.records import EditRecord, RunRef
from attpc_plugins.run_history.store.model.values import ValueKind

from attpc_ioc.model.names import experiment_fault
from tests.support.history import reading
from tests.support.run_records import EXPERIMENT, SHIFT, T0, Life, Stamps, follow


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_each_edit_keeps_what_it_replaced(dsn: str, order: tuple[int, ...]) -> None:
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 1)
    texts = ("first", "second", "third")
    edits = [
        EditRecord(stamps(), T0 + 100 + at, ref, RunChanges(title=text), SHIFT)
        for at, text in enumerate(texts)
    ]
    async with reading(dsn) as store:
        await store.apply_many(Life(1, stamps).whole())
        for index in order:
            await follow(store, edits[index])
        detail = await store.run(EXPERIMENT, 1)
    assert detail.run.title == "third"
    assert [edit.value for edit in detail.edits] == list(texts)
    assert [edit.old for edit in detail.edits] == ["a title", "first", "second"]
    assert {edit.edited_by for edit in detail.edits} == {str(SHIFT)}


async def test_values_are_edited_with_the_rest_or_not_at_all(dsn: str) -> None:
    async with reading(dsn) as store:
        await store.apply_many(Life(1, Stamps()).whole())
        await store.put_observable(EXPERIMENT, Observable("Pressure", ValueKind.FLOAT, "mbar"))
        await store.put_observable(EXPERIMENT, Observable("Pumps", ValueKind.INTEGER))
        for values, fault in (({"Pressure": 1.5, "Nope": 1}, NotFound), ({"Pumps": "many"}, StoreRejected)):
            with pytest.raises(fault):
                await store.edit(EXPERIMENT, 1, RunChanges(quality=Quality.BAD), values=values, who=SHIFT)
        detail = await store.run(EXPERIMENT, 1)
        assert (detail.run.quality, detail.measurements, detail.edits) == (Quality.UNKNOWN, (), ())
        await store.edit(EXPERIMENT, 1, RunChanges(), values={"Pressure": 1.5, "Pumps": 2}, who=SHIFT)
        await store.edit(EXPERIMENT, 1, RunChanges(), values={"Pressure": 2}, who=SHIFT)
        detail = await store.run(EXPERIMENT, 1)
    assert {m.observable: m.value for m in detail.measurements} == {"Pressure": 2.0, "Pumps": 2}
    assert [(e.field, e.observable, e.old, e.value, e.edited_by) for e in detail.edits] == [
        ("value", "Pressure", None, "1.5", str(SHIFT)),
        ("value", "Pumps", None, "2", str(SHIFT)),
        ("value", "Pressure", "1.5", "2.0", str(SHIFT)),
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        ([("e1", "e1"), ("e1", "e1")], "e1"),
        ([("e1", "e2"), ("e1", "e2")], "e1/e2"),
        ([("e1", "e1"), ("e2", "e2"), ("e1", "e1")], "e1: m0 m2; e2: m1"),
        ([("e1", "e1"), (None, None)], "e1: m0; ?: m1"),
        ([(None, None), ("?", "?")], ""),
        ([("e1", None)], "e1/?"),
    ],
)
def test_one_name_for_what_the_members_had(names: list[tuple[str, str]], expected: str) -> None:
    modules = [
        Module(f"m{at}", describe=f"cobo{at}", prepare=prepare, configure=configure)
        for at, (prepare, configure) in enumerate(names)
    ]
    assert config_name_of(modules) == expected


async def test_a_recorded_run_has_its_config_name(dsn: str) -> None:
    async with reading(dsn) as store:
        await store.apply_many(Life(1, Stamps()).whole())
        detail = await store.run(EXPERIMENT, 1)
    assert detail.run.config_name == config_name_of(detail.modules) != ""


@pytest.mark.parametrize("name", ["e20009", "unnamed", "0", "a" * 63, "e1.2-x_y"])
def test_names_of_experiments(name: str) -> None:
    assert experiment_fault(name) == ""


@pytest.mark.parametrize("name", ["", " e1", "a b", "../x", ".hidden", "-x", "a" * 64, "größe", "a/b", "a\n"])
def test_what_is_no_name_of_an_experiment(name: str) -> None:
    assert experiment_fault(name).startswith(f"{name!r} cannot be an experiment's name")
