"""An access security file as a facility has it, and who may write what by it."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from pathlib import Path

from attpc_ioc.access import FileStatus
from tests.support.ca import run
from tests.support.rig import Rig

ME = pwd.getpwuid(os.getuid()).pw_name
MY_HOST = socket.gethostname()

ACCESS = 'file = "rules.acf"'


def rules(*, operators: str = "nobody-at-all", experts: str = "nobody-at-all") -> str:
    """A file as a facility has it, with these users."""
    return f"""\
# who works here
UAG(operators) {{ "{operators}", "{experts}" }}
UAG(experts) {{ "{experts}" }}
HAG(control_room) {{ "{MY_HOST.upper()}", console2 }}
ASG(DEFAULT) {{ RULE(1, READ) }}
ASG(OPERATOR) {{
    RULE(1, READ)
    RULE(1, WRITE, TRAPWRITE) {{ UAG(operators) HAG(control_room) }}
}}
ASG(EXPERT) {{
    RULE(1, READ)
    RULE(1, WRITE, TRAPWRITE) {{ UAG(experts) HAG(control_room) }}
}}
"""


def write(folder: Path, text: str) -> None:
    (folder / "rules.acf").write_text(text, encoding="utf-8")


async def read_again(it: Rig, status: FileStatus = FileStatus.IN_FORCE) -> None:
    """Have the file read again, and wait until it was."""
    done = asyncio.Event()
    show = it.app.access.on_change

    async def changed() -> None:
        assert show is not None
        await show()
        done.set()

    it.app.access.on_change = changed
    it.app.access.ask_again()
    await asyncio.wait_for(done.wait(), 5)
    it.app.access.on_change = show
    assert it.app.access.status is status, it.app.access.message


def writable(it: Rig) -> list[str]:
    return [entry.name for entry in it.app.table if entry.row.writable]


async def may_write(it: Rig) -> set[str]:
    """The parts behind the prefix of all PVs that `cainfo` says are writable; all must be readable."""
    names = [entry.name for entry in it.app.table]
    ran = await run(it.place, "cainfo", *names, limit_s=20)
    assert ran.code == 0, ran.err
    assert ran.out.count("Access:           read") == len(names)
    found, name = set(), ""
    for line in ran.out.splitlines():
        if line and not line.startswith(" "):
            name = line.strip()
        elif line.strip() == "Access:           read, write":
            found.add(name.removeprefix(it.prefix))
    return found
