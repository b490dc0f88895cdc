"""The plugin's section of the settings file."""

from __future__ import annotations

import pytest
from attpc_plugins.run_history.plugin import RunHistory
from attpc_plugins.run_history.settings import RunHistorySettings, fleet_key
from pydantic import ValidationError

from attpc_ioc.plugin.host import PluginHost

URLS = ["http://192.168.41.60:8083", "http://192.168.41.1:8083"]


def test_nothing_has_to_be_set():
    settings = RunHistorySettings()
    assert (settings.dsn, settings.first_number, settings.put_log_days) == (None, 0, 365)


def test_a_password_is_never_shown():
    settings = RunHistorySettings.model_validate({"dsn": "postgresql://a:secret@db/x"})
    assert settings.dsn is not None
    assert "secret" not in repr(settings)
    assert settings.dsn.get_secret_value().endswith("db/x")


@pytest.mark.parametrize(
    "section",
    [
        {"unknown": 1},
        {"first_number": -1},
        {"first_number": 2**31},
        {"put_log_days": 0},
        {"number_limit_s": 2.5},
        {"lease_s": 1},
        {"observables": [{"name": "has space"}]},
        {"observables": [{"name": "a", "type": "complex"}]},
        {"observables": [{"name": "a", "pv": "two words"}]},
        {"observables": [{"name": "a"}, {"name": "A"}]},
    ],
)
def test_what_cannot_be_is_refused(section):
    with pytest.raises(ValidationError):
        RunHistorySettings.model_validate(section)


def test_a_key_without_effect_is_accepted_and_said_once(caplog):
    host = PluginHost({"run_history": {"journal_limit_mb": 256}})
    host.register(RunHistory(), "run_history")
    assert host.check_sections() == []
    (said,) = [record.keys for record in caplog.records]
    assert said["key"] == "plugins.run_history.journal_limit_mb"
    assert said["reason"].startswith("without effect since 0.2")


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("garbage", "is not a URL; it is like postgresql://USER@HOST"),
        ("mysql://a:secret@db/x", "begins with neither postgresql:// nor postgres://"),
        ("postgresql://a:secret@db:port/x", "has a port that is not a number"),
    ],
)
def test_a_dsn_that_is_no_url_of_postgresql(dsn, said):
    with pytest.raises(ValidationError, match=said) as caught:
        RunHistorySettings.model_validate({"dsn": dsn})
    assert "secret" not in str(caught.value)


def test_a_fleet_is_named_by_its_servers_in_any_order():
    settings = RunHistorySettings()
    key = fleet_key(settings, URLS)
    assert key == fleet_key(settings, [*reversed(URLS), URLS[0]])
    assert key != fleet_key(settings, URLS[:1])
    assert fleet_key(RunHistorySettings(fleet="main"), URLS) == "main"
