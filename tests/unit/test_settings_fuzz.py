"""Settings by hypothesis: nothing but `SettingsError`, and what is written can be read back."""

import copy
import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attpc_ioc.errors import SettingsError
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.describe_rule import DescribeRule, pattern_fault
from attpc_ioc.model.states import Kind
from attpc_ioc.settings import (
    ChannelAccessSettings,
    EccSettings,
    IocSettings,
    LimitSettings,
    LinkSettings,
    PollSettings,
    RunSettings,
    Settings,
    SourceSettings,
    load_settings,
    parse_settings,
)
from attpc_ioc.settings.template import FleetRequest, fleet_settings, fleet_text, request_faults, site_text
from attpc_ioc.settings.toml_text import settings_text, toml_value
from tests.support.thorough import examples

FUZZ = settings(
    max_examples=examples(40, 100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALAR = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    TEXT,
    st.dates(),
    st.times().map(lambda time: time.replace(fold=0)),
    st.datetimes().map(lambda time: time.replace(fold=0)),  # TOML has no fold
    st.sampled_from(["CoBo[0]", "Mutant[master]", "127.0.0.1", "mutant", "other", "Run", "{experiment}", ""]),
)
TOML: st.SearchStrategy[Any] = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)
VALID = tomllib.loads(
    fleet_text(FleetRequest(2, "10.0.0.1", "10.0.1.1"))
    + "[plugins.history]\nenabled = false\n[plugins.router]\nlimit_gb = 1.5\n"
)


def load(text: str) -> Settings | None:
    """Return the settings of a text, or None where it is refused with well-formed faults."""
    try:
        return parse_settings(text, "f.toml")
    except SettingsError as err:
        faults = err.faults
    assert faults
    assert len(set(faults)) == len(faults)
    assert all(fault.strip() and "\n" not in fault for fault in faults), faults
    return None


def toml(data: dict[str, Any]) -> str:
    return "\n".join(f"{toml_value(key)} = {toml_value(value)}" for key, value in data.items())


@FUZZ
@given(st.text(max_size=200))
def test_any_text(text):
    load(text)


@FUZZ
@given(raw=st.binary(max_size=200))
def test_any_file(tmp_path, raw):
    file = tmp_path / "f.toml"
    file.write_bytes(raw)
    with pytest.raises(SettingsError) as caught:  # no server in it, so never right
        load_settings(file)
    assert caught.value.file == str(file)


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(["ioc", "run", "poll", "limits", "order", "ecc", "plugins"]) | TEXT, TOML, max_size=4
    )
)
def test_any_toml(data):
    load(toml(data))


@FUZZ
@given(st.data())
def test_a_right_file_with_anything_in_it_changed(data):
    changed = copy.deepcopy(VALID)
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = changed
        key: Any = None
        while place:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
                break
            place = place[key]
        match data.draw(st.sampled_from(["replace", "delete", "add"])):
            case "replace" if place:
                place[key] = data.draw(TOML)
            case "delete" if place:
                del place[key]
            case _ if isinstance(place, dict):
                place[data.draw(TEXT)] = data.draw(TOML)
            case _:
                place.append(data.draw(TOML))
    load(toml(changed))


NAME = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)
SECONDS = st.floats(0.001, 86400)
PORT = st.integers(1, 65535)
ADDRESS = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
LINE = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=39)
PLUGIN_VALUES = st.dictionaries(TEXT.filter(lambda key: key != "enabled"), TOML, max_size=3)


@st.composite
def fleets(draw) -> Settings:
    """Draw settings that are right."""
    count = draw(st.integers(1, 4))
    mutant = draw(st.booleans())
    eccs = []
    for i in range(count):
        kind = Kind.MUTANT if mutant and i == 0 else draw(st.sampled_from([Kind.COBO, Kind.OTHER]))
        links = tuple(
            LinkSettings(
                name=f"data{k}",
                address=draw(ADDRESS),
                port=1000 + k,
                type=draw(st.sampled_from(["TCP", "FDT", "ICE", "ZBUF"])),
            )
            for k in range(draw(st.integers(1, 3)))
        )
        sender = f"Mutant[{i}]" if kind is Kind.MUTANT else f"CoBo[{i}]"
        name = draw(st.just("") | NAME.map(lambda n, i=i: f"S{i}{n}"))
        describe = draw(st.sampled_from(["cobo*", "{experiment}_a", "a b", ("x", "cobo[0-3]"), '"\\']))
        if kind is not Kind.OTHER:
            describe = draw(st.just("") | st.just(describe))
        eccs.append(
            EccSettings(
                name=f"e{i}{draw(NAME)}",
                host=draw(ADDRESS | st.just("localhost")),
                port=draw(PORT.map(lambda p, i=i: p - p % 5 + 1 + i if p < 65000 else i + 1)),
                kind=kind,
                describe=describe,
                source=(SourceSettings(id=sender, name=name, link=links),),
            )
        )
    periods = sorted(draw(st.lists(st.floats(0.005, 60), min_size=3, max_size=3)))
    return Settings(
        ioc=IocSettings(
            prefix=draw(st.sampled_from(["ATTPC:", "T-", "X:Y:"])),
            engineer=draw(LINE),
            location=draw(st.sampled_from(["", "Söderhalle, Platz 3", 'a "b" \\ c'])),
            server_port=draw(st.none() | PORT),
            interfaces=draw(st.none() | st.just(("127.0.0.1", "0.0.0.0"))),
        ),
        run=RunSettings(first_number=draw(st.integers(0, 2**31 - 1)), stop_on_lost=draw(st.booleans())),
        poll=PollSettings(
            moving_period_s=periods[0],
            quiet_period_s=periods[1],
            backoff_max_s=periods[2],
            offline_after=draw(st.integers(1, 1000)),
        ),
        limits=LimitSettings(describe_s=draw(SECONDS), freshness_s=draw(SECONDS.filter(lambda s: s >= 0.01))),
        channel_access=ChannelAccessSettings(
            max_clients=draw(st.integers(1, 10_000)),
            stall_s=draw(SECONDS),
            queue_depth=draw(st.integers(1, 1000)),
        ),
        ecc=tuple(eccs),
        plugins=draw(st.dictionaries(NAME.map(str.lower), PLUGIN_VALUES, max_size=2)),
    )


@FUZZ
@given(fleets())
def test_settings_can_be_written_and_read_back(fleet):
    read = parse_settings(settings_text(fleet, "A heading.\nOf two lines."), "f.toml")
    # repr, because not-a-number in a plugin's section is not equal to itself
    assert repr(read) == repr(fleet)
    assert all(ecc.rule.patterns for ecc in read.ecc)


REQUESTS = st.builds(
    FleetRequest,
    cobos=st.integers(-1, 258),
    first_cobo=st.just("") | ADDRESS | TEXT,
    mutant=st.just("") | ADDRESS | TEXT,
    single=st.just("") | st.just("daq") | ADDRESS | TEXT,
    prefix=st.just("ATTPC:") | st.from_regex(r"[A-Z]{1,40}:", fullmatch=True) | TEXT,
)


@FUZZ
@given(REQUESTS)
def test_init_refuses_or_writes_what_loads(request):
    faults = request_faults(request)
    if faults:
        assert all(text.startswith("must ") for text in faults.values())
        return
    assert parse_settings(fleet_text(request), "f.toml") == fleet_settings(request)
    assert parse_settings(site_text(request), "f.toml") == fleet_settings(request)


@FUZZ
@given(st.text("ab*?[]!-{}experimnt", max_size=12), st.text("ab*[", min_size=1, max_size=4))
def test_a_rule_takes_any_name(pattern, name):
    if pattern_fault(pattern):
        return
    config = ConfigName(name, name, name)
    assert DescribeRule((pattern,)).accepts(config) in (True, False)
    assert DescribeRule(("{experiment}",)).accepts(config)
