"""Characters that XML cannot hold, and those that steer a terminal, are shown escaped in the files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import example, given
from hypothesis import strategies as st

from attpc_ioc.export.alarms import AlarmPv, Component, fragment_text, whole_text
from attpc_ioc.export.screens.bob import Color, Display, Widget, xml
from tests.export.alarm_reader import read_alarms

ODD = "a\x00b\x1b[2J\x9b\u202e\ufffe\udcffc"
SHOWN = r"a\x00b\x1b[2J\x9b\u202e\ufffe\udcffc"

TEXTS = st.text(st.characters(), min_size=1, max_size=20).map(lambda text: f"x{text}x")


@given(TEXTS)
@example(ODD)
@example("two\nlines")
def test_a_screen_is_xml_whatever_its_texts(text: str) -> None:
    label = Widget("label", text, 0, 0, 10, 10, {"text": text})
    made = xml(Display(text, 20, 20, Color(0, 0, 0), (label,)))
    root = ET.fromstring(made.encode())
    found = root.findtext("widget/text")
    assert found is not None
    assert all(c in "\n\t" or c.isprintable() for c in found)
    if text.isprintable():
        assert found == text
    if text == ODD:
        assert found == SHOWN


def test_an_alarm_tree_is_xml_whatever_its_texts(tmp_path: Path) -> None:
    tree = (Component("Gas", (AlarmPv("T:Gas", ODD, ODD, ODD, ODD, False, False, 0),)),)
    for text in (whole_text(tree, "T"), fragment_text(tree, "T")):
        ET.fromstring(text.encode())
    file = tmp_path / "alarms.xml"
    file.write_text(whole_text(tree, "T"), encoding="utf-8")
    pv = read_alarms(file).pvs["T:Gas"]
    assert pv.description == SHOWN
    assert pv.guidance == (("What to do", SHOWN),)
