"""Records as lines of the journal: every record comes back, and bad lines are only ever a `ValueError`."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from attpc_plugins.run_history.store.codec import KINDS, decode, encode
from attpc_plugins.run_history.store.model import Level, Moment, Quality, RunChanges, Value
from attpc_plugins.run_history.store.records import (
    EditRecord,
    Known,
    Link,
    LogRecord,
    MeasurementRecord,
    Module,
    PutRecord,
    RunRef,
    UnknownRecord,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attpc_ioc.model.command import Who
from attpc_ioc.model.events import Stamp
from attpc_ioc.model.run import RunTexts

STAMP = Stamp("ATTPC:", "boot", 1)
texts = st.text(st.characters(exclude_categories=()), max_size=20)
whole = st.integers(-(2**63) + 1, 2**63 - 1)
floats = st.floats(allow_nan=False)

st.register_type_strategy(Stamp, st.builds(Stamp, texts, texts.filter(bool), st.integers(0, 2**63 - 1)))
st.register_type_strategy(float, floats)
st.register_type_strategy(int, whole)
st.register_type_strategy(str, texts)
for kind in (Who, RunRef, RunTexts, RunChanges, Link, Module):
    st.register_type_strategy(kind, st.builds(kind))

records: st.SearchStrategy[Known] = st.one_of(*(st.builds(kind) for kind in KINDS.values()))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@settings(deadline=None, max_examples=150)
@given(records)
def test_every_record_comes_back(record):
    line = encode(record)
    assert line.isascii()
    assert "\n" not in line
    back = decode(line)
    assert back == record
    assert repr(back) == repr(record), "equal values of another type"
    assert decode(line.encode()) == record
    assert encode(back) == line


@pytest.mark.parametrize("value", [1, 1.0, "1", -0.0, math.inf, -math.inf, 2**62, "", "nan", 1e300])
def test_a_value_keeps_its_type(value: Value):
    record = MeasurementRecord(STAMP, 0.0, RunRef("e", 1), "o", Moment.START, value)
    back = decode(encode(record))
    assert isinstance(back, MeasurementRecord)
    assert repr(back.value) == repr(value)


def test_what_is_no_number_comes_back():
    record = MeasurementRecord(STAMP, 0.0, RunRef("e", 1), "o", Moment.START, math.nan)
    line = encode(record)
    json.loads(line, parse_constant=pytest.fail)
    back = decode(line)
    assert isinstance(back, MeasurementRecord)
    assert isinstance(back.value, float)
    assert math.isnan(back.value)


@settings(deadline=None, max_examples=200)
@given(st.text() | st.binary() | anything.map(json.dumps))
@example("[" * 100_000)
@example('{"v":1}')
@example(b"\xff\xfe")
@example("9" * 5000)
def test_bad_lines_are_a_value_error(line):
    with pytest.raises(ValueError, match=r"."):
        decode(line)


@settings(deadline=None, max_examples=200)
@given(records, st.data())
def test_a_spoilt_record_is_a_value_error_or_a_record(record, data):
    body = json.loads(encode(record))
    key = data.draw(st.sampled_from(sorted(body)))
    body[key] = data.draw(anything)
    try:
        decoded = decode(json.dumps(body))
    except ValueError:
        return
    assert decoded.stamp.boot
    assert decode(encode(decoded)) == decoded or "nan" in encode(decoded).lower()


@settings(deadline=None, max_examples=200)
@given(records, st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_spoilt_bytes_are_a_value_error_or_a_record(record, at, bytes_):
    line = bytearray(encode(record).encode())
    at %= len(line)
    line[at : at + len(bytes_)] = bytes_
    try:
        decoded = decode(bytes(line))
    except ValueError:
        return
    assert decoded.stamp.boot


def test_records_of_a_newer_program_are_kept_as_they_are():
    new_kind = '{"v":1,"kind":"dream","ioc":"A","boot":"b","seq":3,"time_s":1.5,"of":["sheep"]}'
    new_version = '{"v":2,"kind":"put","ioc":"A","boot":"b","seq":4,"time_s":1.5,"pv":{"name":"x"}}'
    for line in (new_kind, new_version):
        record = decode(line)
        assert isinstance(record, UnknownRecord)
        assert record.stamp.ioc == "A"
        assert encode(record) == line
    assert decode(new_kind.replace(",", ",\n")) == replace(decode(new_kind), body=new_kind.replace(",", ", "))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("[]", "not a JSON object"),
        ('{"v":1,"kind":"put","ioc":"A","boot":"b","seq":-1,"time_s":1}', "impossible"),
        ('{"v":1,"kind":"put","ioc":"A","boot":"","seq":1,"time_s":1}', "impossible"),
        ('{"v":1,"kind":"put","ioc":"A","boot":"b","seq":1,"time_s":1}', "PutRecord: .*pv.* is missing"),
        ('{"v":1,"kind":"log","ioc":"A","boot":"b","seq":1,"time_s":1,"level":"bad","text":""}', "'bad'"),
        (
            '{"v":1,"kind":"log","ioc":"A","boot":"b","seq":1,"time_s":1,"level":"info","text":"","x":1}',
            "LogRecord has no 'x'",
        ),
    ],
)
def test_the_error_says_what_is_wrong(line, why):
    with pytest.raises(ValueError, match=why):
        decode(line)


def test_what_has_its_default_takes_no_room():
    put = PutRecord(STAMP, 1.0, "ATTPC:Run:Title", Who("a"), "", "x", True)
    assert len(encode(put)) < 160
    assert "reason" not in encode(put)
    log = LogRecord(STAMP, 1.0, Level.INFO, "text")
    assert decode(encode(log)) == log
    edit = EditRecord(STAMP, 1.0, RunRef("e", 1), RunChanges(title="", quality=Quality.BAD))
    assert decode(encode(edit)) == edit
