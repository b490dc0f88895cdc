"""The lines that the IOC and the agent on a host (`agent.pl`) send each other.

A line has words with a space between: a name, then fields as `x` and hexadecimal digits. So a field may have
any bytes, and no shell, no line and no program ever reads a name.
"""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Sequence
from importlib.resources import files

from attpc_plugins.data_routers.hosts.entries import MOST_FILES
from attpc_plugins.data_routers.hosts.words import Trouble, fault, folder_exists, text_of

GREETING = re.compile(rb"attpc-agent 1 ([1-9][0-9]{0,9})$")
"""What the agent says first, after anything that a login shell says: its process's number."""

SHORT = 1 << 14
"""Bytes of an answer of a few numbers or a reason; a path has at most 1,400 and is sent in hexadecimal."""
LISTING = 16 << 20
"""Bytes of the listing of some 50,000 files."""
FIELDS_MOST = 4 * MOST_FILES + 10


@functools.cache
def script() -> bytes:
    """Return the agent as it is sent to `perl -`. It is read when first asked for: do that in a thread."""
    folder = files("attpc_plugins.data_routers.hosts.ssh")
    parts = [(folder / name).read_bytes() for name in ("agent_folders.pl", "agent.pl")]
    return b"".join(parts) + b"\n__END__\n"


def request(name: str, limit_s: float, fields: Sequence[bytes]) -> bytes:
    """Return the line of a request that the agent gives up after `limit_s` and a little more."""
    words = [name.encode("ascii")]
    # The one who asks gives up first, and says why.
    words += [b"x" + field.hex().encode("ascii") for field in (b"%d" % (int(limit_s) + 5), *fields)]
    return b" ".join(words) + b"\n"


def most_bytes(name: str, fields: Sequence[bytes]) -> int:
    """Return how long the line may be that answers a request."""
    match name:
        case "listing":
            return LISTING
        case "move":
            folder = sum(map(len, fields[:3]))
            return SHORT + sum(2 * (folder + len(file)) + 512 for file in fields[3::2])
        case "manifest" | "read" | "tail":
            return SHORT + 2 * int(fields[0])
    return SHORT


def answer(line: bytes) -> list[bytes]:
    """Return the fields of an answer.

    Raises `HostFault` where the agent says that the host refused, and `RunFolderExists` where the reason is
    that a run's folder exists; `ValueError` where the line is none of the agent's.
    """
    if line.count(b" ") > FIELDS_MOST:
        raise ValueError(f"no agent's answer, it has more than {FIELDS_MOST} fields: {line[:80]!r}")
    word, *words = line.split(b" ")
    fields = [_field(text) for text in words]
    if word == b"ok":
        return fields
    if word != b"trouble" or len(fields) != 3:
        raise ValueError(f"no agent's answer: {line[:80]!r}")
    kind, path, detail = fields
    if kind == b"exists":
        raise folder_exists(path)
    raise fault(trouble_named(kind), path, text_of(detail))


def _field(text: bytes) -> bytes:
    try:
        if not text.startswith(b"x"):
            raise ValueError
        return binascii.unhexlify(memoryview(text)[1:])
    except ValueError:
        raise ValueError(f"no field of an agent's answer: {text[:40]!r}") from None


def trouble_named(word: bytes) -> Trouble:
    """Return the trouble that an agent's word means."""
    try:
        return Trouble(word.decode("ascii", "replace"))
    except ValueError:
        return Trouble.OTHER
