"""One rule for every host that the settings name: what is taken for one is taken for all."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from attpc_plugins.data_routers.settings import DataRoutersSettings
from attpc_plugins.run_history.settings import RunHistorySettings
from pydantic import ValidationError

from attpc_ioc.ecc.client import EccClient
from attpc_ioc.errors import EccUnreachable, SettingsError
from attpc_ioc.settings import Settings, parse_settings
from attpc_ioc.settings.template import FleetRequest, request_faults

GOOD = ("daq", "cobo_0", "_x", "a-b.example.org", "A1", "10.0.0.1", "cobo_0.lab_net.", "x" * 63)
BAD = ("-a", "a-", "a..b", "a b", "a/b", "http://a", "a:22", "cöbo", "10.0.0.256", "x" * 64, "a\tb", "user@a")


def ecc(host: str) -> None:
    """The host of an ECC server."""
    parse_settings(
        f'[[ecc]]\nname = "a"\nhost = "{host}"\n[[ecc.source]]\nid = "CoBo[0]"\n'
        '[[ecc.source.link]]\nname = "data0"\naddress = "10.0.0.1"\n'.replace("\t", "\\t"),
        "f.toml",
    )


def single(host: str) -> None:
    """`attpc-ioc init --single`."""
    if faults := request_faults(FleetRequest(1, "10.0.0.1", single=host)):
        raise ValueError(faults)


def _router(**more: Any) -> None:
    DataRoutersSettings.model_validate({"router": [{"sources": ["CoBo0"], **more}]})


def router(host: str) -> None:
    """The host of a data router behind SSH; a ProxyJump is in the SSH configuration."""
    _router(access="ssh", host=host, staging="/data")


def sentry(host: str) -> None:
    """The host of a sentry."""
    _router(access="sentry", host=host)


def xcfg(host: str) -> None:
    """The host of the configuration files."""
    DataRoutersSettings.model_validate({"ecc": [{"access": "ssh", "host": host, "xcfg": "/xcfg"}]})


PLACES = (ecc, single, router, sentry, xcfg)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("host", GOOD)
def test_every_place_takes(place: Any, host: str) -> None:
    place(host)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("host", BAD)
def test_every_place_refuses(place: Any, host: str) -> None:
    with pytest.raises((ValidationError, SettingsError, ValueError)):
        place(host)


@pytest.mark.parametrize("place", [router, sentry, xcfg])
def test_data_hosts_may_have_addresses_of_ipv6(place: Any) -> None:
    place("::1")
    place("fe80::1")


@pytest.mark.parametrize("host", ["db_1.lab", "10.0.0.1", "[::1]:5432", "a_b,c_d:5433"])
def test_a_database_may_have_such_a_name(host: str) -> None:
    RunHistorySettings.model_validate({"dsn": f"postgresql://u@{host}/d"})


async def test_such_a_name_is_asked_for_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: Settings = parse_settings(
        '[[ecc]]\nname = "a"\nhost = "cobo_0"\n[[ecc.source]]\nid = "CoBo[0]"\n'
        '[[ecc.source.link]]\nname = "data0"\naddress = "10.0.0.1"\n',
        "f.toml",
    )
    url = settings.ecc[0].url
    assert url == "http://cobo_0:8083/"
    asked: list[str] = []

    def answer(host: Any, *_rest: Any, **_options: Any) -> Any:
        asked.append(host if isinstance(host, str) else host.decode())
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    client = EccClient(url, name="a")
    try:
        for call in (client.get_state, client.get_config_ids):
            with pytest.raises(EccUnreachable, match="cobo_0"):
                await call()
    finally:
        await client.close()
    assert set(asked) == {"cobo_0"}
