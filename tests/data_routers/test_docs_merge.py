"""The how-to of merging: its settings are accepted, and its commands have these options."""

from __future__ import annotations

import re
import shlex
import tomllib

import typer
from attpc_plugins.data_routers.plugin import DataRouters
from attpc_plugins.data_routers.settings import DataRoutersSettings
from typer.testing import CliRunner

from tests.support.pages import ROOT

PAGE = (ROOT / "docs/how-to/merge-runs.md").read_text(encoding="utf-8")


def test_the_settings_of_the_page_are_accepted() -> None:
    texts = re.findall(r"^ *```toml\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    settings = DataRoutersSettings.model_validate(tomllib.loads("".join(texts))["plugins"]["data_routers"])
    assert {router.staging for router in settings.router} == {
        "/Users/attpc/Data/mm2",
        "/Users/attpc/Data/mm3",
    }


def test_the_commands_of_the_page_are_accepted() -> None:
    app = typer.Typer()
    DataRouters().attpc_cli(app)
    lines = re.findall(r"^attpc-ioc (files .*)$", PAGE, re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["verify", "check", "gather"]
    for line in lines:
        ran = CliRunner().invoke(app, [*shlex.split(line), "--settings", "/nothing.toml"])
        # The words are understood; there are no settings.
        assert ran.exit_code != 2, ran.output
        assert "nothing.toml" in str(ran.exception)
