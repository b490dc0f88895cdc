"""The folder of configuration files on an ECC host, and a default one for a simulated fleet.

The files have this simulator's own, simple content: `Setup`, `Node` and `Instance` elements as the messages
of the real server name them, an address and a port in describe files, and filling in configure files so that
the replies are as long as real ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .boards import Node
from .documents import ConfigIds, read_xml

_ANY = "*"
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML does not allow; the server reads files with them nevertheless."""


@dataclass(frozen=True, slots=True)
class XcfgFolder:
    """`describe-NAME.xcfg` and `configure-NAME.xcfg`; `prepare-NAME.xcfg` is not read (older ones do)."""

    path: Path

    def names(self, part: str) -> list[str]:
        """Return the names of the files of `part` (`describe` or `configure`), sorted."""
        return sorted(file.stem.removeprefix(f"{part}-") for file in self.path.glob(f"{part}-*.xcfg"))

    def file(self, part: str, name: str) -> Path:
        """Return the path that a file has or would have."""
        return self.path / f"{part}-{name}.xcfg"

    def text(self, part: str, name: str) -> str | None:
        """Return the current text of a file; None if it does not exist.

        Surrogates stand for bytes that are not UTF-8, as they do in names: the reply has those bytes.
        """
        try:
            return self.file(part, name).read_bytes().decode("utf-8", "surrogateescape")
        except (OSError, ValueError):
            return None

    def exists(self, part: str, name: str) -> bool:
        """Return whether the file exists now."""
        return "/" not in name and self.file(part, name).is_file()

    def config_ids(self, first: Sequence[str] = ()) -> str:
        """Return the `Text` of `GetConfigIDs`: sorted, but the configure names of `first` come first."""
        configures = dict.fromkeys((*first, *self.names("configure")))
        sets = (ConfigIds(d, c, c) for d in self.names("describe") for c in configures)
        lines = "".join(f"\t{ids.to_xml()}\n" for ids in sets)
        return f"<ConfigIdSet>\n{lines}</ConfigIdSet>"

    def nodes(self, name: str) -> tuple[Node, ...]:
        """Return the boards that a describe file names; none if it is not readable."""
        root = read_xml(_FORBIDDEN.sub("?", self.text("describe", name) or ""))
        if root is None:
            return ()
        found: list[Node] = []
        for node in root.iter("Node"):
            for instance in node.iterchildren("Instance"):
                address = (instance.findtext("ipAddress") or "").strip()
                port = (instance.findtext("port") or "").strip()
                number = int(port) if port.isascii() and port.isdigit() else 0
                found.append(Node(node.get("id", ""), instance.get("id", ""), address, number))
        return tuple(found)

    def covers(self, name: str, node: Node) -> bool:
        """Return whether a configure file has settings for a board."""
        file = self.file("configure", name)
        try:
            seen = file.stat()
        except OSError:
            return False
        instances = _instances(file, seen.st_mtime_ns, seen.st_size)
        return (node.kind, node.instance) in instances or (node.kind, _ANY) in instances


@lru_cache(maxsize=64)
def _instances(file: Path, mtime_ns: int, size_bytes: int) -> frozenset[tuple[str, str]]:
    """Return the `(node, instance)` pairs of a file, read once for each version of it."""
    del mtime_ns, size_bytes
    root = read_xml(_FORBIDDEN.sub("?", file.read_text(encoding="utf-8", errors="replace")))
    if root is None:
        return frozenset()
    return frozenset(
        (node.get("id", ""), instance.get("id", ""))
        for node in root.iter("Node")
        for instance in node.iterchildren("Instance")
    )


def describe_text(nodes: Iterable[Node]) -> str:
    """Return a describe file for `nodes`."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<Setup id="Hardware">']
    for node in nodes:
        lines += [
            f'  <Node id="{node.kind}">',
            f'    <Instance id="{node.instance}"><ipAddress>{node.address}</ipAddress>'
            f"<port>{node.port}</port></Instance>",
            "  </Node>",
        ]
    return "\n".join([*lines, "</Setup>", ""])


def configure_text(instances: Sequence[tuple[str, str]], size_bytes: int) -> str:
    """Return a configure file with `(node, instance)` pairs, filled up to about `size_bytes`."""
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<Setup id="Conditions">']
    lines += [f'  <Node id="{kind}"><Instance id="{name}"/></Node>' for kind, name in instances]
    size = sum(len(line) + 1 for line in lines)
    channel = 0
    while size < size_bytes:
        asad, rest = divmod(channel, 4 * 68)
        aget, number = divmod(rest, 68)
        line = (
            f'  <Channel asad="{asad}" aget="{aget}" id="{number}"><Gain>1pC</Gain><Threshold>10</Threshold>'
            "<Reading>only_if_hit</Reading><TriggerInhibition>none</TriggerInhibition></Channel>"
        )
        lines.append(line)
        size += len(line) + 1
        channel += 1
    return "\n".join([*lines, "</Setup>", ""])


CONFIGURE_REPLY_BYTES = 370_000
"""Length of the `Text` of a successful Configure; nearly all of it is the configure file, which is there
for prepare and again for configure."""


def write_default_folder(
    folder: Path, describes: dict[str, tuple[Node, ...]], experiments: Sequence[str]
) -> XcfgFolder:
    """Write describe files (name to boards) and a configure file for each experiment, for all boards."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, nodes in describes.items():
        (folder / f"describe-{name}.xcfg").write_text(describe_text(nodes), encoding="utf-8")
    kinds = sorted({node.kind for nodes in describes.values() for node in nodes})
    text = configure_text([(kind, _ANY) for kind in kinds], CONFIGURE_REPLY_BYTES // 2 - 500)
    for name in experiments:
        (folder / f"configure-{name}.xcfg").write_text(text, encoding="utf-8")
    return XcfgFolder(folder)
