"""The user's SSH files, read as tolerantly as OpenSSH reads them.

asyncssh refuses a whole file for one line that `ssh` ignores or understands. So its configuration is
rewritten line by line before asyncssh reads it, and known hosts are passed to it one line at a time.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncssh

from attpc_ioc.errors import system_reason

_OPTION = re.compile(r'\s*"?([^\s"=]+)"?(?:\s*=\s*|\s+|$)(.*)', re.DOTALL)

_WHOLE = frozenset(("proxycommand", "remotecommand", "localcommand", "knownhostscommand"))
"""Options whose value is the rest of the line unchanged, including `#` and quotes."""

_TIMES = frozenset(("connecttimeout", "serveraliveinterval"))
_TIME = re.compile(r"(?:\d+[sSmMhHdDwW]?)+")
_TIME_PART = re.compile(r"(\d+)([smhdw]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}

_WORDS = {("pubkeyauthentication", "unbound"): "yes", ("pubkeyauthentication", "host-bound"): "yes"}

DEEPEST = 16
"""Maximum depth of includes, as in `ssh`."""


class ConfigCopies:
    """Copies of configuration files that asyncssh accepts, in a folder of their own; all of it blocks.

    A file without changes is used itself. Line numbers stay.
    """

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._copies: dict[str, str] = {}

    def readable(self, file: str, depth: int = 0) -> str:
        """Return the path of a file for asyncssh. Raises `OSError`, and `ValueError` for endless includes."""
        if depth > DEEPEST:
            raise ValueError(f"{file}: more than {DEEPEST} files include one another")
        raw = Path(file).read_bytes()
        lines = raw.decode("utf-8-sig", "replace").split("\n")
        text = "\n".join(self._line(line, depth) for line in lines)
        if text.encode() == raw:
            return file
        copy = self._folder() / str(len(self._copies))
        self._copies[str(copy)] = file
        copy.write_text(text, encoding="utf-8")
        return str(copy)

    def _line(self, line: str, depth: int) -> str:
        match = _OPTION.fullmatch(line)
        if match is None or match[1].startswith("#"):
            return line
        option, value = match[1], match[2].strip()
        if option.lower() in _WHOLE:
            return line if line.split() == f"{option} {value}".split() else f"{option} {value}"
        try:
            words = [_word(option.lower(), word) for word in split_words(value)]
        except ValueError:
            return line  # asyncssh says what is wrong with it, and where
        if option.lower() == "include":
            words = [self.readable(path, depth + 1) for word in words for path in _included(word)]
            return " ".join([option, *map(shlex.quote, words)]) if words else ""
        if option.lower() in _TIMES and words == ["none"]:
            return ""
        try:
            if shlex.split(value) == words:
                return line
        except ValueError:
            pass
        return " ".join([option, *map(shlex.quote, words)])

    def with_names(self, text: str) -> str:
        """Return a text with the names of the files in place of their copies'."""
        for copy, file in self._copies.items():
            text = re.sub(rf"{re.escape(copy)}(?!\d)", lambda _, name=file: name, text)
        return text


def _included(pattern: str) -> list[str]:
    path = Path(pattern).expanduser()
    if not path.is_absolute():
        path = Path("~/.ssh").expanduser() / path
    found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    return sorted(str(one) for one in found if one.is_file())


def _word(option: str, word: str) -> str:
    if option in _TIMES and _TIME.fullmatch(word):
        return str(sum(int(n) * _SECONDS[unit] for n, unit in _TIME_PART.findall(word.lower())))
    if option == "port" and not word.isdigit():
        try:
            return str(socket.getservbyname(word, "tcp"))
        except OSError:
            return word
    return _WORDS.get((option, word.lower()), word)


def split_words(text: str) -> list[str]:
    """Return the words of a value, up to a comment.

    Quotes join words; a backslash is literal except before a quote, a backslash or, outside quotes,
    a space. Raises `ValueError` for a quote that does not end.
    """
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\r\f":
            at += 1
            continue
        if text[at] == "#":
            break
        word, quote = "", ""
        while at < len(text) and (quote or text[at] not in " \t\r\f"):
            char, after = text[at], text[at + 1 : at + 2]
            if char == "\\" and after and (after in "\"'\\" or (not quote and after == " ")):
                word, at = word + after, at + 1
            elif not quote and char in "\"'":
                quote = char
            elif char == quote:
                quote = ""
            else:
                word += char
            at += 1
        if quote:
            raise ValueError("a quote does not end")
        words.append(word)
    return words


def read_known_hosts(files: Sequence[str]) -> tuple[asyncssh.SSHKnownHosts, tuple[str, ...]]:
    """Return the known hosts of files, and what was ignored, with file and line; blocks.

    A missing file has none.
    """
    known = asyncssh.SSHKnownHosts()
    passed: list[str] = []
    for file in files:
        try:
            lines = Path(file).read_bytes().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            passed.append(f"{file} ({error.strerror})")
            continue
        for number, line in enumerate(lines, 1):
            if reason := _known_line(known, line.strip()):
                passed.append(f"{file} line {number} ({reason})")
    return known, tuple(passed)


def _known_line(known: asyncssh.SSHKnownHosts, line: str) -> str:
    """Add one line; return why it is ignored."""
    if not line or line.startswith("#"):
        return ""
    words = line.split(None, 3 if line.startswith("@") else 2)
    key = words[2 if line.startswith("@") else 1 :]
    try:
        if len(key) > 1 and key[0].startswith(("ssh-", "ecdsa-", "sk-")):
            asyncssh.import_public_key(" ".join(key[:2]))
        known.load(line)
    except (ValueError, asyncssh.KeyImportError) as error:
        return str(error).partition(":")[0]
    return ""


def usable_keys(files: Sequence[str], *, skip_public: bool) -> tuple[list[str], list[str]]:
    """Return the usable key files, and what is ignored, with the reason; blocks.

    As in `ssh`, a missing file is silently ignored, and a locked key is left to the SSH agent.
    """
    good: list[str] = []
    passed: list[str] = []
    for file in files:
        try:
            asyncssh.load_keypairs([file], None, (), skip_public, ignore_encrypted=True)
            good.append(file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError, asyncssh.KeyImportError) as error:
            passed.append(f"{file} ({system_reason(error)})")
    return good, passed


def usable_certificates(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the usable certificate files, and what is ignored; blocks."""
    good: list[str] = []
    passed: list[str] = []
    for file in files:
        try:
            if asyncssh.load_certificates([file]):
                good.append(file)
            else:
                passed.append(f"{file} (no certificate)")
        except FileNotFoundError:
            continue
        except (OSError, ValueError, asyncssh.KeyImportError) as error:
            passed.append(f"{file} ({system_reason(error)})")
    return good, passed


def expanded(path: str, tokens: dict[str, str]) -> str:
    """Return a path of the configuration with `~`, `%h` and the like filled in."""
    filled = re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), path)
    return os.path.expanduser(filled)
