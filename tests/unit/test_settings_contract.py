"""What the settings say of PV names agrees with the PV table."""

from attpc_ioc.model.command import Scope, ScopeKind
from attpc_ioc.pvs.row import full_name
from attpc_ioc.settings import Settings
from attpc_ioc.settings.contract import (
    PV_NAME_MAX,
    RESERVED_NAMES,
    longest_pv_name,
)
from tests.support.fleets import make_settings, table_of


def test_the_scopes_of_the_table_are_reserved():
    for kind in ScopeKind:
        if kind not in (ScopeKind.SYSTEM, ScopeKind.SOURCE):
            assert full_name("", Scope(kind, "x"), "y").partition(":")[0] in RESERVED_NAMES


def test_settings_with_the_longest_names_that_they_allow_make_a_table():
    data = make_settings(2).model_dump()
    data["plugins"] = {"p" * (PV_NAME_MAX - len(longest_pv_name("T:", plugins=[""]))): {}}
    for i, ecc in enumerate(data["ecc"]):
        ecc["name"] = f"{i}" * (PV_NAME_MAX - len(longest_pv_name("T:", [""])))
        ecc["source"][0]["name"] = f"{i}" * (PV_NAME_MAX - len(longest_pv_name("T:", [], [""])))
    settings = Settings.model_validate(data)
    table = table_of(settings, plugins=settings.plugins)
    assert max(len(entry.name) for entry in table) <= PV_NAME_MAX
