"""What may be written: every rule, without a network."""

from __future__ import annotations

import struct

import pytest
from caproto import ChannelType
from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.ioc.ca.decode import Unacceptable, decode, shown
from attpc_ioc.ioc.ca.spec import PVSpec, Value
from tests.ca.conftest import specs
from tests.support.thorough import examples

SPECS = {spec.name[2:]: spec for spec in specs()} | {
    "name": PVSpec("T:name", "stringout", ChannelType.STRING, writable=True),
    "names": PVSpec("T:names", "waveform", ChannelType.STRING, max_elements=5, writable=True),
}
STRING, INT, FLOAT, ENUM, CHAR, LONG, DOUBLE = range(7)
CODES = {INT: "h", FLOAT: "f", ENUM: "H", CHAR: "B", LONG: "i", DOUBLE: "d"}


def written(name: str, dtype: int, *values: object) -> Value:
    if dtype == STRING:
        texts = [v if isinstance(v, bytes) else str(v).encode() for v in values]
        payload = texts[0] + b"\0" if len(texts) == 1 else b"".join(t.ljust(40, b"\0") for t in texts)
    elif len(values) == 1 and isinstance(values[0], bytes):
        payload = values[0]
        values = tuple(payload)
    else:
        payload = struct.pack(f">{len(values)}{CODES[dtype]}", *values)
    return decode(SPECS[name], dtype, len(values), payload + bytes(-len(payload) % 8))


def units(text: str) -> list[int]:
    data = text.encode("utf-16-be")
    return list(struct.unpack(f">{len(data) // 2}H", data))


@pytest.mark.parametrize(
    ("name", "dtype", "values", "expected"),
    [
        ("choice", STRING, ["Idle"], 1),
        ("choice", STRING, ["Größe"], 2),
        ("choice", STRING, ["2"], 2),
        ("choice", DOUBLE, [1.0], 1),
        ("choice", ENUM, [0], 0),
        ("choice", CHAR, [1], 1),
        ("longout", STRING, [" 12 "], 12),
        ("longout", STRING, ["1e2"], 100),
        ("longout", DOUBLE, [12.0], 12),
        ("longout", LONG, [1000], 1000),
        ("ao", STRING, ["-2.5"], -2.5),
        ("ao", INT, [-10], -10.0),
        ("title", STRING, ["Größe"], "Größe"),
        ("title", STRING, [""], ""),
        ("title", CHAR, ["Größe".encode() + b"\0rest"], "Größe"),
        ("title", LONG, units("Größe 🎉"), "Größe 🎉"),
        ("title", LONG, [0x1F389], "🎉"),
        ("title", INT, [struct.unpack(">h", struct.pack(">H", u))[0] for u in units("🎉")], "🎉"),
        ("title", DOUBLE, [71, 114, 0, 0], "Gr"),
        ("title", ENUM, units("a€"), "a€"),
        ("title", STRING, ["x" * 39], "x" * 39),
        ("title", STRING, ["ä" * 19 + "x"], "ä" * 19 + "x"),
        ("longout", STRING, ["0x10"], 16),
        ("ao", STRING, ["0x1.8p1"], 3.0),
        ("choice", STRING, [" +1\t"], 1),
        ("name", STRING, ["x" * 39], "x" * 39),
        ("name", STRING, ["ä" * 19 + "x"], "ä" * 19 + "x"),
        ("name", CHAR, [b"hello"], "hello"),
        ("name", CHAR, [b"x" * 39 + b"\0"], "x" * 39),
        ("name", CHAR, [b"x" * 39 + b"\0" + b"y" * 60], "x" * 39),
        ("name", DOUBLE, [1.5], "1.5"),
        ("names", STRING, ["x" * 39, "", "y"], ("x" * 39, "", "y")),
    ],
)
def test_accepted(name: str, dtype: int, values: list[object], expected: Value) -> None:
    value = written(name, dtype, *values)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "dtype", "values", "reason"),
    [
        ("choice", STRING, ["Nonsense"], "not one of"),
        ("choice", STRING, ["99"], "number of a label"),
        ("choice", STRING, ["-1"], "number of a label"),
        ("choice", STRING, ["²"], "not one of"),
        ("choice", ENUM, [3], "number of a label"),
        ("choice", DOUBLE, [0.5], "number of a label"),
        ("choice", DOUBLE, [float("nan")], "number of a label"),
        ("choice", LONG, [-1], "number of a label"),
        ("choice", ENUM, [0, 1], "array"),
        ("longout", STRING, ["twelve"], "not a number"),
        ("longout", STRING, ["1_0"], "not a number"),
        ("longout", STRING, ["nan"], "not a number"),
        ("longout", STRING, ["1e999"], "not a number"),
        ("longout", STRING, [""], "not a number"),
        ("longout", DOUBLE, [1.5], "whole"),
        ("longout", DOUBLE, [1e10], "32 bits"),
        ("longout", DOUBLE, [float("inf")], "not a number"),
        ("longout", LONG, [1001], "above the limit"),
        ("longout", LONG, [-1], "below the limit"),
        ("longout", LONG, [1, 2], "array"),
        ("longout", LONG, [], "array"),
        ("ao", DOUBLE, [float("nan")], "not a number"),
        ("ao", DOUBLE, [float("-inf")], "not a number"),
        ("ao", DOUBLE, [10.0000001], "above the limit"),
        ("ao", STRING, ["1", "2"], "array"),
        ("title", CHAR, [b"\xff\xfe"], "UTF-8"),
        ("title", STRING, [b"Gr\xf6\xdfe"], "UTF-8"),
        ("title", CHAR, [b"x" * 201], "201 characters are more than 200"),
        ("title", LONG, [0xD83C], "surrogate"),
        ("title", LONG, [0xDF89, 0xD83C], "surrogate"),
        ("title", LONG, [65, 0, 66], "NUL"),
        ("title", LONG, [-1], "not a character"),
        ("title", LONG, [0x110000], "not a character"),
        ("title", DOUBLE, [65.5], "not a character"),
        ("title", DOUBLE, [float("nan")], "not a character"),
        ("title", STRING, ["a", "b"], "2 strings"),
        ("title", STRING, ["x" * 40], "at most 39 bytes"),
        ("title", STRING, ["x" * 60], "at most 39 bytes"),
        ("title", STRING, ["ä" * 20], "at most 39 bytes"),
        ("name", STRING, ["x" * 40], "at most 39 bytes"),
        ("name", STRING, ["x" * 200], "at most 39 bytes"),
        ("name", STRING, ["ä" * 20], "at most 39 bytes"),
        ("name", CHAR, [b"x" * 40], "40 characters are more than 39"),
        ("name", CHAR, ["ä".encode() * 20], "39 bytes"),
        ("names", STRING, ["short", "x" * 40], "at most 39 bytes"),
        ("choice", STRING, ["x" * 60], "at most 39 bytes"),
    ],
)
def test_refused(name: str, dtype: int, values: list[object], reason: str) -> None:
    with pytest.raises(Unacceptable, match=reason):
        written(name, dtype, *values)


def test_characters_are_counted_not_bytes() -> None:
    assert written("title", CHAR, ("ä" * 200).encode()) == "ä" * 200
    wide = PVSpec("X", "lsi", ChannelType.CHAR, max_elements=100, max_chars=80, writable=True)
    with pytest.raises(Unacceptable, match="99 bytes"):
        decode(wide, CHAR, 120, "🎉".encode() * 30)


@settings(max_examples=examples(200, 500), deadline=None)
@given(
    st.sampled_from(sorted(SPECS)),
    st.integers(0, 40),
    st.integers(0, 300),
    st.binary(max_size=400),
)
def test_any_bytes_are_taken_or_refused(name: str, dtype: int, count: int, payload: bytes) -> None:
    spec = SPECS[name]
    assert len(shown(dtype, count, payload)) <= 120
    try:
        value = decode(spec, dtype, count, payload)
    except Unacceptable:
        return
    if spec.dtype is ChannelType.ENUM:
        assert value in range(len(spec.labels))
    elif spec.is_text:
        assert isinstance(value, str)
        assert len(value) <= (spec.max_chars or 1023)
        assert "\0" not in value
