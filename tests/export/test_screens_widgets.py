"""The screens, held property by property against Phoebus's own classes of widgets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from attpc_ioc.export.screens.widgets import DISPLAY_VERSION, KINDS
from tests.export.phoebus import FACTS, compute, fault, properties


def elements(files: dict[str, str]) -> Iterator[tuple[str, ET.Element]]:
    for file, text in files.items():
        for element in ET.fromstring(text.encode()).iter("widget"):
            yield f"{file}: {element.findtext('name')}", element


def test_every_widget_has_the_version_and_only_properties_that_phoebus_reads(files: dict[str, str]):
    assert len(files) == 17
    for where, element in elements(files):
        kind = element.get("type", "")
        assert element.get("version") == FACTS["widget"][kind]["version"], where
        tags = [child.tag for child in element if child.tag != "widget"]
        assert set(tags) <= set(properties(kind)), where
        assert len(tags) == len(set(tags)), f"{where}: twice the same property"


def test_every_property_has_a_value_of_its_kind(files: dict[str, str]):
    count = 0
    for where, element in elements(files):
        known = properties(element.get("type", ""))
        for child in element:
            if child.tag != "widget":
                count += 1
                assert not fault(child, known[child.tag]), f"{where}: {fault(child, known[child.tag])}"
    assert count > 2000


def test_every_display_has_the_version_and_only_properties_that_phoebus_reads(files: dict[str, str]):
    known = properties("display")
    for file, text in files.items():
        root = ET.fromstring(text.encode())
        assert (root.tag, root.get("version")) == ("display", FACTS["display"]["version"]), file
        for child in root:
            if child.tag != "widget":
                assert child.tag in known, file
                assert not fault(child, known[child.tag]), f"{file}: {fault(child, known[child.tag])}"


def test_axes_traces_and_columns_have_only_what_phoebus_reads(files: dict[str, str]):
    count = 0
    for where, element in elements(files):
        for tag in ("y_axis", "trace", "column"):
            known = FACTS["element"][tag]["properties"]
            for inner in element.iter(tag):
                count += 1
                for child in inner:
                    assert child.tag in known, where
                    assert not fault(child, known[child.tag]), f"{where}: {fault(child, known[child.tag])}"
    assert count > 50


def test_actions_are_of_a_type_that_phoebus_has_and_whole(files: dict[str, str]):
    seen = set()
    for where, element in elements(files):
        for action in element.iter("action"):
            kind = action.get("type", "")
            seen.add(kind)
            assert {child.tag for child in action} <= set(FACTS["action"][kind]["elements"]), where
            if kind == "open_display":
                assert action.findtext("target") in FACTS["action"][kind]["targets"], where
    assert seen == set(FACTS["action"])


def test_rules_set_a_property_of_the_widget_and_name_their_pvs(files: dict[str, str]):
    count = 0
    for where, element in elements(files):
        known = properties(element.get("type", ""))
        for rule in element.iter("rule"):
            count += 1
            assert set(rule.attrib) == set(FACTS["rule"]["attributes"]), where
            assert {child.tag for child in rule} == set(FACTS["rule"]["elements"]), where
            prop = known[rule.get("prop_id", "")]
            pvs = rule.findall("pv_name")
            for case in rule.findall("exp"):
                assert set(case.attrib) == set(FACTS["rule"]["exp"]["attributes"]), where
                (value,) = case
                assert value.tag == ("expression" if rule.get("out_exp") == "true" else "value"), where
                assert value.tag == "expression" or not fault(value, prop), f"{where}: {fault(value, prop)}"
                condition = case.get("bool_exp", "")
                numbers = {int(n) for n in re.findall(r"pv(?:Int|Sev|Str|s\[)?(\d)", condition)}
                assert numbers <= set(range(len(pvs))), f"{where}: {condition}"
                assert isinstance(_with_three(condition), bool), f"{where}: {condition}"
    assert count > 40


class _Pv:
    def isReadonly(self) -> bool:
        return True


def _with_three(condition: str) -> object:
    kinds = {"": 3, "Int": 3, "Sev": 3, "Str": "3"}
    names = {f"pv{kind}{number}": value for kind, value in kinds.items() for number in range(3)}
    return compute(condition, pvs=[_Pv()] * 3, len=len, **names)


def test_the_programs_own_table_of_widgets_is_phoebus_s():
    assert FACTS["display"]["version"] == DISPLAY_VERSION
    assert set(KINDS) == set(FACTS["widget"])
    for name, kind in KINDS.items():
        assert kind.version == FACTS["widget"][name]["version"], name
        assert kind.properties == set(properties(name)), name
        for part, inner in kind.parts.items():
            assert inner == set(FACTS["element"][part]["properties"]), name


def test_colours_and_fonts_are_whole(files: dict[str, str]):
    for where, element in elements(files):
        for color in element.iter("color"):
            if color.attrib:
                parts = [int(color.get(part, "-1")) for part in ("red", "green", "blue")]
                assert all(0 <= part <= 255 for part in parts), where
        for font in element.iter("font"):
            if font.attrib:
                assert font.get("family") in ("Liberation Sans", "Liberation Mono"), where
                assert font.get("style") in ("REGULAR", "BOLD"), where
                assert float(font.get("size", "0")) >= 15, f"{where}: too small to read"
