"""Texts of others: nothing in them steers a terminal, and what was there can still be seen."""

from __future__ import annotations

import ast
import json

from attpc_plugins.data_routers.hosts.words import FaultKind, fault
from hypothesis import example, given
from hypothesis import strategies as st

from attpc_ioc.printable import LINES, control_fault, json_text, one_line, visible

TEXTS = st.text(st.characters())
"""Any text, with halves of surrogate pairs."""


@given(TEXTS)
@example("\x1b]0;owned\x07")
@example("\x9b31m")
@example("invoice\u202efdp.exe")
@example("\udcff\x00\U000e0001")
def test_every_character_is_shown(text):
    shown = visible(text)
    assert shown.isprintable()
    if "\\" not in text and '"' not in text:
        assert ast.literal_eval(f'"{shown}"') == text


@given(TEXTS)
def test_lines_stay_where_they_may(text):
    shown = visible(text, LINES)
    assert all(c in LINES or c.isprintable() for c in shown)
    assert [shown.count(c) for c in LINES] == [text.count(c) for c in LINES]


@given(TEXTS)
@example("two\r\nlines\x85and\u2028more")
def test_one_line_is_one(text):
    assert one_line(text).isprintable()


def test_blanks_of_any_kind_are_blanks():
    assert one_line("10\u00a0Torr,\r\nthen\t12") == "10 Torr, then 12"


@given(TEXTS, st.sampled_from([None, 1]))
def test_json_reads_back_the_same(text, indent):
    line = json_text({text: [text]}, indent=indent)
    assert line.replace("\n", "").isprintable()
    assert json.loads(line) == {text: [text]}


def test_what_people_write_is_taken():
    for text in ("", "two\nlines\r\nof µ ☢", "שלום\u200f", "👩\u200d🔬", "10\u00a0Torr", "a\tb"):
        assert control_fault(text) == ""


def test_control_characters_are_named():
    for char, name in (
        ("\x1b", "\\x1b"),
        ("\x00", "\\x00"),
        ("\x7f", "\\x7f"),
        ("\x9b", "\\x9b"),
        ("\r", "\\r"),
    ):
        assert control_fault(f"ab{char}c") == f"character 3 of the text is the control character {name}"


@given(st.binary(), TEXTS)
def test_what_a_host_says_is_shown(path, detail):
    for trouble in FaultKind:
        assert all(c in LINES or c.isprintable() for c in str(fault(trouble, path, detail)))
