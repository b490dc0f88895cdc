"""Where PVAccess is served: from the settings and from EPICS's environment variables.

The variables are read here and not by pvxs, which prints what is wrong in them where nobody looks, and
does not start for some of it. Their names and meaning are those of pvxs's documentation ("Server
Configuration"); what is wrong is logged and left out, as for Channel Access.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from attpc_ioc.ioc.ca.variables import Variables
from attpc_ioc.settings import PvaSettings

INTERFACES = "EPICS_PVAS_INTF_ADDR_LIST"
_PORT, _UDP_PORT, _TIMEOUT_S = 5075, 5076, 30.0
_BEACONS, _SEARCHES = "EPICS_PVAS_BEACON_ADDR_LIST", "EPICS_PVA_ADDR_LIST"
_AUTO = ("EPICS_PVAS_AUTO_BEACON_ADDR_LIST", "EPICS_PVA_AUTO_ADDR_LIST")
_IGNORED = "EPICS_PVAS_IGNORE_ADDR_LIST"

_PVXS_FORM = re.compile(
    r"\[[0-9a-fA-F:.]+\](:\d{1,5})?([,@][\w.,@:-]+)?|\d+\.\d+\.\d+\.\d+(:\d{1,5})?[,@][\w.,@-]+"
)
"""What pvxs understands beyond HOST and HOST:PORT: IPv6 addresses, and multicast groups with TTL."""


@dataclass(frozen=True, slots=True)
class PvaConf:
    """The complete configuration of a server as pvxs's variables, and what was wrong in the environment."""

    values: dict[str, str]
    faults: tuple[str, ...]


def pva_conf(
    settings: PvaSettings,
    ioc_interfaces: tuple[str, ...] | None,
    environ: Mapping[str, str] | None = None,
) -> PvaConf:
    """Return the configuration; looks up host names, which blocks for at most `variables.RESOLVE_S`."""
    environ = os.environ if environ is None else environ
    env = Variables(environ)
    env.look_up(INTERFACES, _BEACONS, _SEARCHES, _IGNORED)
    values = {
        "EPICS_PVAS_SERVER_PORT": str(
            settings.server_port
            or env.port(_PORT, "EPICS_PVAS_SERVER_PORT", "EPICS_PVA_SERVER_PORT", lowest=0)
        ),
        "EPICS_PVAS_BROADCAST_PORT": str(
            settings.broadcast_port
            or env.port(_UDP_PORT, "EPICS_PVAS_BROADCAST_PORT", "EPICS_PVA_BROADCAST_PORT", lowest=0)
        ),
        "EPICS_PVA_CONN_TMO": f"{env.period_s(_TIMEOUT_S, 'EPICS_PVA_CONN_TMO'):g}",
    }
    interfaces = settings.interfaces or _addresses(env, environ, INTERFACES) or ioc_interfaces
    if interfaces:
        values[INTERFACES] = " ".join(interfaces)
    if settings.beacon_addresses is not None:
        values[_BEACONS], values[_AUTO[0]] = " ".join(settings.beacon_addresses), "NO"
    else:
        name = _BEACONS if env.is_set(_BEACONS) else _SEARCHES
        values[_BEACONS] = " ".join(_addresses(env, environ, name))
        values[_AUTO[0]] = "YES" if _automatic(env, environ) else "NO"
    if ignored := _addresses(env, environ, _IGNORED):
        values[_IGNORED] = " ".join(ignored)
    return PvaConf(values, env.faults)


def _addresses(env: Variables, environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return the addresses of a list, host names replaced; the port only where there is one."""
    found: list[str] = []
    for word in environ.get(name, "").split():
        if _PVXS_FORM.fullmatch(word):
            found.append(word)
        else:
            found += (f"{host}:{port}" if port else host for host, port in env.parsed(name, word, 0))
    return tuple(dict.fromkeys(found))


def _automatic(env: Variables, environ: Mapping[str, str]) -> bool:
    name = next((name for name in _AUTO if environ.get(name)), "")
    text = environ.get(name, "YES").upper()
    if text in ("YES", "1", "NO", "0"):
        return text in ("YES", "1")
    env.fault(f"{name}={environ[name]!r} is neither YES nor NO: YES is used")
    return True
