"""The settings that `attpc-ioc init` writes: a fleet of CoBos and a MuTAnT from a few addresses."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from attpc_ioc.model.describe_rule import EXPERIMENT
from attpc_ioc.model.states import Kind

from .contract import PV_NAME_MAX, longest_pv_name
from .ecc_sections import EccSettings, LinkSettings, SourceSettings
from .sections import IocSettings
from .toml_text import settings_text, short_text
from .values import address_fault, host_fault, prefix_fault
from .whole import Settings

COBOS_MAX = 256
ROUTER_PORT = 46005
MUTANT = "mutant"
SINGLE = "ecc"

HEADING = """Settings of attpc-ioc. To change a default, remove the '#' before its key.
`attpc-ioc check FILE` checks this file, with --online it also asks every ECC server."""

SITE_KEYS = ("prefix", "state_dir", "engineer", "location", "interfaces")
"""The keys of `[ioc]` that a site changes; every file has them."""

REST = "All others have defaults: docs/reference/settings.md, `attpc-ioc schema`, or `attpc-ioc init --all`."
"""The last line, in place of all other keys."""


@dataclass(frozen=True, slots=True)
class FleetRequest:
    """The options of `attpc-ioc init`.

    `cobos` CoBos have consecutive addresses from `first_cobo` on; `mutant` is the MuTAnT's address, empty
    without a MuTAnT. With `single` one ECC server on that host drives all boards; then `first_cobo` is the
    address of the first data router, and may be left out if `single` is an address: then all data routers run
    there, each with its own port.
    """

    cobos: int
    first_cobo: str = ""
    mutant: str = ""
    single: str = ""
    prefix: str = "ATTPC:"


def request_faults(request: FleetRequest) -> dict[str, str]:
    """Return what is wrong with a request: for each wrong option what would be right."""
    faults: dict[str, str] = {}
    if fault := prefix_fault(request.prefix):
        faults["prefix"] = fault
    elif len(longest := longest_pv_name(request.prefix, *_names(request))) > PV_NAME_MAX:
        over = len(longest) - PV_NAME_MAX
        faults["prefix"] = f"must be shorter by {over}: {longest!r} has more than {PV_NAME_MAX} characters"
    if not 1 <= request.cobos <= COBOS_MAX:
        faults["cobos"] = f"must be 1 to {COBOS_MAX}, not {request.cobos}"
    if request.single and (fault := host_fault(request.single)):
        faults["single"] = fault
    if request.mutant and (fault := address_fault(request.mutant)):
        faults["mutant"] = fault
    if request.first_cobo:
        if fault := address_fault(request.first_cobo) or _past_the_end(request):
            faults["first_cobo"] = fault
    elif not request.single:
        faults["first_cobo"] = "must be given: the address of CoBo 0, such as '192.168.41.60'"
    elif "single" not in faults and address_fault(request.single):
        faults["first_cobo"] = (
            "must be given: the address of the data router of CoBo 0, since ECC servers resolve no names and "
            f"{request.single!r} is not an address"
        )
    if not faults and not request.single and request.mutant in _addresses(request):
        faults["mutant"] = f"must be another address than the CoBos': {request.mutant} is one of theirs"
    return faults


def _names(request: FleetRequest) -> tuple[list[str], list[str]]:
    """Return the longest names of ECC servers and of sources that result from the request."""
    last = min(max(request.cobos, 1), COBOS_MAX) - 1
    mutant = [MUTANT] if request.mutant else []
    return [SINGLE] if request.single else [f"cobo{last}", *mutant], [f"CoBo{last}"] + ["MuTAnT"] * len(
        mutant
    )


def _past_the_end(request: FleetRequest) -> str:
    last = int(request.first_cobo.rpartition(".")[2]) + request.cobos - 1
    if last <= 255:
        return ""
    return (
        f"must leave room for {request.cobos} CoBos: the last address would end in .{last}, past 255; "
        "give an earlier first address, or fewer CoBos"
    )


def _addresses(request: FleetRequest) -> list[str]:
    first = IPv4Address(request.first_cobo)
    return [str(first + i) for i in range(request.cobos)]


def fleet_settings(request: FleetRequest) -> Settings:
    """Return the settings of the fleet; `ValueError` with all faults if the request is wrong."""
    if faults := request_faults(request):
        raise ValueError("; ".join(f"{option} {text}" for option, text in faults.items()))
    ioc = IocSettings(prefix=request.prefix)
    if request.single:
        return Settings(ioc=ioc, ecc=(_one_server(request),))
    eccs = [
        EccSettings(name=f"cobo{i}", host=address, source=(_cobo(i, address, ROUTER_PORT),))
        for i, address in enumerate(_addresses(request))
    ]
    if request.mutant:
        source = _mutant(request.mutant, ROUTER_PORT)
        eccs.append(EccSettings(name=MUTANT, host=request.mutant, kind=Kind.MUTANT, source=(source,)))
    return Settings(ioc=ioc, ecc=tuple(eccs))


def _one_server(request: FleetRequest) -> EccSettings:
    if request.first_cobo:
        places = [(address, ROUTER_PORT) for address in _addresses(request)]
    else:
        places = [(request.single, ROUTER_PORT + i) for i in range(request.cobos)]
    sources = [_cobo(i, address, port) for i, (address, port) in enumerate(places)]
    if request.mutant:
        # A data router accepts one sender, so two on one host need two ports.
        taken = [port for address, port in places if address == request.mutant]
        sources.append(_mutant(request.mutant, max(taken, default=ROUTER_PORT - 1) + 1))
    return EccSettings(
        name=SINGLE, host=request.single, kind=Kind.OTHER, describe=EXPERIMENT, source=tuple(sources)
    )


def _cobo(number: int, address: str, port: int) -> SourceSettings:
    link = LinkSettings(name=f"data{number}", address=address, port=port)
    return SourceSettings(id=f"CoBo[{number}]", link=(link,))


def _mutant(address: str, port: int) -> SourceSettings:
    link = LinkSettings(name="dataMutant", address=address, port=port, type="FDT")
    return SourceSettings(id="Mutant[master]", link=(link,))


def fleet_text(request: FleetRequest) -> str:
    """Return a settings file with every key and its meaning, the fleet first.

    Raises `ValueError` with all faults if the request is wrong, as `site_text` does.
    """
    return settings_text(fleet_settings(request), HEADING)


def site_text(request: FleetRequest) -> str:
    """Return a settings file with the fleet and `SITE_KEYS` only."""
    return short_text(fleet_settings(request), HEADING, SITE_KEYS, REST)
