"""The lines exchanged between the IOC and the agent on a host (`agent.pl`).

A line has words separated by spaces: a name, then fields as `x` and hexadecimal digits. So a field may have
any bytes, and no shell or program ever interprets a name.
"""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Sequence
from importlib.resources import files

from attpc_plugins.data_routers.hosts.entries import MOST_FILES
from attpc_plugins.data_routers.hosts.words import FaultKind, fault, folder_exists, text_of

GREETING = re.compile(rb"attpc-agent 1 ([1-9][0-9]{0,9})$")
"""The agent's greeting, after any output of the login shell: its process number."""

SHORT = 1 << 14
"""Maximum bytes of an answer of a few numbers or a reason; a path has at most 1,400, sent in hexadecimal."""
FRAMES = 1 << 19
"""Maximum bytes of an answer about frames."""
LISTING = 16 << 20
"""Maximum bytes of a listing: some 50,000 files."""
FIELDS_MOST = 4 * MOST_FILES + 10


@functools.cache
def script() -> bytes:
    """Return the agent's program for `perl -`. The first call reads a file: do that in a thread."""
    folder = files("attpc_plugins.data_routers.hosts.ssh")
    parts = [(folder / name).read_bytes() for name in ("agent_folders.pl", "agent_frames.pl", "agent.pl")]
    return b"".join(parts) + b"\n__END__\n"


def request(name: str, limit_s: float, fields: Sequence[bytes]) -> bytes:
    """Return the line of a request, which the agent gives up a little after `limit_s`."""
    words = [name.encode("ascii")]
    # The caller gives up first, and says why.
    words += [b"x" + field.hex().encode("ascii") for field in (b"%d" % (int(limit_s) + 5), *fields)]
    return b" ".join(words) + b"\n"


def most_bytes(name: str, fields: Sequence[bytes]) -> int:
    """Return the maximum length of the line that answers a request."""
    match name:
        case "listing":
            return LISTING
        case "look" | "hop":
            return FRAMES
        case "move":
            folder = sum(map(len, fields[:3]))
            return SHORT + sum(2 * (folder + len(file)) + 512 for file in fields[3::2])
        case "manifest" | "read" | "tail":
            return SHORT + 2 * int(fields[0])
    return SHORT


def answer(line: bytes) -> list[bytes]:
    """Return the fields of an answer.

    Raises `HostFault` if the agent reports a failure, and `RunFolderExists` if the reason is
    that a run's folder exists; `ValueError` if the line is not the agent's.
    """
    if line.count(b" ") > FIELDS_MOST:
        raise ValueError(f"not an agent's answer, it has more than {FIELDS_MOST} fields: {line[:80]!r}")
    word, *words = line.split(b" ")
    fields = [_field(text) for text in words]
    if word == b"ok":
        return fields
    if word != b"trouble" or len(fields) != 3:
        raise ValueError(f"not an agent's answer: {line[:80]!r}")
    kind, path, detail = fields
    if kind == b"exists":
        raise folder_exists(path)
    raise fault(fault_kind_named(kind), path, text_of(detail))


def _field(text: bytes) -> bytes:
    try:
        if not text.startswith(b"x"):
            raise ValueError
        return binascii.unhexlify(memoryview(text)[1:])
    except ValueError:
        raise ValueError(f"not a field of an agent's answer: {text[:40]!r}") from None


def fault_kind_named(word: bytes) -> FaultKind:
    """Return the kind of fault for an agent's word."""
    try:
        return FaultKind(word.decode("ascii", "replace"))
    except ValueError:
        return FaultKind.OTHER
