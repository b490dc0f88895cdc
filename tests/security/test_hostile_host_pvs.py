"""What operators see of a hostile data host: the reason on its own PVs, and all others as ever."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support.data_rig import SECTION, alarm, section, shown
from tests.support.hostile_hosts import hostile
from tests.support.rig import rig

MEMORY = 64 << 20
"""The simulated fleet lives in the same process."""


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("floods after each answer", "more than 16384 bytes|unrequested data"),
        ("answers twice", "unrequested data"),
        ("answers huge numbers", "invalid answer|impossible"),
    ],
)
async def test_a_hostile_host_is_named_on_its_own_pvs_and_disturbs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, reason: str
) -> None:
    good = tmp_path / "good"
    good.mkdir()
    async with hostile("ssh", way) as bad, hostile("sentry", "tells a number of 400 digits") as sentry:
        (tmp_path / "known_hosts").write_text(bad.known)
        (tmp_path / "config").write_text("")
        head = [f'known_hosts = "{tmp_path / "known_hosts"}"', f'ssh_config = "{tmp_path / "config"}"']
        tables = [
            table("CoBo0", "ssh", f'host = "127.0.0.1"\nport = {bad.port}\nstaging = "/data"'),
            table("CoBo1", "sentry", f'host = "127.0.0.1"\nport = {sentry.port}'),
            table("MuTAnT", "local", f'staging = "{good}"\nprocess = ""'),
        ]
        text = "\n".join([*head, section(), *tables])
        async with rig(tmp_path, monkeypatch, cobos=2, **{SECTION: text}) as it:
            message = "Plugin:data_routers:Message_RBV"
            await it.until(lambda: alarm(it, "MuTAnT:Router:Online_RBV") == "NO_ALARM", 20.0, "the good one")
            for router, words in (("CoBo0", reason), ("CoBo1", "data_path_files")):
                await it.until(
                    lambda r=router, w=words: (
                        alarm(it, f"{r}:Router:Online_RBV") == "INVALID"
                        and any(one in str(shown(it, message)) for one in w.split("|"))
                    ),
                    20.0,
                    f"the reason of {router}",
                )
            before, memory = psutil.Process().memory_info().rss, 0
            for number in range(3):
                (good / f"{number}.graw").write_bytes(b"x" * 1000)
                await it.until(lambda: shown(it, "MuTAnT:Router:Clean_RBV") == 0, 20.0, "the good one's file")
                (good / f"{number}.graw").unlink()
                await it.until(lambda: shown(it, "MuTAnT:Router:Clean_RBV") == 1, 20.0, "the good one clean")
                memory = max(memory, psutil.Process().memory_info().rss - before)
            assert alarm(it, "MuTAnT:Router:Online_RBV") == "NO_ALARM"
            assert memory < MEMORY


def table(source: str, access: str, more: str) -> str:
    return f'[[{SECTION}.router]]\nsources = ["{source}"]\naccess = "{access}"\n{more}'
