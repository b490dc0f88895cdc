"""The systemd unit: what systemd says of it, where systemd is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from attpc_ioc.errors import AttpcError
from attpc_ioc.export.service import Service, service_unit
from tests.support.forked import SHELL, run_forked
from tests.support.needs import skip
from tests.support.one_ecc import ONE_ECC

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "attpc-ioc.service"
INSTALLED = Service("ATTPC:", Path("/opt/attpc-ioc/bin/attpc-ioc"), Path("/etc/attpc-ioc/attpc-ioc.toml"))

MOST_EXPOSED = 2.0
"""Of 10; what is left is the network, and that the IOC runs in the host's own file system."""

TOML = f'[ioc]\nprefix = "LAB:"\n{{state}}\n{ONE_ECC}'


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `systemd-analyze`, or skip where this systemd cannot do that."""
    program = shutil.which("systemd-analyze")
    if program is None:
        skip("systemd-analyze")
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
    ran = run_forked(SHELL, "export", "service", "--settings", file.name, *options, folder=folder)
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
    assert "soon" in said
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
    state = f"/srv/{tmp_path.name}/state dir"
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


def test_paths_are_straight(tmp_path: Path) -> None:
    """Systemd ignores a `ReadWritePaths=` with `..` in it, and the service could not write its state."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real" / "deep")
    file = Path("/srv/../etc/attpc/x.toml")
    unit = service_unit(Service("X:", Path("/opt/x/../y/bin/attpc-ioc"), file, Path("/srv/etc/../state")))
    assert words_of(unit, "ReadWritePaths") == ["/srv/state"]
    assert words_of(unit, "ExecStart") == ["/opt/y/bin/attpc-ioc run /etc/attpc/x.toml"]
    away = service_unit(Service("X:", Path("/opt/bin/attpc-ioc"), Path("/srv/../home/ann/x.toml")))
    assert words_of(away, "ProtectHome") == ["read-only"]
    # Where there is a link, `..` is of where it leads.
    linked = service_unit(Service("X:", Path("/opt/bin/attpc-ioc"), tmp_path / "link" / ".." / "x.toml"))
    assert words_of(linked, "ExecStart")[0].endswith(f"{tmp_path}/real/x.toml")
    assert (
        ".." not in words_of(unit_of(tmp_path / "a", state='state_dir = "/srv/a/../b"'), "ReadWritePaths")[0]
    )


@pytest.mark.parametrize("state", ["/tmp/state", "/var/tmp/a/b", "/srv/../tmp", "/tmp"])
def test_no_state_in_a_temporary_folder(state: str) -> None:
    with pytest.raises(AttpcError, match="is a temporary folder"):
        service_unit(replace(INSTALLED, state_dir=Path(state)))
    assert words_of(service_unit(replace(INSTALLED, state_dir=Path("/tmpfs/a"))), "PrivateTmp") == ["yes"]


def test_settings_in_a_temporary_folder_can_be_read() -> None:
    assert words_of(service_unit(INSTALLED), "PrivateTmp") == ["yes"]
    unit = service_unit(replace(INSTALLED, settings=Path("/tmp/try/x.toml")))
    assert words_of(unit, "PrivateTmp") == ["no"]


@pytest.mark.parametrize(
    "user", ["root; rm", "two words", "", "daq\nExecStartPre=/bin/false", "daq\n", "1st", "-x"]
)
def test_a_user_that_can_be_none_is_refused(user: str, tmp_path: Path) -> None:
    with pytest.raises(AttpcError, match="is not the name of an account"):
        service_unit(replace(INSTALLED, user=user))


@pytest.mark.parametrize("user", ["attpc", "_daq", "john.doe", "HOST$", "e20009-shift"])
def test_names_of_accounts_are_taken(user: str) -> None:
    assert words_of(service_unit(replace(INSTALLED, user=user)), "User") == [user]


def test_the_command_refuses_what_cannot_be_a_unit(tmp_path: Path) -> None:
    file, unit = tmp_path / "x.toml", tmp_path / "x.service"
    file.write_text(TOML.format(state=""))
    command = (SHELL, "export", "service", "--settings", file)
    ran = run_forked(*command, "--output", unit, "--user", "root; rm")
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", "'root; rm' is not the name of an account\n")
    assert not unit.exists()


def test_the_unit_lets_the_ioc_see_other_accounts_processes() -> None:
    """A data router on this machine is one of them: `ProtectProc=invisible` would have it Offline."""
    assert words_of(service_unit(INSTALLED), "ProtectProc") == []
    assert words_of(service_unit(INSTALLED), "ProcSubset") == []


def test_a_path_that_is_not_absolute_is_refused() -> None:
    with pytest.raises(ValueError, match="not absolute"):
        service_unit(Service("X:", Path("bin/attpc-ioc"), Path("/etc/x.toml")))


def test_a_unit_that_grows_without_end_costs_no_other_program() -> None:
    unit = service_unit(INSTALLED)
    assert words_of(unit, "OOMScoreAdjust") == []
    assert words_of(unit, "MemoryMax") == ["2G"]
    assert words_of(unit, "TasksMax") == ["512"]
