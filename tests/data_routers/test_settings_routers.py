"""What the settings of data routers may not say together."""

from __future__ import annotations

import pytest
from attpc_plugins.data_routers.settings import DataRoutersSettings
from pydantic import ValidationError

SSH = {"access": "ssh", "host": "daq", "staging": "/data"}
LOCAL = {"access": "local", "staging": "/data"}
SENTRY = {"access": "sentry", "host": "daq"}


def settings(*tables: dict[str, object]) -> DataRoutersSettings:
    routers = [{"sources": [f"CoBo{number}"], **table} for number, table in enumerate(tables)]
    return DataRoutersSettings.model_validate({"router": routers})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LOCAL, {**LOCAL, "staging": "/data/"}),
        (LOCAL, {**LOCAL, "staging": "//data/./x/.."}),
        (SSH, {**SSH, "host": "DAQ"}),
        (SSH, {**SSH, "process": "another"}),
        (SENTRY, {**SENTRY, "port": 8080}),
    ],
)
def test_a_staging_folder_is_of_one_router_only(one, other):
    with pytest.raises(
        ValidationError, match=r"of one router only: CoBo0 and CoBo1 have the same.*'sources'"
    ):
        settings(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LOCAL, {**LOCAL, "staging": "/data2"}),
        (LOCAL, SSH),
        (SSH, {**SSH, "host": "daq2"}),
        (SSH, {**SSH, "port": 2222}),
        (SENTRY, {**SENTRY, "port": 8081}),
    ],
)
def test_folders_of_the_same_name_elsewhere_are_others(one, other):
    assert len(settings(one, other).router) == 2
