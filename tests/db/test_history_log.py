"""Events of the core's log as records of the history, and the history's own records as events."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
from attpc_plugins.run_history.recording.translate import PHASES, Translator, own_record, own_value
from attpc_plugins.run_history.store.model.history import Moment
from attpc_plugins.run_history.store.model.records import (
    KINDS,
    LogRecord,
    MeasurementRecord,
    OwnRecord,
    Phase,
    RunRecord,
    RunRef,
)
from attpc_plugins.run_history.store.model.values import Value
from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.eventlog.rows import KIND_OF, from_row, text_of, to_row
from attpc_ioc.model.command import Who
from attpc_ioc.model.events import (
    OperationStarting,
    Origin,
    PluginRecord,
    RunEvent,
    RunFailed,
    RunMember,
    RunStarted,
    StateChanged,
)
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.run import RunInfo
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.model.states import Kind, Operation, State, Transition

STAMP = Stamp("T:", "boot", 7)
INFO = RunInfo(
    4, "e1", ("cobo0", "gone"), began_s=50.0, loaded={"cobo0": "a/b/-"}, urls={"gone": "http://gone"}
)
MEMBERS = (
    RunMember(
        "cobo0",
        "http://cobo0",
        Kind.COBO,
        1.5,
        (SourceView("CoBo0", "CoBo[0]", "cobo0", (DataLinkView("l", "10.0.0.1", 46005, "TCP"),)),),
    ),
    RunMember("gone", "http://gone"),
)

# Times and durations are finite; what a value may be is below.
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(datetime, st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0)))
records: st.SearchStrategy[OwnRecord] = st.one_of(*(st.builds(kind) for kind in KINDS.values()))


def translator(*, passive: bool = False) -> Translator:
    return Translator("run_history", "fleet-a", lambda *run: f"attempt of {run}", lambda: passive)


def logged(event: PluginRecord | RunStarted) -> object:
    """Return an event as it comes back from the log."""
    row = to_row(1, event)
    return from_row(row.kind, row.body, lambda digest: text_of(row.texts[digest]))


@settings(deadline=None, max_examples=200)
@given(records)
def test_every_record_of_our_own_comes_back_from_the_log(record: OwnRecord) -> None:
    value = own_value(record)
    event = logged(
        PluginRecord(stamp=record.stamp, time_s=0.0, plugin="run_history", kind=record.KIND, value=value)
    )
    assert isinstance(event, PluginRecord)
    back = translator().record(event)
    assert repr(back) == repr(record), "equal values of another type"


@pytest.mark.parametrize("value", [1, 1.0, "1", -0.0, math.nan, math.inf, -math.inf, 2**62, "", "nan", 1e300])
def test_a_value_keeps_its_type(value: Value) -> None:
    record = MeasurementRecord(STAMP, 0.0, RunRef("e", 1), "o", Moment.START, value)
    text = json.dumps(own_value(record), allow_nan=False)
    back = own_record("measurement", json.loads(text), STAMP)
    assert isinstance(back, MeasurementRecord)
    assert repr(back.value) == repr(value)


def test_a_run_comes_with_its_members_as_they_were() -> None:
    event = logged(RunStarted(stamp=STAMP, time_s=60.0, run=INFO, members=MEMBERS))
    assert isinstance(event, RunStarted)
    record = translator().record(event)
    assert isinstance(record, RunRecord)
    assert (record.stamp, record.time_s, record.phase) == (STAMP, 60.0, Phase.STARTED)
    assert record.attempt == "attempt of ('e1', 4, 50.0)"
    cobo, gone = record.modules
    assert (cobo.kind, cobo.url, cobo.transition_s) == ("cobo", "http://cobo0", 1.5)
    assert (cobo.describe, cobo.prepare, cobo.configure) == ("a", "b", None)
    assert [(link.source, link.name, link.port) for link in cobo.links] == [("CoBo0", "l", 46005)]
    assert (gone.kind, gone.url, gone.transition_s, gone.links) == ("other", "http://gone", None, ())


def test_every_event_of_a_run_has_its_phase() -> None:
    """One without would end the recording of all that comes after it."""
    assert set(PHASES) == {kind for kind in KIND_OF if issubclass(kind, RunEvent)}
    assert set(PHASES.values()) == set(Phase)
    assert all(phase.stage for phase in Phase)


def test_a_failed_start_says_what_became_of_its_number() -> None:
    for released in (False, True):
        record = translator().record(RunFailed(stamp=STAMP, time_s=60.0, run=INFO, number_released=released))
        assert isinstance(record, RunRecord)
        assert record.number_released is released


@pytest.mark.parametrize("run", [None, RunRef("e1", 4)])
def test_a_passive_ioc_records_changes_in_its_own_runs_only(run: RunRef | None) -> None:
    change = StateChanged(
        stamp=STAMP,
        time_s=1.0,
        module="cobo0",
        old=State.READY,
        new=State.RUNNING,
        transition=Transition.NONE,
        origin=Origin.EXTERNAL,
        run=run,
    )
    record = translator().record(change)
    assert record is change
    assert (translator(passive=True).record(change) is None) is (run is None)


def test_what_is_not_for_the_history_is_left_out() -> None:
    sent = OperationStarting(
        stamp=STAMP, time_s=1.0, module="cobo0", operation=Operation.START, config=None, who=Who()
    )
    other = PluginRecord(stamp=STAMP, time_s=1.0, plugin="another", kind="log", value={})
    assert translator().record(sent) is None
    assert translator().record(other) is None


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        ("dream", {}, "dream is not a kind of record"),
        (LogRecord.KIND, {"time_s": 1.0, "level": "bad", "text": ""}, "level"),
        ("edit", {"time_s": 1.0}, "run"),
        ("measurement", {"value": 3}, "is not a value with its type"),
    ],
)
def test_a_record_of_our_own_that_cannot_be_understood_says_why(
    kind: str, value: dict[str, object], why: str
) -> None:
    event = PluginRecord(stamp=STAMP, time_s=1.0, plugin="run_history", kind=kind, value=value)
    with pytest.raises(ValueError, match=why):
        translator().record(event)
