"""The how-to of the data routers: its settings are accepted, and it leaves no setting and no PV out."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from attpc_plugins.data_routers import plugin as DataRouters
from attpc_plugins.data_routers.settings import DataRoutersSettings, EccHostSettings, RouterSettings
from pydantic import BaseModel

from tests.support.pages import ROOT

PAGE = (ROOT / "docs/how-to/data-routers.md").read_text(encoding="utf-8")


def fields(model: type[BaseModel], head: str = "") -> Iterator[tuple[str, str]]:
    """Every key with its description, those of tables with the table's name."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{name}.")
        elif not (model is DataRoutersSettings and name in ("router", "ecc")):
            yield f"{head}{name}", field.description or ""


@pytest.mark.parametrize(
    ("key", "description"),
    [*fields(DataRoutersSettings), *fields(RouterSettings), *fields(EccHostSettings)],
)
def test_every_setting_is_described(key, description):
    assert description
    assert re.search(rf"^\| `{re.escape(key)}` \| .* \| {re.escape(description)} \|$", PAGE, re.MULTILINE)


def test_the_settings_of_the_page_are_accepted():
    (text,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    settings = DataRoutersSettings.model_validate(tomllib.loads(text)["plugins"]["data_routers"])
    assert [router.label for router in settings.router] == ["CoBo0", "CoBo1", "mutant"]


def test_every_pv_is_described():
    for row in DataRouters().attpc_pvs(DataRoutersSettings()):
        name = row.part.removeprefix("Router:")
        assert name in PAGE, name
