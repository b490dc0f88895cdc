"""`make` and `.ci/run` on machines that lack something: each says what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.support.pages import ROOT

LOCK = "deploy/requirements-dev.lock"


def machine(folder, *, lacks: str):
    """A folder with the Makefile, and a Python that fails when a word of `lacks` is among its arguments."""
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "deploy").mkdir()
    shutil.copy(ROOT / LOCK, folder / LOCK)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\ncase "$*" in {lacks}) exit 1;; esac\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def make(folder, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("lacks", "advice"),
    [("*ensurepip*|*pip*", "apt-get install python3-venv"), ("*version_info*", "needs Python 3.11 or newer")],
)
@pytest.mark.parametrize("target", ["run", "test"])
def test_make_says_what_is_missing(tmp_path, lacks, advice, target):
    python = machine(tmp_path, lacks=lacks)
    ran = make(tmp_path, target, f"PYTHON={python}")
    assert ran.returncode != 0
    assert advice in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / ".venv" / ".installed").exists()


@pytest.mark.parametrize("changed", ["pyproject.toml", LOCK])
def test_make_installs_again_only_when_what_is_to_be_installed_changes(tmp_path, changed):
    machine(tmp_path, lacks="nothing")
    stamp = tmp_path / ".venv" / ".installed"
    stamp.parent.mkdir()
    stamp.touch()
    assert "pip install" not in make(tmp_path, "-n", "run").stdout
    os.utime(tmp_path / changed, (stamp.stat().st_mtime + 10,) * 2)
    assert "pip install" in make(tmp_path, "-n", "run").stdout


def test_ci_says_what_is_missing(tmp_path):
    """Without make in the PATH an ordinary user is told what root is to install."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "python3", "git"):
        (tools / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    script = (ROOT / ".ci" / "run").read_text().replace("EUID != 0", "1 != 0")
    folder = tmp_path / "clone" / ".ci"
    folder.mkdir(parents=True)
    (folder / "run").write_text(script)
    ran = subprocess.run(
        [str(tools / "bash"), str(folder / "run")],
        env={"PATH": str(tools)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 1
    assert "as root: apt-get install" in ran.stderr
    assert "make" in ran.stderr
