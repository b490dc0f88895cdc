"""No row's value raises, and every value fits its record, whatever the snapshot."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.ioc.ca import PV
from attpc_ioc.ioc.records import fit, make_spec
from attpc_ioc.model.command import (
    COMMANDS,
    RUN,
    SYSTEM,
    Command,
    CommandName,
    ResultCode,
    ScopeResult,
    ecc_scope,
)
from attpc_ioc.model.config import ConfigName, Loaded
from attpc_ioc.model.fleet import ActiveCommand, Fleet, ModuleView, SourceView
from attpc_ioc.model.run import RunClass, RunInfo, RunState, RunTexts, RunView
from attpc_ioc.model.states import Kind, Operation, Severity, State, Transition
from attpc_ioc.pvs.alarms import Alarm, alarm_text, worst
from attpc_ioc.pvs.common import read
from tests.support.fleets import as_mapping, make_settings, table_of
from tests.support.thorough import examples

TABLE = table_of(make_settings(cobos=2), plugins=["history"])
NAMES = ["cobo0", "cobo1", "mutant", "stranger"]
PVS = {entry.name: PV(make_spec(entry)) for entry in TABLE}

texts = st.text(max_size=60)
words = st.sampled_from(["a", "b", "configuration-with-a-long-name", "ünïcode"])
configs = st.builds(ConfigName, words, words, words)
parts = st.none() | words | st.just("?")
numbers = st.integers(-(2**40), 2**40)
floats = st.floats()
results = st.builds(ScopeResult, st.sampled_from(ResultCode), numbers, texts)
sources = st.builds(SourceView, st.sampled_from(["CoBo0", "CoBo1", "MuTAnT", "X"]), texts, texts)
modules = st.builds(
    ModuleView,
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(Kind),
    url=texts,
    host=texts,
    sources=st.lists(sources, max_size=3).map(tuple),
    enabled=st.booleans(),
    state=st.sampled_from(State),
    last_state=st.none() | st.sampled_from(State),
    transition=st.sampled_from(Transition),
    selected=st.none() | configs,
    loaded=st.builds(Loaded, parts, parts, parts),
    offered=st.none() | st.lists(configs, max_size=8).map(tuple),
    clock_stale=st.booleans(),
    working=texts,
    outstanding=st.none() | st.sampled_from(Operation),
    result=results,
    error_code=numbers,
    transition_time_s=floats,
    poll_time_ms=floats,
    poll_errors=numbers,
    offline_reason=texts,
)
name_lists = st.lists(texts, max_size=4).map(tuple)
times = st.none() | floats
infos = st.builds(RunInfo, numbers, texts, name_lists, started_s=times, stopped_s=times)
runs = st.builds(
    RunView,
    state=st.sampled_from(RunState),
    info=st.none() | infos,
    on=st.booleans(),
    lost=name_lists,
    expected=name_lists,
    running=name_lists,
    number=numbers,
    next_number=numbers,
    experiment=texts,
    texts=st.builds(RunTexts, texts, texts, st.sampled_from(RunClass)),
    max_duration_s=floats,
    checklist=name_lists,
    duration_s=floats,
)
commands = st.frozensets(st.sampled_from(CommandName))
active_commands = st.builds(Command, st.sampled_from([SYSTEM, RUN]), st.sampled_from(CommandName))
fleets = st.builds(
    Fleet,
    modules=st.lists(modules, max_size=4).map(as_mapping),
    run=runs,
    system_result=results,
    run_result=results,
    active=st.lists(
        st.builds(
            ActiveCommand,
            st.builds(Command, st.sampled_from([SYSTEM, RUN]), st.sampled_from(CommandName)),
            texts,
            floats,
        ),
        max_size=2,
    ).map(tuple),
    allowed=st.dictionaries(st.sampled_from([SYSTEM, RUN, *map(ecc_scope, NAMES)]), commands).map(
        MappingProxyType
    ),
)


@settings(max_examples=examples(50, 150), deadline=None)
@given(fleets)
def test_every_value_of_any_fleet_can_be_shown(fleet: Fleet):
    alarms = []
    for entry in TABLE:
        if entry.row.value is None:
            continue
        reading = read(entry.row, fleet, entry.scope)
        pv = PVS[entry.name]
        value = fit(entry.row, reading.value)
        pv.post(value, severity=int(reading.severity), status=int(reading.status))
        # A value that the record cannot hold would have left the PV at INVALID/UDF with its old value.
        assert (pv.severity, pv.status) == (reading.severity, reading.status), entry.name
        if reading.severity:
            alarms.append(Alarm(entry, reading))
    assert alarm_text(alarms, fleet).count("\n") < 120
    assert worst(alarms) == max((a.reading.severity for a in alarms), default=Severity.NO_ALARM)


@settings(max_examples=examples(20, 50), deadline=None)
@given(fleets)
def test_allowed_bits_stay_within_the_commands_of_the_scope(fleet: Fleet):
    for entry in TABLE:
        if entry.row.part == "Allowed_RBV":
            value = read(replace(entry.row), fleet, entry.scope).value
            assert isinstance(value, int)
            assert 0 <= value < 1 << len(COMMANDS[entry.scope.kind])
