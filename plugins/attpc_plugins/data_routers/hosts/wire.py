"""The lines that the IOC and the agent on a host (`agent.pl`) send each other.

A line has words with a space between: a name, then fields as `x` and hexadecimal digits. So a field may have
any bytes, and no shell, no line and no program ever reads a name.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib.resources import files

from .words import Trouble, fault, folder_exists, text_of

GREETING = re.compile(rb"attpc-agent 1 ([1-9][0-9]{0,9})$")
"""What the agent says first, after anything that a login shell says: its process's number."""

_FIELD = re.compile(rb"x((?:[0-9a-f]{2})*)")


@functools.cache
def script() -> bytes:
    """Return the agent as it is sent to `perl -`. It is read when first asked for: do that in a thread."""
    folder = files("attpc_plugins.data_routers.hosts")
    parts = [(folder / name).read_bytes() for name in ("agent_folders.pl", "agent.pl")]
    return b"".join(parts) + b"\n__END__\n"


def request(name: str, limit_s: float, fields: Sequence[bytes]) -> bytes:
    """Return the line of a request that the agent gives up after `limit_s` and a little more."""
    words = [name.encode("ascii")]
    # The one who asks gives up first, and says why.
    words += [b"x" + field.hex().encode("ascii") for field in (b"%d" % (int(limit_s) + 5), *fields)]
    return b" ".join(words) + b"\n"


def answer(line: bytes) -> list[bytes]:
    """Return the fields of an answer.

    Raises `HostFault` where the agent says that the host refused, and `RunFolderExists` where the reason is
    that a run's folder exists; `ValueError` where the line is none of the agent's.
    """
    word, *words = line.split(b" ")
    fields: list[bytes] = []
    for text in words:
        match = _FIELD.fullmatch(text)
        if match is None:
            raise ValueError(f"no field of an agent's answer: {text[:40]!r}")
        fields.append(bytes.fromhex(match[1].decode("ascii")))
    if word == b"ok":
        return fields
    if word != b"trouble" or len(fields) != 3:
        raise ValueError(f"no agent's answer: {line[:80]!r}")
    kind, path, detail = fields
    if kind == b"exists":
        raise folder_exists(path)
    raise fault(trouble_named(kind), path, text_of(detail))


def trouble_named(word: bytes) -> Trouble:
    """Return the trouble that an agent's word means."""
    try:
        return Trouble(word.decode("ascii", "replace"))
    except ValueError:
        return Trouble.OTHER
