"""What the settings say of PV names agrees with the PV table."""

from attpc_ioc.model.command import Scope, ScopeKind
from attpc_ioc.pvs.row import full_name
from attpc_ioc.pvs.table import CORE_ROWS, build_table
from attpc_ioc.settings import Settings
from attpc_ioc.settings.contract import (
    LONGEST_ECC_PART,
    LONGEST_FIXED,
    LONGEST_PLUGIN_PART,
    LONGEST_SOURCE_PART,
    PV_NAME_MAX,
    RESERVED_NAMES,
    SYSTEM_PV_NAMES,
    longest_pv_name,
)
from tests.support.fleets import make_settings


def longest(kind: ScopeKind) -> int:
    return max(len(row.part) for row in CORE_ROWS[kind])


def test_the_system_pv_names_are_those_of_the_table():
    assert {row.part for row in CORE_ROWS[ScopeKind.SYSTEM]} <= SYSTEM_PV_NAMES


def test_the_scopes_of_the_table_are_reserved():
    for kind in ScopeKind:
        if kind not in (ScopeKind.SYSTEM, ScopeKind.SOURCE):
            assert full_name("", Scope(kind, "x"), "y").partition(":")[0] in RESERVED_NAMES


def test_no_part_of_the_table_is_longer_than_the_settings_think():
    assert longest(ScopeKind.ECC) <= len(LONGEST_ECC_PART)
    assert longest(ScopeKind.SOURCE) <= len(LONGEST_SOURCE_PART)
    assert longest(ScopeKind.PLUGIN) <= len(LONGEST_PLUGIN_PART)
    fixed = [
        longest(ScopeKind.SYSTEM),
        len("Run:") + longest(ScopeKind.RUN),
        len("IOC:") + longest(ScopeKind.IOC),
    ]
    assert max(fixed) <= len(LONGEST_FIXED)


def test_settings_with_the_longest_names_that_they_allow_make_a_table():
    data = make_settings(2).model_dump()
    data["plugins"] = {"p" * (PV_NAME_MAX - len(longest_pv_name("T:", plugins=[""]))): {}}
    for i, ecc in enumerate(data["ecc"]):
        ecc["name"] = f"{i}" * (PV_NAME_MAX - len(longest_pv_name("T:", [""])))
        ecc["source"][0]["name"] = f"{i}" * (PV_NAME_MAX - len(longest_pv_name("T:", [], [""])))
    settings = Settings.model_validate(data)
    table = build_table(settings, plugins=settings.plugins)
    assert max(len(entry.name) for entry in table) <= PV_NAME_MAX
