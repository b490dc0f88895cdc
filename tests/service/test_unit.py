"""The systemd unit: what systemd says of it, where systemd is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attpc_ioc.export.service import Service, service_unit

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "attpc-ioc.service"
INSTALLED = Service("ATTPC:", Path("/opt/attpc-ioc/bin/attpc-ioc"), Path("/etc/attpc-ioc/attpc-ioc.toml"))

MOST_EXPOSED = 2.0
"""Of 10; what is left is the network, and that the IOC runs in the host's own file system."""

TOML = """
[ioc]
prefix = "LAB:"
{state}
[[ecc]]
name = "cobo0"
host = "127.0.0.1"
[[ecc.source]]
id = "CoBo[0]"
[[ecc.source.link]]
name = "data0"
address = "127.0.0.1"
"""


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `systemd-analyze`, or skip where this systemd cannot do that."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=20)
    version = int(re.findall(r"\d+", said.stdout)[0])
    if version < 250:
        pytest.skip(f"systemd {version} cannot judge a unit file that is not loaded; 250 can")
    env = os.environ | {"SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=60, env=env
    )


def words_of(unit: str, name: str) -> list[str]:
    """The values that a directive is given."""
    return re.findall(rf"^{name}=(.*)$", unit, re.MULTILINE)


def unit_of(folder: Path, *options: str, state: str = "", cwd: Path | None = None) -> str:
    """What the command prints for settings in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "attpc-ioc.toml"
    file.write_text(TOML.format(state=state))
    ran = subprocess.run(
        [sys.executable, "-m", "attpc_ioc.cli", "export", "service", "--settings", file.name, *options],
        capture_output=True, text=True, check=False, timeout=60, cwd=folder,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_unit_of_the_project_is_the_one_that_the_command_writes() -> None:
    assert UNIT.read_text() == service_unit(INSTALLED), (
        f"write {UNIT.name} anew from attpc_ioc.export.service"
    )


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    # What it verifies is that each directive is known and makes sense, and that the program is there.
    file = tmp_path / "attpc-ioc.service"
    file.write_text(unit_of(tmp_path / "etc % dir"))
    ran = analyze("verify", "--recursive-errors=no", file)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
    # That it finds faults at all:
    file.write_text(file.read_text().replace("WatchdogSec=10", "WatchdogSec=soon\nNoSuchThing=1"))
    said = analyze("verify", "--recursive-errors=no", file).stderr
    assert "sec value" in said
    assert "NoSuchThing" in said


def test_what_the_service_could_harm_is_little(tmp_path: Path) -> None:
    ran = analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSED * 10:.0f}", UNIT)
    assert ran.returncode == 0, ran.stdout
    (score,) = re.findall(r"Overall exposure level for attpc-ioc.service: ([\d.]+)", ran.stdout)
    assert 0 < float(score) <= MOST_EXPOSED
    # The bound is a bound: without the hardening it is far beyond it.
    bare = tmp_path / "attpc-ioc.service"
    lines = UNIT.read_text().splitlines()
    bare.write_text("\n".join(line for line in lines if not re.match(r"(Protect|Restrict|System)", line)))
    assert analyze("security", "--offline=yes", f"--threshold={MOST_EXPOSED * 10:.0f}", bare).returncode != 0


def test_the_unit_runs_this_installation_with_these_settings(tmp_path: Path) -> None:
    folder = tmp_path / "etc $1 'x' 5%"
    unit = unit_of(folder, "--user", "daq")
    (command,) = words_of(unit, "ExecStart")
    program, run, settings = command.split(" ", 2)
    assert (Path(program), run) == (Path(sys.executable).with_name("attpc-ioc"), "run")
    assert settings.strip('"').replace("$$", "$").replace("%%", "%") == str(folder / "attpc-ioc.toml")
    assert words_of(unit, "User") == ["daq"]
    assert words_of(unit, "ReadWritePaths") == []
    assert "EPICS IOC LAB:" in unit
    state = tmp_path / "state dir"
    assert words_of(unit_of(tmp_path, state=f'state_dir = "{state}"'), "ReadWritePaths") == [f'"{state}"']
    assert words_of(unit_of(tmp_path, state='state_dir = "/var/lib/attpc-ioc"'), "ReadWritePaths") == []


@pytest.mark.parametrize(
    ("program", "settings", "state", "home"),
    [
        ("/opt/x/bin/attpc-ioc", "/etc/x.toml", None, "yes"),
        ("/home/ann/venv/bin/attpc-ioc", "/etc/x.toml", None, "read-only"),
        ("/opt/x/bin/attpc-ioc", "/root/x.toml", None, "read-only"),
        ("/opt/x/bin/attpc-ioc", "/etc/x.toml", "/home/ann/state", "read-only"),
        ("/opt/x/bin/attpc-ioc", "/homes/x.toml", "/srv/state", "yes"),
    ],
)
def test_homes_are_hidden_unless_something_is_there(
    program: str, settings: str, state: str | None, home: str
) -> None:
    unit = service_unit(Service("X:", Path(program), Path(settings), Path(state) if state else None))
    assert words_of(unit, "ProtectHome") == [home]


def test_a_path_that_is_not_absolute_is_refused() -> None:
    with pytest.raises(ValueError, match="not absolute"):
        service_unit(Service("X:", Path("bin/attpc-ioc"), Path("/etc/x.toml")))
