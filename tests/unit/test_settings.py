"""Settings that are right: defaults, rules, names, the state directory, the schema and the page."""

import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.describe_rule import DescribeRule
from attpc_ioc.model.states import Kind, Operation
from attpc_ioc.settings import (
    EccSettings,
    IocSettings,
    LimitSettings,
    LinkSettings,
    Settings,
    SourceSettings,
    load_settings,
    parse_settings,
)
from attpc_ioc.settings.contract import (
    LONGEST_ECC_PART,
    LONGEST_FIXED,
    LONGEST_SOURCE_PART,
    SYSTEM_PV_NAMES,
    longest_pv_name,
)
from attpc_ioc.settings.names import default_source_name
from attpc_ioc.settings.schema import settings_schema
from attpc_ioc.settings.template import FleetRequest, fleet_settings, fleet_text
from tests.docs.settings_page import settings_page
from tests.support.json_schema import check_schema, schema_faults

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
LINK = LinkSettings(name="data0", address="127.0.0.1")


def ecc(kind: Kind = Kind.COBO, *ids: str, describe: str | tuple[str, ...] = "") -> EccSettings:
    sources = tuple(SourceSettings(id=sender, link=(LINK,)) for sender in ids)
    return EccSettings(name="a", host="127.0.0.1", kind=kind, describe=describe, source=sources)


def config(text: str) -> ConfigName:
    return ConfigName.parse(text)


def test_every_operation_has_its_limit():
    limits = LimitSettings(describe_s=1, undo_s=7)
    assert limits.of(Operation.DESCRIBE) == 1
    assert limits.of(Operation.UNDO) == 7
    assert [limits.of(operation) for operation in Operation] == [1, 120, 120, 30, 30, 60, 7]


def test_settings_built_in_code_are_checked_as_a_whole_too():
    with pytest.raises(ValidationError, match="must be another sender id"):
        Settings(ecc=(ecc(Kind.COBO, "CoBo[0]", "CoBo[0]", describe="x"),))
    assert Settings(ecc=(ecc(Kind.COBO, "CoBo[0]"),)).ecc[0].url == "http://127.0.0.1:8083/"


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("CoBo[0]", "CoBo0"),
        ("CoBo[10]", "CoBo10"),
        ("Mutant[master]", "MuTAnT"),
        ("Mutant[2]", "MuTAnT2"),
        ("Asad[x-1]", "Asadx-1"),
    ],
)
def test_names_of_sources(sender, name):
    assert default_source_name(sender) == name
    assert SourceSettings(id=sender).pv_name == name
    assert SourceSettings(id=sender, name="Own").pv_name == "Own"
    assert [source.pv_name for source in ecc(Kind.OTHER, sender).source] == [name]


@pytest.mark.parametrize(
    ("server", "patterns"),
    [
        (ecc(Kind.COBO, "CoBo[0]"), ("cobo0",)),
        (ecc(Kind.COBO, "CoBo[10]"), ("cobo10",)),
        (ecc(Kind.COBO, "CoBo[0]", describe="x*"), ("x*",)),
        (ecc(Kind.COBO, "CoBo[0]", describe=("x", "y")), ("x", "y")),
        (ecc(Kind.MUTANT, "Mutant[master]"), ("{experiment}",)),
        (ecc(Kind.OTHER, "CoBo[0]", describe="{experiment}"), ("{experiment}",)),
    ],
)
def test_rules_of_servers(server, patterns):
    assert server.rule == DescribeRule(patterns)


@pytest.mark.parametrize("server", [ecc(), ecc(Kind.OTHER, "CoBo[0]"), ecc(Kind.COBO, "CoBo[0]", "CoBo[1]")])
def test_a_server_without_a_default_rule_says_so(server):
    with pytest.raises(ValueError, match="'a' needs 'describe'"):
        _ = server.rule


@pytest.mark.parametrize(
    ("patterns", "name", "accepted"),
    [
        (("cobo0",), "cobo0/e/e", True),
        (("cobo0",), "cobo01/e/e", False),
        (("cobo0",), "Cobo0/e/e", False),
        (("cobo?",), "cobo9/e/e", True),
        (("cobo*",), "e/e/e", False),
        (("cobo[0-4]",), "cobo4/e/e", True),
        (("cobo[0-4]",), "cobo5/e/e", False),
        (("{experiment}",), "e/e/e", True),
        (("{experiment}",), "e/x/e", True),
        (("{experiment}",), "e/e/x", False),
        (("{experiment}_c?",), "e_c1/e/e", True),
        (("{experiment}",), "ab/e/a*", False),
        (("{experiment}",), "a*/e/a*", True),
        (("x", "{experiment}"), "x/e/e", True),
        (("x", "{experiment}"), "y/e/e", False),
    ],
)
def test_what_a_rule_accepts(patterns, name, accepted):
    assert DescribeRule(patterns).accepts(config(name)) is accepted


def test_names_of_an_experiment():
    offered = [config(name) for name in ("cobo0/e/e", "cobo1/e/e", "cobo0/f/f", "cobo0/e/f", "e/e/e")]
    assert DescribeRule(("cobo0",)).names_for("e", offered) == (offered[0],)
    assert DescribeRule(("cobo*", "{experiment}")).names_for("e", iter(offered)) == (*offered[:2], offered[4])
    assert DescribeRule(("cobo0",)).names_for("g", offered) == ()


def test_a_rule_in_words():
    text = str(DescribeRule(("cobo0", "x*", "{experiment}")))
    assert text == "'cobo0' or a name like 'x*' or the experiment's name"


@pytest.mark.parametrize("patterns", [(), ("",), ("a/b",), (" a",), ("{x}",), ("a\n",)])
def test_a_rule_cannot_be_wrong(patterns):
    with pytest.raises(ValueError, match="describe"):
        DescribeRule(patterns)


class TestStateDirectory:
    def settings(self, state_dir: str | None = None) -> Settings:
        return Settings(ioc=IocSettings(state_dir=state_dir), ecc=(ecc(Kind.COBO, "CoBo[0]"),))

    def test_default(self, monkeypatch, tmp_path):
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert self.settings().state_directory() == Path("/var/lib/attpc-ioc")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert self.settings().state_directory() == tmp_path / ".local/state/attpc-ioc"

    def test_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert self.settings().state_directory() == tmp_path / "attpc-ioc"
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        for not_absolute in ("", "relative"):
            monkeypatch.setenv("XDG_STATE_HOME", not_absolute)
            assert self.settings().state_directory() == Path("/var/lib/attpc-ioc")

    def test_setting(self, monkeypatch, tmp_path):
        monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
        monkeypatch.setenv("HOME", "/home/of-someone")
        monkeypatch.chdir("/")
        for value, expected in {
            "/a/b": "/a/b",
            "~/x": "/home/of-someone/x",
            "kept": f"{tmp_path}/kept",
        }.items():
            file = tmp_path / "f.toml"
            text = fleet_text(FleetRequest(1, "10.0.0.1"))
            file.write_text(text.replace('#state_dir = "/var/lib/attpc-ioc"', f'state_dir = "{value}"'))
            for path in (file, Path(os.path.relpath(file))):
                assert load_settings(path).state_directory() == Path(expected)


def test_the_longest_pv_name():
    assert longest_pv_name("A:") == f"A:{LONGEST_FIXED}"
    assert longest_pv_name("A:", ["abcdef"], ["b"]) == f"A:Ecc:abcdef:{LONGEST_ECC_PART}"
    assert longest_pv_name("A:", ["a"], ["bcd"]) == f"A:bcd:{LONGEST_SOURCE_PART}"
    assert longest_pv_name("A:", plugins=["data_router_x"]) == "A:Plugin:data_router_x:Message_RBV"


def test_the_schema_is_well_formed_and_explains_every_key():
    schema = settings_schema()
    check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    for model in [schema, *(m for m in schema["$defs"].values() if "properties" in m)]:
        assert model["additionalProperties"] is False
        for key, prop in model["properties"].items():
            assert prop.get("description"), f"{model['title']}.{key}"
            number = prop.get("type") == "number"
            assert not number or key.endswith("_s"), f"{model['title']}.{key} has no unit in its name"


@pytest.mark.parametrize(
    "request_",
    [
        FleetRequest(11, "192.168.41.60", "192.168.41.1"),
        FleetRequest(1, "192.168.41.60"),
        FleetRequest(3, single="daq", first_cobo="10.0.0.1", mutant="10.0.0.9"),
    ],
)
def test_the_schema_accepts_what_init_writes(request_):
    assert schema_faults(settings_schema(), tomllib.loads(fleet_text(request_))) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["ioc", "prefix"], "A B"),
        (["ioc", "foo"], 1),
        (["poll", "timeout_s"], 0),
        (["limits", "stop_s"], 0),
        (["ecc", 0, "port"], 70000),
        (["ecc", 0, "port"], "8083"),
        (["ecc", 0, "kind"], "x"),
        (["ecc", 0, "name"], "a:b"),
        (["ecc", 0, "describe"], 1),
        (["ecc", 0, "source", 0, "id"], "CoBo"),
        (["ecc"], []),
        (["plugins", "a"], 1),
    ],
)
def test_the_schema_refuses_mistakes(path, value):
    data = tomllib.loads(fleet_text(FleetRequest(2, "10.0.0.1"))) | {"plugins": {}}
    target = data
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    assert schema_faults(settings_schema(), data)


def test_the_reference_page_is_up_to_date():
    assert PAGE.read_text() == settings_page(), "docs/reference/settings.md is to be generated again"


def test_the_reference_page_has_every_key():
    page = settings_page()
    for model in settings_schema()["$defs"].values():
        for key in model.get("properties", {}):
            assert f"`{key}`" in page or f"ecc.{key}]]" in page or f"source.{key}]]" in page
    for name in SYSTEM_PV_NAMES:
        assert re.fullmatch(r"[A-Z][A-Za-z]*(_RBV)?", name)


def test_settings_cannot_be_changed():
    settings = parse_settings(fleet_text(FleetRequest(1, "10.0.0.1")), "f")
    assert settings == fleet_settings(FleetRequest(1, "10.0.0.1"))
    with pytest.raises(ValidationError, match="frozen"):
        settings.ioc.prefix = "B:"  # type: ignore[misc]
