"""`attpc-ioc files gather`: runs as the merger reads them, from folders and over a real sshd."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.gathering.copying import write_sparse
from attpc_plugins.data_routers.gathering.layout import BOARDS, destination_fault, folder_for
from attpc_plugins.data_routers.hosts.names import spoils
from hypothesis import given
from hypothesis import strategies as st

from tests.data_routers.test_commands import Shell
from tests.support.closings import EXPERIMENT, fill, grow, sums
from tests.support.slowwire import wire
from tests.support.smalldisk import make_larger, small_disk
from tests.support.sshd import Sshd

TIME = "2026-03-01T12:00:00.123"
COBO = [f"CoBo0_AsAd{asad}_{TIME}_{part}.graw" for asad in (0, 1) for part in ("0000", "0001")]
LATE = f"CoBo0_AsAd0_{TIME}_0000.late1.graw"
FOREIGN = f"CoBo7_AsAd2_{TIME}_0000.graw"
MUTANT = f"MuTanT_{TIME}_0000.graw"


@pytest.fixture(params=["local", "ssh"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    if request.param == "local":
        return Shell(tmp_path)
    return over_ssh(tmp_path, request.getfixturevalue("shared_sshd"))


def over_ssh(folder: Path, server: Sshd, port: int | None = None) -> Shell:
    routers = [
        {
            "access": "ssh",
            "host": "127.0.0.1",
            "port": port or server.port,
            "user": server.user,
            "sources": [name],
            "staging": str(folder / name),
            "process": "",
        }
        for name in ("CoBo0", "MuTAnT")
    ]
    known = folder / "known"
    key = server.host_key.with_suffix(".pub").read_text()
    known.write_text(f"[127.0.0.1]:{port or server.port} {key}")
    return Shell(folder, routers, f'ssh_config = "{server.config}"\nknown_hosts = "{known}"')


def names(of_42: list[str], number: int) -> list[str]:
    """Return the names that the files of run 42 would have in another run: they have its time."""
    return [
        name.replace("T12:00", f"T12:{number - 42 + 10:02d}" if number != 42 else "T12:00") for name in of_42
    ]


def closed(shell: Shell, number: int = 42) -> dict[str, dict[str, str]]:
    """Close a run of two hosts; return the checksums that its folders should have."""
    cobo = fill(shell.staging["CoBo0"], names([*COBO, LATE, FOREIGN], number), seed=number)
    mutant = fill(shell.staging["MuTAnT"], names([MUTANT], number), seed=number + 1)
    ran = shell("files", "close", number, "--experiment", EXPERIMENT)
    assert ran.exit_code == 0, ran.output
    return {
        **{f"mm{board}": {} for board in range(BOARDS)},
        "mm0": {name: cobo[name] for name in names([*COBO, LATE], number)},
        "mm7": {name: cobo[name] for name in names([FOREIGN], number)},
        "mutant": mutant,
        "manifests": {},
    }


def gathered(run: Path) -> dict[str, dict[str, str]]:
    assert all(path.name.endswith((".graw", ".json")) for path in run.rglob("*") if path.is_file())
    return {path.name: sums(path) for path in run.iterdir()}


def test_a_run_is_gathered_by_the_names_of_its_files(shell: Shell, tmp_path: Path) -> None:
    expected, to = closed(shell), tmp_path / "to" / "here"
    ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", to)
    assert ran.exit_code == 0, ran.output
    assert "run_0042: 7 files, " in ran.output
    assert gathered(to / "run_0042") == expected
    assert [path.name for path in to.iterdir()] == ["run_0042"]
    assert sorted(os.listdir(to / "run_0042" / "mm0")) == sorted([*COBO, LATE])
    for name in ("CoBo0", "MuTAnT"):
        theirs = shell.place(name) / "manifest.json"
        assert (to / "run_0042" / "manifests" / f"{name}.json").read_bytes() == theirs.read_bytes()
    linked = (to / "run_0042" / "mm0" / LATE).samefile(shell.place() / LATE)
    assert linked == ('"local"' in shell.file.read_text())
    again = shell("files", "gather", 42, "--to", to)
    assert again.exit_code == 0, again.output
    assert "there already" in again.output


@given(st.lists(st.tuples(st.sampled_from([1, 5, 4095, 4096, 9000]), st.booleans()), max_size=12))
def test_a_file_that_comes_in_pieces_is_written_with_its_holes(pieces: list[tuple[int, bool]]) -> None:
    """Pieces of zeros and of others."""
    data = [bytes([1 - zero]) * size for size, zero in pieces]
    with tempfile.TemporaryFile() as file:
        at = 0
        for piece in data:
            write_sparse(file.fileno(), piece, at)
            at += len(piece)
        file.truncate(at)
        assert file.read() == b"".join(data)


def test_sparse_files_stay_sparse(tmp_path: Path, shared_sshd: Sshd) -> None:
    shell, to = over_ssh(tmp_path, shared_sshd), tmp_path / "to"
    with (shell.staging["CoBo0"] / COBO[0]).open("wb") as file:
        for place, data in ((0, b"a" * 5000), (9_999_990, b"b" * 20), (20_000_000, b"")):
            file.seek(place)
            file.write(data)
        file.truncate(20_000_000)
    assert shell("files", "close", 42, "--experiment", EXPERIMENT).exit_code == 0
    assert shell("files", "gather", 42, "--to", to).exit_code == 0
    assert sums(to / "run_0042" / "mm0") == sums(shell.place())
    found = (to / "run_0042" / "mm0" / COBO[0]).stat()
    assert (found.st_size, found.st_blocks * 512 < 100_000) == (20_000_000, True)


def test_an_interrupted_command_goes_on(shell: Shell, tmp_path: Path) -> None:
    expected, to = closed(shell), tmp_path / "to"
    hidden = to / ".run_0042.gathering" / "mm0"
    hidden.mkdir(parents=True)
    there = hidden / COBO[0]
    shutil.copy(shell.place() / COBO[0], there)
    before = there.stat().st_ino
    (hidden / f".{COBO[1]}.part").write_bytes(b"half")
    ran = shell("files", "gather", 42, "--to", to)
    assert ran.exit_code == 0, ran.output
    assert "was there" in ran.output
    assert gathered(to / "run_0042") == expected
    assert (to / "run_0042" / "mm0" / COBO[0]).stat().st_ino == before


def test_what_differs_from_the_manifest_is_not_gathered(shell: Shell, tmp_path: Path) -> None:
    closed(shell)
    to, path = tmp_path / "to", shell.place() / FOREIGN
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    ran = shell("files", "gather", 42, "--to", to)
    assert ran.exit_code == 1
    assert f"CoBo0: '{FOREIGN}': its SHA-256 differs" in ran.output
    assert "what is complete is kept: once this is mended, repeat the command" in ran.output
    assert not (to / "run_0042").exists()
    path.write_bytes(raw)
    grow(shell.place() / COBO[0])
    fill(shell.staging["CoBo0"], [COBO[0]])
    (shell.place("MuTAnT") / MUTANT).unlink()
    ran = shell("files", "gather", 42, "--to", to)
    assert ran.exit_code == 1
    for text in (f"{COBO[0]}: ", "late data of this run are still in", f"MuTAnT: missing: {MUTANT}"):
        assert text in ran.output


def test_nothing_is_overwritten(shell: Shell, tmp_path: Path) -> None:
    closed(shell)
    to = tmp_path / "to"
    mine = to / "run_0042" / "mm0" / COBO[0]
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    ran = shell("files", "gather", 42, "--to", to)
    assert ran.exit_code == 1
    assert f"exists and is another (of another size: mm0/{COBO[0]}): move it away" in ran.output
    assert "repeat" not in ran.output
    assert mine.read_bytes() == b"mine"
    shutil.rmtree(to)
    other = to / ".run_0042.gathering" / "mm0" / COBO[0]
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another run's")
    ran = shell("files", "gather", 42, "--to", to)
    assert ran.exit_code == 1
    assert "is not of e20009/run_0042: move" in ran.output
    assert "repeat" not in ran.output
    assert other.read_bytes() == b"another run's"


def test_a_full_disk_is_said_and_the_next_attempt_goes_on(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    expected = closed(shell)
    to = tmp_path / "graw"
    to.mkdir()
    with small_disk(to, "8k"):
        ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", to)
        assert ran.exit_code == 1, ran.output
        assert "No space left on device" in ran.output
        assert not (to / "run_0042").exists()
        make_larger(to)
        ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", to)
        assert ran.exit_code == 0, ran.output
        assert gathered(to / "run_0042") == expected


def test_a_second_command_is_kept_out(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    closed(shell)
    hidden = tmp_path / "to" / ".run_0042.gathering"
    hidden.mkdir(parents=True)
    number = os.open(hidden, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        assert "another command is gathering" in shell("files", "gather", 42, "--to", tmp_path / "to").output
    finally:
        os.close(number)
    assert shell("files", "gather", 42, "--to", tmp_path / "to").exit_code == 0


def test_several_runs_of_which_one_is_not_closed(tmp_path: Path) -> None:
    shell, to = Shell(tmp_path), tmp_path / "to"
    expected = {number: closed(shell, number) for number in (41, 42)}
    ran = shell("files", "gather", 41, 43, 42, "--experiment", EXPERIMENT, "--to", to)
    assert ran.exit_code == 1
    assert "run_0043: CoBo0: no " in ran.output
    assert "the run is not closed on this host" in ran.output
    for number, files in expected.items():
        assert gathered(to / f"run_{number:04d}") == files


@pytest.mark.parametrize("name", ["CoBo0_AsAd0", "old.graw", "x_CoBo10_AsAd3_y"])
def test_destinations_that_the_merger_would_misread_are_refused(tmp_path: Path, name: str) -> None:
    shell = Shell(tmp_path)
    (tmp_path / "short").symlink_to(tmp_path / name)
    for to in (tmp_path / name, tmp_path / name / "x", tmp_path / "short"):
        ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", to)
        assert ran.exit_code == 1
        assert "Use another folder" in ran.output
    assert not (tmp_path / name).exists()


def test_a_staging_folder_is_no_destination(shell: Shell, tmp_path: Path) -> None:
    closed(shell)
    (tmp_path / "short").symlink_to(shell.staging["MuTAnT"])
    before = {name: sorted(os.listdir(shell.staging[name])) for name in shell.staging}
    for to in (shell.staging["CoBo0"], shell.staging["CoBo0"] / EXPERIMENT, tmp_path / "short" / "x"):
        ran = shell("files", "gather", 42, "--to", to, "--without", "MuTAnT")
        assert ran.exit_code == 1
        assert "the staging folder of the data router" in ran.output
    assert {name: sorted(os.listdir(shell.staging[name])) for name in shell.staging} == before


def test_a_sentrys_files_are_read_beside_it_or_left_out(tmp_path: Path) -> None:
    sentry = {"access": "sentry", "host": "127.0.0.1", "port": 9, "sources": ["MuTAnT"]}
    local = {"access": "local", "sources": ["CoBo0"], "staging": str(tmp_path / "CoBo0"), "process": ""}
    shell = Shell(tmp_path, [local, sentry])
    cobo = fill(shell.staging["CoBo0"], COBO)
    assert shell("files", "close", 42, "--experiment", EXPERIMENT, "--router", "CoBo0").exit_code == 0
    to = tmp_path / "to"
    ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", to)
    assert ran.exit_code == 1
    assert "MuTAnT: a sentry shows no files" in ran.output
    ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", to, "--without", "MuTAnT")
    assert ran.exit_code == 0, ran.output
    assert gathered(to / "run_0042")["mm0"] == cobo
    assert "; empty: mm1, mm2, " in ran.output
    assert "; left out: MuTAnT" in ran.output
    # One that took no part need not be left out.
    (closing,) = shell.entries()
    shell.save(replace(closing, idle=("MuTAnT",)))
    ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", tmp_path / "idle")
    assert ran.exit_code == 0, ran.output
    assert "; took no part: MuTAnT\n" in ran.output
    assert gathered(tmp_path / "idle" / "run_0042") == gathered(to / "run_0042")
    shell.place("MuTAnT").mkdir(parents=True)
    mutant = fill(shell.place("MuTAnT"), [MUTANT])
    staging = json.dumps(str(shell.staging["MuTAnT"]))
    text = shell.file.read_text().replace("port = 9", f'port = 9\nframes = "local"\nstaging = {staging}', 1)
    shell.file.write_text(text)
    ran = shell("files", "gather", 42, "--experiment", EXPERIMENT, "--to", tmp_path / "all")
    assert ran.exit_code == 0, ran.output
    assert gathered(tmp_path / "all" / "run_0042")["mutant"] == mutant


def test_names_that_the_merger_cannot_read_are_said(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    odd = ["odd.graw", f"CoBo0_AsAd0_{TIME}_10000.graw", f"CoBo12_AsAd0_{TIME}_0000.graw"]
    written = fill(shell.staging["CoBo0"], odd)
    assert shell("files", "close", 42, "--experiment", EXPERIMENT).exit_code == 0
    ran = shell("files", "gather", 42, "--to", tmp_path / "to")
    assert ran.exit_code == 0, ran.output
    for text in ("goes to other_CoBo0/", "is a part beyond 9999", "reads mm0 to mm10 only"):
        assert text in ran.output
    found = gathered(tmp_path / "to" / "run_0042")
    assert {**found["other_CoBo0"], **found["mm0"], **found["mm12"]} == written


def test_folders_by_name() -> None:
    assert folder_for(f"CoBo10_AsAd3_{TIME}_0000.graw", "a") == "mm10"
    assert folder_for(f"MuTanT_{TIME}_0000.graw", "a") == "mutant"
    assert folder_for("CoBo0_AsAd0_\udcff_0000.graw", "a") == "other_a"
    assert spoils("CoBo0_AsAd0_\udcff_0000.graw") == "bytes"
    assert spoils(f"CoBo0_AsAd0_{TIME}_10000.late1.graw") == "part"
    assert spoils(f"{LATE}.sha256") == "side"
    assert not spoils(LATE)
    assert not destination_fault(Path("/data/CoBo0/h5"), {"CoBo0": "/data/CoBo"})
    for folder in ("/data", "/data/x"):
        assert "staging folder of the data router CoBo0" in destination_fault(
            Path(folder), {"CoBo0": "/data"}
        )


async def test_a_connection_that_breaks_is_said_and_the_next_attempt_goes_on(
    tmp_path: Path, shared_sshd: Sshd
) -> None:
    async with wire(shared_sshd.port) as relay:
        folder = tmp_path / "hosts"
        folder.mkdir()
        shell = over_ssh(folder, shared_sshd, relay.port)
        size = 2 << 20
        for name in COBO:
            (shell.staging["CoBo0"] / name).write_bytes(os.urandom(size))
        ran = await asyncio.to_thread(shell, "files", "close", 42, "--experiment", EXPERIMENT)
        assert ran.exit_code == 0, ran.output
        expected, to = sums(shell.place()), tmp_path / "to"
        relay.cut_after(5 * size // 2)
        ran = await asyncio.to_thread(shell, "files", "gather", 42, "--to", to)
        assert ran.exit_code == 1, ran.output
        assert "repeat the command to go on" in ran.output
        assert not (to / "run_0042").exists()
        there = to / ".run_0042.gathering" / "mm0"
        assert len(sums(there)) == 2
        assert len(list(there.glob(".*.part"))) == 1
        ran = await asyncio.to_thread(shell, "files", "gather", 42, "--to", to)
        assert ran.exit_code == 0, ran.output
        assert sums(to / "run_0042" / "mm0") == expected
    ran = await asyncio.to_thread(shell, "files", "gather", 42, "--to", tmp_path / "another")
    assert ran.exit_code == 1, ran.output
    assert "; repeat the command when it answers, or leave it out with --without CoBo0\n" in ran.output
