"""The how-to pages of the run history: every command in them is run, in order."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attpc_plugins.run_history.exchange.plain import to_plain
from attpc_plugins.run_history.settings import RunHistorySettings
from attpc_plugins.run_history.store.applying.files import digest_of
from attpc_plugins.run_history.store.model.history import ConfigUse

from tests.support.history_shell import RUNS, Shell

PAGES = Path(__file__).parents[2] / "docs" / "how-to"

BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def with_configs(table: str) -> str:
    """Give each run of a CSV the text of a configuration file."""
    header, *rows = table.splitlines()
    made = [f"{header},configs"]
    for number, row in enumerate(rows):
        text = f"<Setup><Gain>{number}</Gain></Setup>\n"
        use = ConfigUse("cobo0", "configure", "e20009", datetime.now(UTC), "file", digest_of(text), text)
        quoted = json.dumps([to_plain(use)]).replace('"', '""')
        made.append(f'{row},"{quoted}"')
    return "\n".join(made) + "\n"


@pytest.mark.parametrize("page", ["run-history.md", "import-old-runs.md"])
def test_commands_of_a_page(
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    for kind, file, text in BLOCK.findall((PAGES / page).read_text(encoding="utf-8")):
        if file:
            Path(file).write_text(text, encoding="utf-8")
        elif kind == "toml":
            section = tomllib.loads(text)["plugins"]["run_history"]
            assert RunHistorySettings.model_validate(section).observable
        elif kind == "console":
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                assert words[0] == "attpc-ioc"
                shell.run(*words[1:])
                ran += 1
                if "--select" in words:
                    Path("first.csv").write_text(with_configs(RUNS.replace("e1,", "e20009,")))
                    shell.run("history", "import", "first.csv")
    assert ran > 4
