"""The container file and the compose file: the build takes enough, and what they say fits the program."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from attpc_ioc.settings import load_settings
from tests.service.test_unit import DEPLOY, TOML
from tests.support.ca import free_port
from tests.support.needs import compose_command, skip
from tests.support.pages import ROOT
from tests.support.process import started

CONTAINERFILE = DEPLOY / "Containerfile"
COMPOSE = DEPLOY / "compose.yaml"
SETTINGS = "/etc/attpc-ioc/attpc-ioc.toml"
STATE = "/var/lib/attpc-ioc"
PAGE = (ROOT / "docs/how-to/container.md").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container file with their arguments, continued lines joined, in order."""
    text = re.sub(r"^\s*#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in lines)]


def values(name: str) -> list[str]:
    return [argument for word, argument in instructions() if word == name]


@pytest.fixture
def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def test_the_container_file_is_whole() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "STOPSIGNAL", "HEALTHCHECK"}
    assert {word for word, _ in instructions()} == known | {"ENTRYPOINT", "CMD"}
    assert instructions()[0][0] == "FROM"
    build, image = values("FROM")
    assert build == f"{image} AS build", "the program runs with another Python than it was installed with"
    assert re.fullmatch(r"[a-z0-9.:-]+@sha256:[0-9a-f]{64}", image), "an image that can change unseen"
    # Short names only: where images come from is for who builds to say.
    assert all("/" not in name and "." not in name.partition(":")[0] for name in (build, image))
    last = max(number for number, (word, _) in enumerate(instructions()) if word == "FROM")
    rest = instructions()[last:]
    assert ("USER", "attpc") in rest
    assert json.loads(values("ENTRYPOINT")[0]) == ["attpc-ioc"]
    assert json.loads(values("CMD")[0]) == ["run", SETTINGS]
    assert values("VOLUME") == [STATE]
    check = json.loads(values("HEALTHCHECK")[0].partition(" CMD ")[2])
    assert check == ["attpc-ioc", "clients", SETTINGS]


def test_the_container_installs_nothing_without_a_hash() -> None:
    (install,) = [line for line in values("RUN") if "pip install" in line]
    locked, project = re.findall(r"/opt/attpc-ioc/bin/pip install (.*?)(?: &&|$)", install)
    assert {"--require-hashes", "deploy/requirements.lock"} <= set(locked.split())
    assert {"--no-deps", "--no-build-isolation", "."} <= set(project.split())


def test_shell_lines_of_the_container_file_can_be_read() -> None:
    shell = shutil.which("sh")
    assert shell
    for line in values("RUN"):
        ran = subprocess.run([shell, "-n", "-c", line], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stderr) == (0, ""), line


def taken() -> list[str]:
    """What the build copies from the project's folder."""
    copies = [shlex.split(line) for line in values("COPY") if not line.startswith("--from")]
    return [source for *sources, _ in copies for source in sources]


def test_the_build_is_given_what_it_takes_and_no_more() -> None:
    lines = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == set(taken())
    assert not any(fnmatch.fnmatch("attpc_ioc", rule.strip("/")) for rule in rules[1:] if rule[0] != "!")


async def test_what_the_build_takes_is_enough(tmp_path: Path) -> None:
    """Install from these files alone and run what the container runs: the IOC, and its health check."""
    source = tmp_path / "src"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in taken():
        (source / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("EPICS_", "PYTHON"))}
    ran = await asyncio.to_thread(
        subprocess.run,
        [*install, "--disable-pip-version-check", "--target", str(site), str(source)],
        capture_output=True, text=True, check=False, timeout=100, env=env, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    settings = tmp_path / "attpc-ioc.toml"
    history = '[plugins.run_history]\ndsn = "postgresql://nobody@127.0.0.1:1/none"\n'
    settings.write_text(TOML.format(state='interfaces = ["127.0.0.1"]') + history)
    env |= {
        "PYTHONPATH": str(site),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
        "EPICS_CA_SERVER_PORT": str(free_port()),
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
    }
    program = (sys.executable, "-c", "import sys; from attpc_ioc.cli import main; main()")
    check = (*program, "clients", settings)
    where = (
        *program[:2],
        "import attpc_ioc, attpc_plugins; print(attpc_ioc.__file__, attpc_plugins.__path__)",
    )
    async with started(*where, env=env, folder=tmp_path) as found:
        assert await found.wait() == 0
        assert found.text.count(str(site)) == 2, found.text
    async with started(*program, "run", settings, env=env, folder=tmp_path) as ioc:
        await ioc.until("event=serving")
        async with started(*check, env=env, folder=tmp_path) as healthy:
            assert await healthy.wait() == 0, healthy.text
        assert (await ioc.end())[0] == 0
        assert "Traceback" not in ioc.text
    async with started(*check, env=env, folder=tmp_path) as unhealthy:
        assert await unhealthy.wait() == 1, unhealthy.text


def test_the_compose_file_fits_the_program(compose: dict[str, Any], tmp_path: Path) -> None:
    ioc, database = compose["services"]["ioc"], compose["services"]["database"]
    assert (COMPOSE.parent / ioc["build"]["context"]).resolve() == ROOT
    assert (ROOT / ioc["build"]["dockerfile"]).samefile(CONTAINERFILE)
    assert ioc["network_mode"] == "host"
    assert "ports" not in ioc, "with the host's network there are no ports to publish"
    assert ioc["read_only"]
    places = {volume.split(":")[1] for volume in ioc["volumes"]}
    assert places == {str(Path(SETTINGS).parent), STATE}, "it could write nowhere, or has no settings"
    assert ioc["volumes"][0].endswith(":ro")
    for volume in ioc["volumes"] + [f"./{name}" for name in re.findall(r'"\$PWD/(\S+)"', PAGE)]:
        # A mounted file stays what it was when a new one is put in its place.
        assert not Path(volume.split(":")[0]).suffix, volume
    assert '--volume "$PWD/etc:/etc/attpc-ioc:ro"' in PAGE
    named = {volume.partition(":")[0] for service in (ioc, database) for volume in service["volumes"]}
    assert {name for name in named if not name.startswith(".")} == set(compose["volumes"])
    # The database is where the settings that the file tells of look for it, and on this host only.
    (line,) = re.findall(r'dsn = "[^"]*"', COMPOSE.read_text())
    file = tmp_path / "attpc-ioc.toml"
    file.write_text(TOML.format(state="") + f"[plugins.run_history]\n{line}\n")
    dsn = load_settings(file).plugins["run_history"]["dsn"]
    user, host, port, name = re.fullmatch(r"postgresql://(\w+)@([\d.]+):(\d+)/(\w+)", dsn).groups()
    made = database["environment"]
    assert (made["POSTGRES_USER"], made["POSTGRES_DB"]) == (user, name)
    assert database["ports"] == [f"{host}:{port}:5432"]
    assert ioc["environment"]["PGPASSWORD"] == made["POSTGRES_PASSWORD"]
    supported = re.fullmatch(r"postgres:(\d+)@sha256:[0-9a-f]{64}", database["image"])
    assert supported, "an image that can change unseen"
    assert 14 <= int(supported[1]) <= 18


def test_the_page_says_how_to_show_the_processes_of_the_host() -> None:
    """In a namespace of its own the IOC would look for a data router's process among its own alone."""
    for words in ("`pid: host`", "`--pid host`", '`process = ""`'):
        assert words in PAGE
    text = COMPOSE.read_text()
    assert "    # pid: host\n" in text
    assert yaml.safe_load(text.replace("# pid: host", "pid: host"))["services"]["ioc"]["pid"] == "host"


def test_compose_reads_the_compose_file(tmp_path: Path) -> None:
    command = compose_command() or skip("docker compose")
    for name in ("compose.yaml", "Containerfile"):
        shutil.copy(DEPLOY / name, tmp_path / name)
    env = {name: value for name, value in os.environ.items() if name != "ATTPC_DB_PASSWORD"}

    def config(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, command), "--file", str(tmp_path / "compose.yaml"), "config"],
            capture_output=True, text=True, check=False, timeout=60, env=env | more, cwd=tmp_path,
        )  # fmt: skip

    refused = config()
    assert refused.returncode != 0
    assert "put it into .env" in refused.stderr
    ran = config(ATTPC_DB_PASSWORD="secret")
    assert ran.returncode == 0, ran.stderr
    services = yaml.safe_load(ran.stdout)["services"]
    assert services["ioc"]["environment"]["PGPASSWORD"] == "secret"
    assert services["ioc"]["network_mode"] == "host"
