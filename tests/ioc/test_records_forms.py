"""How rows become records, how values are made to fit, and the small functions of the statistics."""

from __future__ import annotations

import itertools

import pytest

from attpc_ioc.ioc.ca import PV, ServerStats
from attpc_ioc.ioc.pvaccess import PvaStats
from attpc_ioc.ioc.records import FORMS, empty, fit, make_spec
from attpc_ioc.ioc.stats import Stats, up_time
from attpc_ioc.model.command import SYSTEM, ScopeKind
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.row import Limits, Record, Row
from attpc_ioc.pvs.table import PvEntry
from tests.support.fleets import make_settings, table_of


def row(record: Record, **more: object) -> Row:
    return Row("X_RBV", ScopeKind.SYSTEM, record, "A row", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("record", "value", "held"),
    [
        (Record.STRINGIN, "short", "short"),
        (Record.STRINGIN, "x" * 39, "x" * 39),
        (Record.STRINGIN, "x" * 40, "x" * 35 + " ..."),
        (Record.STRINGIN, "ü" * 30, "ü" * 17 + " ..."),
        (Record.LONGIN, 2**40, 2**31 - 1),
        (Record.LONGIN, -(2**40), -(2**31) + 1),
        (Record.LONGIN, 5, 5),
        (Record.AI, 1e300, 1e300),
        (Record.STRINGS, ("a", "b", "c"), ("a", "b")),
        (Record.LONG_TEXT, "y" * 1023, "y" * 1023),
        (Record.LONG_TEXT, "y" * 1024, "y" * 1019 + " ..."),
    ],
)
def test_values_fit_their_record(record, value, held):
    elements = 2 if record is Record.STRINGS else 1024
    assert fit(row(record, elements=elements), value) == held


@pytest.mark.parametrize("record", list(Record))
def test_every_record_has_a_form_that_can_be_served_and_emptied(record):
    one = row(record, labels=("a", "b") if record.value.endswith(("bi", "bo")) else ())
    pv = PV(make_spec(PvEntry(one, SYSTEM, "T:X_RBV")))
    pv.post(empty(one))
    assert (pv.severity, pv.status) == (0, 0)
    assert pv.value == empty(one)
    assert pv.spec.rtyp == FORMS[record].rtyp


def test_limits_and_severities_are_sent_to_clients():
    limits = Limits(hopr=9.0, lopr=1.0, hihi=8.0, high=7.0, low=3.0, lolo=2.0, drvh=6.0, drvl=4.0)
    one = row(Record.AO, limits=limits, units="mm", precision=2, mdel=0.5, adel=1.0, setpoint="x")
    spec = make_spec(PvEntry(one, SYSTEM, "T:X"))
    assert (spec.hopr, spec.lopr, spec.hihi, spec.high, spec.low, spec.lolo) == (9, 1, 8, 7, 3, 2)
    assert (spec.drvh, spec.drvl, spec.units, spec.precision, spec.mdel, spec.adel) == (6, 4, "mm", 2, 0.5, 1)
    assert spec.limit_severities == {"HHSV": 2, "HSV": 1, "LSV": 1, "LLSV": 2}
    assert spec.writable
    states = make_spec(
        PvEntry(row(Record.BI, labels=("a", "b"), severities={1: Severity.MAJOR}), SYSTEM, "T:B")
    )
    assert states.label_severities == {1: 2}
    assert not states.writable


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.9, "00:00:00"), (3723, "01:02:03"), (86400, "1 day, 00:00:00"), (200000, "2 days, 07:33:20")],
)
def test_up_time(seconds, text):
    assert up_time(seconds) == text


def test_statistics_give_every_row_of_the_ioc_a_value():
    published: dict[str, object] = {}
    settings = make_settings()
    counts = itertools.count(0, 50)
    stats = Stats(
        settings.ioc,
        published.__setitem__,
        lambda: ServerStats(clients=2, channels=30, events=next(counts)),
        PvaStats,
        99,
    )
    stats.publish_constants()
    for _ in range(20):
        stats.tick()
    rows = {e.row.part: e.row for e in table_of(settings) if e.scope.kind is ScopeKind.IOC}
    others = {"ACCESS", "AccessFile_RBV", "AccessText_RBV", "OtherServers_RBV", "ClockStep_RBV"}
    others |= {"PvAccess_RBV", "PvAccessText_RBV"}
    assert set(rows) - set(published) == others
    assert set(published) <= set(rows)
    assert published["HEARTBEAT"] == 20.0
    assert (published["CA_CLNT_CNT"], published["CA_CONN_CNT"], published["RECORD_CNT"]) == (2.0, 30.0, 99.0)
    assert published["CA_EVENT_RATE"] > 50.0
    assert published["CA_PUT_RATE"] == 0.0
    texts = {Record.STRINGIN, Record.LONG_TEXT}
    wrong = [p for p, v in published.items() if isinstance(v, str) != (rows[p].record in texts)]
    assert wrong == []
