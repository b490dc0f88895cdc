"""Plugins that are installed beside the project do not change its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.plugins.test_loading import installed
from tests.support.pages import ROOT

FOUND = "from importlib.metadata import entry_points; print(*sorted(entry_points(group='attpc_ioc').names))"

AS_THE_TESTS = f"""
import subprocess, sys
from tests import conftest
{FOUND}
conftest.pytest_configure()
{FOUND}
subprocess.run([sys.executable, "-c", {FOUND!r}], check=True)
"""


def test_a_plugin_beside_the_project_is_hidden_from_tests_and_what_they_start(tmp_path: Path):
    installed(tmp_path, beside="raise AssertionError('not for the tests')\n")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    shown = subprocess.run(
        [sys.executable, "-u", "-c", AS_THE_TESTS], env=env, capture_output=True, text=True, check=True
    )
    before, here, started = (line.split() for line in shown.stdout.splitlines())
    assert "beside" in before
    assert here == started == ["data_routers", "run_history", "web"]
