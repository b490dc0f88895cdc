"""`Run:Manifest_RBV`: the files of the last closed run, as they are in the manifests."""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import replace
from pathlib import Path

from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.closing.run_files import MOST_BYTES, RunFilesText, text_of
from attpc_plugins.data_routers.settings import Access, RouterSettings

from attpc_ioc.model.run import RunRef
from tests.support.closed_runs import all_in_place
from tests.support.data_rig import data_rig, section, shown, start_run, stop_run

LOCAL = RouterSettings(sources=("CoBo0",), access=Access.LOCAL, staging="/data")
SENTRY = RouterSettings(sources=("CoBo1",), access=Access.SENTRY, host="daq2")


def closing(router: RouterSettings, number: int, phase: Phase, files: list[dict] | None = None) -> Closing:
    manifest = "" if files is None else json.dumps({"files": files})
    return Closing(
        RunRef("e1", number), router.label, router.sources, phase,
        began_s=float(number), manifest=manifest, location=f"/data/e1/run_{number:04d}",
    )  # fmt: skip


async def test_it_has_the_files_of_all_hosts_once_all_are_closed_and_after_a_restart(tmp_path, monkeypatch):
    text = section(closing={"checksums": True})
    async with data_rig(tmp_path, monkeypatch, text=text) as it:
        assert not shown(it, "Run:Manifest_RBV")
        for _ in range(2):
            await start_run(it)
            number = it.run.number
            await it.until(lambda: shown(it, "Run:Written_RBV") > 0.001, what="data")
            before = shown(it, "Run:Manifest_RBV")
            await stop_run(it)
            await it.until(lambda b=before: shown(it, "Run:Manifest_RBV") != b, what="the files of the run")
            await all_in_place(it, number)
            known = json.loads(shown(it, "Run:Manifest_RBV"))
            assert (known["experiment"], known["run"]) == ("unnamed", number)
            assert [one["router"] for one in known["routers"]] == ["CoBo0", "CoBo1", "MuTAnT"]
            for one in known["routers"]:
                folder = Path(one["folder"])
                assert one["host"] == socket.gethostname()
                assert one["files"] == json.loads((folder / "manifest.json").read_text())["files"]
                for file in one["files"]:
                    data = (folder / file["name"]).read_bytes()
                    assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
            assert sum(len(one["files"]) for one in known["routers"]) >= 5
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: shown(it, "Run:Manifest_RBV"), what="it is known again")
        assert json.loads(shown(it, "Run:Manifest_RBV")) == known


def test_it_waits_for_the_last_host_and_says_where_files_are_not_known():
    files = [{"name": "CoBo0_AsAd0_0000.graw", "size": 7, "modified_s": 1.0}]
    first, second = closing(LOCAL, 4, Phase.DONE, files), closing(SENTRY, 4, Phase.CLOSING)
    made = RunFilesText()
    old = closing(LOCAL, 3, Phase.DONE, [])
    assert made.text([]) is None
    assert made.text([(LOCAL, [old, first]), (SENTRY, [second])]) is None
    # One whose end is not noted yet.
    assert made.text([(LOCAL, [old, first]), (SENTRY, [replace(second, phase=Phase.RUNNING)])]) is None
    text = made.text([(LOCAL, [old, first]), (SENTRY, [replace(second, phase=Phase.DONE)])])
    assert text is not None
    local, sentry = json.loads(text)["routers"]
    assert (local["files"], local["folder"]) == (files, "/data/e1/run_0004")
    assert sentry == {"router": "CoBo1", "sources": ["CoBo1"], "host": "daq2", "folder": None, "files": None}
    # The next run is on: this one stays the last that is closed.
    running = closing(LOCAL, 5, Phase.RUNNING)
    assert made.text([(LOCAL, [first, running]), (SENTRY, [replace(second, phase=Phase.DONE)])]) == text


def test_more_files_than_fit_are_said():
    files = [
        {"name": f"CoBo0_AsAd0_{number:04d}é.graw", "size": 2**30, "modified_s": 1795384065.3}
        for number in range(20_000)
    ]
    one = replace(closing(LOCAL, 4, Phase.DONE, files), files=len(files))
    known = json.loads(text_of(one.run, [(LOCAL, one)]))
    assert known["routers"] is None
    assert f"20000 files need {len(json.dumps(files)) // 10**6}" in known["reason"]
    assert str(MOST_BYTES) in known["reason"]
