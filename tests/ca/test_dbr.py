"""What is sent, read with caproto's DBR structures; and what a PV does with any value."""

from __future__ import annotations

import ctypes
import math
from typing import Any

import caproto
import pytest
from caproto import ChannelType
from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.ioc.ca import PV, PVSpec, dbr
from attpc_ioc.ioc.ca.wire import Eca
from tests.ca.conftest import INITIAL, specs
from tests.support.thorough import examples

ALL = {spec.name[2:]: spec for spec in specs()}
TYPES = [t for t in ChannelType if t not in (ChannelType.PUT_ACKT, ChannelType.PUT_ACKS)]
STAMP_NS = 1_700_000_000_123_456_789


def encoded(name: str, dtype: ChannelType, count: int = 0) -> tuple[int, int, bytes]:
    return dbr.encode(ALL[name], INITIAL[name], 2, 7, STAMP_NS, dtype, count)


def kind(dtype: ChannelType) -> Any:
    # EPICS base makes CTRL_STRING like STS_STRING (db_access.h); caproto has a time stamp in it.
    return caproto.DBR_TYPES[ChannelType.STS_STRING if dtype is ChannelType.CTRL_STRING else dtype]


def structure(dtype: ChannelType, payload: bytes) -> Any:
    return kind(dtype).from_buffer(bytearray(payload))


@pytest.mark.parametrize("dtype", TYPES, ids=lambda t: t.name)
def test_sizes_are_those_of_the_structures(dtype: ChannelType) -> None:
    for name in ALL:
        status, count, payload = encoded(name, dtype)
        if dtype is ChannelType.CLASS_NAME:
            assert payload.rstrip(b"\0") == ALL[name].rtyp.encode()
            continue
        if dtype is ChannelType.STSACK_STRING:
            assert len(payload) == 48
            continue
        native = dtype % 7
        head = ctypes.sizeof(kind(dtype)) if dtype >= 7 else 0
        assert len(payload) == head + max(count, 1) * dbr.ELEMENT_SIZE[native]
        assert status in (Eca.NORMAL, Eca.NOCONVERT)
        if dtype >= 7:
            made = structure(dtype, payload)
            assert (made.status, made.severity) == (7, 2)


def test_time() -> None:
    _, _, payload = encoded("ai", ChannelType.TIME_DOUBLE)
    made = structure(ChannelType.TIME_DOUBLE, payload)
    assert made.secondsSinceEpoch == 1_700_000_000 - 631152000
    assert made.nanoSeconds == 123_456_789
    assert payload[16:] == b"\x3f\xf8" + bytes(6)


def test_control_limits_and_units() -> None:
    made = structure(ChannelType.CTRL_DOUBLE, encoded("ai", ChannelType.CTRL_DOUBLE)[2])
    assert (made.units, made.precision) == (b"MB/s", 3)
    assert (made.upper_disp_limit, made.lower_disp_limit) == (10, 0)
    assert (made.upper_alarm_limit, made.upper_warning_limit) == (9, 8)
    assert math.isnan(made.lower_alarm_limit)
    assert (made.upper_ctrl_limit, made.lower_ctrl_limit) == (10, 0)
    made = structure(ChannelType.CTRL_LONG, encoded("long", ChannelType.CTRL_LONG)[2])
    assert made.units.decode() == "µm"
    assert (made.upper_disp_limit, made.lower_disp_limit) == (100, -5)


def test_labels() -> None:
    for dtype in (ChannelType.GR_ENUM, ChannelType.CTRL_ENUM):
        made = structure(dtype, encoded("choice", dtype)[2])
        assert made.enum_strings == tuple(label.encode() for label in ("None", "Idle", "Größe"))
    spec = PVSpec("X", "mbbi", ChannelType.ENUM, labels=("ä" * 20,) * 16)
    payload = dbr.encode(spec, 0, 0, 0, 0, ChannelType.GR_ENUM, 1)[2]
    assert structure(ChannelType.GR_ENUM, payload).enum_strings[15].decode() == "ä" * 12


def test_text_is_cut_between_characters() -> None:
    _, count, payload = encoded("text", ChannelType.STRING, 1024)
    assert count == 1
    assert payload[39] == 0
    assert payload.rstrip(b"\0").decode() == "long text: äöüäöüäöüäöüäö"


def test_arrays_have_the_length_that_was_asked_for() -> None:
    assert encoded("numbers", ChannelType.DOUBLE)[1] == 3
    status, count, payload = encoded("numbers", ChannelType.DOUBLE, 5)
    assert (status, count, len(payload)) == (Eca.NORMAL, 5, 40)
    assert encoded("numbers", ChannelType.DOUBLE, 2)[2] == payload[:16]


def test_what_does_not_fit_is_not_converted() -> None:
    spec = ALL["ai"]
    assert dbr.encode(spec, 70000.0, 0, 0, 0, ChannelType.INT, 1)[0] == Eca.NOCONVERT
    assert dbr.encode(spec, math.nan, 0, 0, 0, ChannelType.LONG, 1)[0] == Eca.NOCONVERT
    assert dbr.encode(spec, 1e300, 0, 0, 0, ChannelType.FLOAT, 1)[0] == Eca.NORMAL
    assert encoded("string", ChannelType.LONG)[0] == Eca.NOCONVERT


def test_text_that_only_python_takes_for_a_number_is_not_converted() -> None:
    for text, status in (("1000", Eca.NORMAL), ("1_000", Eca.NOCONVERT), ("١٢", Eca.NOCONVERT)):
        assert dbr.encode(ALL["string"], text, 0, 0, 0, ChannelType.DOUBLE, 1)[0] == status


anything = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=1200),
    st.lists(st.one_of(st.floats(), st.text(max_size=50)), max_size=60).map(tuple),
    st.booleans(),
    st.binary(max_size=10),
)


@settings(max_examples=examples(150, 400), deadline=None)
@given(
    st.sampled_from(sorted(ALL)),
    anything,
    st.integers(-1, 4),
    st.integers(-1, 22),
    st.floats(0, 4e9),
    st.data(),
)
def test_whatever_is_posted_can_be_read(
    name: str, value: Any, severity: int, status: int, stamp: float, data: st.DataObject
) -> None:
    pv = PV(ALL[name], INITIAL[name])
    pv.post(value, severity=severity, status=status, stamp=stamp)
    dtype = data.draw(st.sampled_from(TYPES))
    count = data.draw(st.integers(0, ALL[name].max_elements))
    head, tail = pv.message(dtype, count)
    assert len(head) == 10
    assert len(tail) % 8 == 0
    assert tail
