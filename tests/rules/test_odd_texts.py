"""Names and texts that are no UTF-8 on the ECC host: everything else goes on, and what is shown is UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from attpc_ioc.model.command import SYSTEM
from attpc_ioc.model.config import Loaded
from attpc_ioc.model.states import State
from tests.support.rig import EXPERIMENT, Rig, rig

ODD = "caf\udce9 \x01\x9b31m"
"""A text of the simulated server; surrogates stand for bytes that are no UTF-8."""
SHOWN = "café \ufffd\ufffd31m"


def spoil_files(it: Rig) -> None:
    """Write a comment in Latin-1 and a control character into the files, and add one with an odd name."""
    folder = os.fsencode(it.fleet.xcfg.path)
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        data = Path(os.fsdecode(path)).read_bytes()
        Path(os.fsdecode(path)).write_bytes(data.replace(b"</Setup>", b"<!-- r\xe9gl\xe9 \x01 --></Setup>"))
    odd = os.fsdecode(os.path.join(folder, b"configure-caf\xe9.xcfg"))
    Path(odd).write_bytes(b"<Setup/>")
    Path(os.fsdecode(os.path.join(folder, b"configure-a\x01b.xcfg"))).write_bytes(b"<Setup/>")


async def test_files_and_names_in_latin_1_stop_nothing(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False) as it:
        spoil_files(it)
        await it.start_ioc()
        await it.until(lambda: all(m.offered for m in it.snapshot.modules.values()), what="configs")
        listed = await it.get_text("Ecc:cobo0:ConfigList_RBV")
        assert "cobo0/e20009/e20009" in listed
        assert "cobo0/café/café" in listed
        await it.take_to(State.READY)
        assert it.module("cobo0").loaded == Loaded("cobo0", EXPERIMENT, EXPERIMENT)
        await it.ok("Run:Start")
        await it.ok("Run:Stop")


@pytest.mark.parametrize("operation", ["Describe", "Prepare", "Configure", "Undo"])
async def test_the_reason_of_a_failure_is_shown_whatever_bytes_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    async with rig(tmp_path, monkeypatch, mutant=False) as it:
        await it.select()
        before = {"Prepare": State.DESCRIBED, "Configure": State.PREPARED, "Undo": State.DESCRIBED}
        if start := before.get(operation):
            assert (await it.submit("GoTo", SYSTEM, start)).ok
        it.fleet["cobo0"].faults.fail(operation, message=f"no {ODD}")
        assert (await it.put(f"Ecc:cobo0:{operation}")).code == 1
        message = await it.get_text("Ecc:cobo0:Message_RBV")
        assert f"no {SHOWN}" in message
        assert await it.get("Ecc:cobo0:ErrorCode_RBV") not in ("", "0")
        await it.ok(f"Ecc:cobo0:{operation}")
