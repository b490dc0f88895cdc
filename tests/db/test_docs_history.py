"""The how-to pages of the run history: every command in them is run, in order."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from attpc_plugins.run_history.settings import RunHistorySettings

from tests.db.test_commands_history import RUNS, Shell, shell  # noqa: F401

PAGES = Path(__file__).parents[2] / "docs" / "how-to"

BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["run-history.md", "import-old-runs.md"])
def test_commands_of_a_page(
    shell: Shell,  # noqa: F811
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
                    Path("first.csv").write_text(RUNS.replace("e1,", "e20009,"))
                    shell.run("history", "import", "first.csv")
    assert ran > 4
