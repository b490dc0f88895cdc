"""Runs that go out of the database and into it, at the shell."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

from tests.support.history_shell import Shell, numbers


def test_export_and_import(full: Shell, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    result = full.call("history", "export", "-o", out)
    assert "4 runs exported" in result.stderr
    assert "exists already" in full.fails("history", "export", "-o", out)
    full.run("history", "export", "-o", out, "--force")
    assert numbers(out.read_text()) == [("e1", 1), ("e1", 2), ("e1", 3), ("e2", 1)]
    lines = out.with_suffix(".json")
    full.run("history", "export", "--format", "json", "-o", lines)
    assert [json.loads(line)["run"]["number"] for line in lines.read_text().splitlines()] == [1, 2, 3, 1]

    said = full.fails("history", "import", out)
    assert "experiment e1 has runs 1-3 already" in said
    assert "experiment e2 has run 1 already" in said
    assert "nothing was imported" in said
    lines.write_text(lines.read_text().replace('"number": 1,', '"number": 7,'))
    result = full.call("history", "import", lines, "--dry-run", "--skip-existing")
    assert "2 runs would be imported, 2 left out because the number exists" in result.stderr
    assert len(numbers(full.run("history", "export"))) == 4
    result = full.call("history", "import", lines, "--skip-existing")
    assert "2 runs imported, 2 left out because the number exists" in result.stderr
    result = full.call("history", "import", "-", "-e", "e3", stdin=full.run("history", "export", "-e", "e1"))
    assert result.exit_code == 0, result.output
    assert numbers(full.run("history", "export", "-e", "e3")) == [("e3", n) for n in (1, 2, 3, 7)]
    assert not list(tmp_path.glob(".*"))


def test_an_export_goes_into_a_pipe_and_behind_a_link(full: Shell, tmp_path: Path) -> None:
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "file"
    os.mkfifo(pipe)
    link.symlink_to(file)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        full.run("history", "export", "-o", pipe)
        assert numbers(reader.communicate(timeout=30)[0]) == [("e1", 1), ("e1", 2), ("e1", 3), ("e2", 1)]
    full.run("history", "export", "-o", link)
    full.run("history", "export", "-o", link, "--force")
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert len(numbers(file.read_text())) == 4


def test_a_stop_before_the_start_is_imported_with_a_warning(full: Shell, tmp_path: Path) -> None:
    file = tmp_path / "odd.csv"
    file.write_text(
        "experiment,number,started_at,stopped_at\n"
        "e9,1,2026-03-01T00:00:00Z,2026-03-01T01:00:00Z\n"
        "e9,2,2026-03-01T01:00:00Z,2026-03-01T00:00:00Z\n"
    )
    result = full.call("history", "import", file)
    assert result.exit_code == 0
    warned, done = result.stderr.splitlines()
    assert warned.startswith(
        f"warning: {file}: line 3, column stopped_at: run 2 of e9 stopped (2026-03-01T00"
    )
    assert done == "2 runs imported"
    # What was taken comes out as it came in, and goes in again.
    out = tmp_path / "out.csv"
    full.run("history", "export", "-e", "e9", "-o", out)
    again = full.call("history", "import", out, "-e", "e10")
    assert again.exit_code == 0
    assert "warning: " in again.stderr
    copy = full.run("history", "export", "-e", "e10")
    assert copy.replace("e10,", "e9,") == out.read_text()


def test_nothing_of_a_broken_file_is_imported(full: Shell, tmp_path: Path) -> None:
    before = full.run("history", "export")
    file = tmp_path / "broken.csv"
    file.write_text("experiment,number,title\nnew,1,a\nnew,2,b\nnew,three,c\n")
    said = full.fails("history", "import", file)
    assert f"{file}: line 4, column number: 'three' is not a run number" in said
    assert full.run("history", "export") == before
    assert "new" not in full.run("experiments", "list")
    assert "cannot be an experiment's name" in full.fails("history", "import", file, "-e", "a b")
    assert "not a time zone" in full.fails("history", "import", file, "--timezone", "Mars/Olympus")
    result = full.call("history", "import", tmp_path / "none.csv")
    assert isinstance(result.exception, FileNotFoundError)


def test_old_tables(shell: Shell, tmp_path: Path) -> None:
    daq = tmp_path / "daq.csv"
    daq.write_text(
        "run_number,run_class,title,start_datetime,stop_datetime,config_name,Pressure\n"
        "1,PROD,first,2017-03-01 14:03:05,2017-03-01 15:03:05,cfg,500.5\n"
    )
    assert "--experiment" in shell.fails("history", "import", daq)
    shell.run("history", "import", daq, "-e", "e15250", "--timezone", "America/Detroit")
    envoy = tmp_path / "envoy.csv"
    envoy.write_text("Run,Note,Duration,Pressure (Torr)\n2,a, b,361,600\n")
    shell.run("history", "import", envoy, "-e", "e15250")
    first = shell.run("history", "show", "e15250", 1)
    assert re.search(r"Started +2017-03-01 19:03:05", first)
    assert re.search(r"Pressure +entered +500.5", first)
    second = shell.run("history", "show", "e15250", 2)
    assert re.search(r"Title +a, b", second)
    assert re.search(r"Duration +entered +361 +s", second)
