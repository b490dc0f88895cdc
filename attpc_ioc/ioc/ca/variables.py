"""EPICS's environment variables, read as EPICS base reads them, and what is wrong in them."""

from __future__ import annotations

import contextlib
import math
import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping

from attpc_ioc.ioc.ca.number import parse_double

RESOLVE_S = 5.0
"""Time limit for looking up all host names together."""

_LOWEST_PORT, _HIGHEST_PORT = 5001, 65535
_WHOLE = re.compile(r"\s*([+-]?\d{1,20})", re.ASCII)
_ENTRY = re.compile(r"(?:(\d+\.\d+\.\d+\.\d+|\d+)|([^:]+))(?::(\d{1,9}))?", re.ASCII)


class Variables:
    """The variables and the faults found in them; an empty variable counts as unset."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._resolved: dict[str, str] = {}
        self._faults: dict[str, None] = {}

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong and what is used instead, one line each, for people."""
        return tuple(self._faults)

    def fault(self, text: str) -> None:
        """Note what is wrong; the same text only once."""
        self._faults[text] = None

    def is_set(self, name: str) -> bool:
        """Whether a variable has more than spaces."""
        return bool(self._environ.get(name, "").strip())

    def _first(self, names: Iterable[str]) -> tuple[str, str]:
        return next(((name, self._environ[name]) for name in names if self._environ.get(name)), ("", ""))

    def port(self, default: int, *names: str, lowest: int = _LOWEST_PORT) -> int:
        """Return the port in the first variable that is not empty."""
        name, text = self._first(names)
        if not name:
            return default
        number = _WHOLE.match(text)
        if number and lowest <= int(number[1]) <= _HIGHEST_PORT:
            return int(number[1])
        # Clients of EPICS base use the default too, and would not search at the intended port.
        self.fault(f"{name}={text!r} is not a port from {lowest} to {_HIGHEST_PORT}: {default} is used")
        return default

    def period_s(self, default: float, *names: str) -> float:
        """Return the period in the first variable that is not empty, in seconds."""
        name, text = self._first(names)
        if not name:
            return default
        period_s = parse_double(text)
        # To EPICS base's server `nan` is 50 beacons a second, and `inf` a period that doubles for ever.
        if period_s is not None and 0 < period_s < math.inf:
            return period_s
        self.fault(f"{name}={text!r} is not a number of seconds above 0: {default:g} is used")
        return default

    def server_says_yes(self, name: str, default: bool) -> bool:
        """Return whether a variable is YES, as EPICS base's server reads it: anything else is NO."""
        text = self._environ.get(name, "")
        return self._checked(name, text.casefold() == "yes") if text else default

    def client_says_yes(self, name: str) -> bool:
        """Return whether a variable is YES, as EPICS base's clients read it: any text without "no"."""
        text = self._environ.get(name, "")
        return self._checked(name, "no" not in text and "NO" not in text)

    def _checked(self, name: str, yes: bool) -> bool:
        text, meant = self._environ.get(name, ""), "YES" if yes else "NO"
        if text and text.casefold() != meant.casefold():
            self.fault(f"{name}={text!r} means {meant} to EPICS, and so it does here: write YES or NO")
        return yes

    def look_up(self, *names: str) -> None:
        """Look up all host names in these lists at once; blocks for at most `RESOLVE_S`."""
        entries = (_ENTRY.fullmatch(text) for name in names for text in self._environ.get(name, "").split())
        found: dict[str, str] = {}

        def resolve(host: str) -> None:
            with contextlib.suppress(OSError, ValueError):
                found[host] = socket.gethostbyname(host)

        # Daemon threads: a resolver that hangs must not delay the end of the process.
        threads = [
            threading.Thread(target=resolve, args=(host,), daemon=True)
            for host in {entry[2] for entry in entries if entry and entry[2]}
        ]
        ends = time.monotonic() + RESOLVE_S
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, ends - time.monotonic()))
        self._resolved = dict(found)

    def addresses(self, name: str, port: int) -> list[tuple[str, int]]:
        """Return the addresses and ports of a list of `HOST` or `HOST:PORT`; `port` is the default.

        Host names must have been looked up.
        """
        words = self._environ.get(name, "").split()
        return [address for word in words for address in self.parsed(name, word, port)]

    def parsed(self, name: str, word: str, port: int) -> list[tuple[str, int]]:
        """Return the address and port of one word of the list `name`; none where the word is wrong."""
        try:
            return [self._address(word, port)]
        except ValueError as error:
            self.fault(f"{name}: {word!r} is left out: {error}")
            return []

    def _address(self, text: str, port: int) -> tuple[str, int]:
        entry = _ENTRY.fullmatch(text)
        if entry is None:
            raise ValueError("it is neither HOST nor HOST:PORT, where HOST is a name or an IPv4 address")
        digits, host, own_port = entry.groups()
        if own_port and int(own_port) > _HIGHEST_PORT:
            raise ValueError(f"{own_port} is not a port")
        if digits:
            return _dotted(digits), int(own_port or 0) or port
        if host not in self._resolved:
            raise ValueError("the name does not resolve to an IPv4 address")
        return self._resolved[host], int(own_port or 0) or port


def _dotted(digits: str) -> str:
    """Return the address given as four decimal numbers, or as one."""
    try:
        numbers = [int(number) for number in digits.split(".")]
        return socket.inet_ntoa(bytes(numbers) if len(numbers) == 4 else numbers[0].to_bytes(4, "big"))
    except (ValueError, OverflowError):
        raise ValueError("it is not an IPv4 address") from None
