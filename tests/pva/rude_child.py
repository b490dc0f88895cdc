"""A rude client of PVAccess, as a process: `python -m tests.pva.rude_child HOW NAME...`.

- `watch`: monitors everything. It reads nothing more once it is stopped by SIGSTOP.
- `flood`: puts texts as fast as it can, two thousand at a time.
- `flood_of_long`: the same with 10 MB each, forty at a time.
- `come_and_go`: connects, gets and monitors everything, and hangs up, again and again.

Each prints a line when it has begun.
"""

from __future__ import annotations

import sys
import threading

from p4p.client.thread import Context

LONG = "x" * 10_000_000


def begun() -> None:
    print("begun", flush=True)


def watch(names: list[str]) -> None:
    seen: set[str] = set()
    all_seen = threading.Event()

    def see(name: str) -> None:
        seen.add(name)
        if len(seen) == len(names):
            all_seen.set()

    with Context("pva", nt=False) as client:
        kept = [client.monitor(name, lambda _value, name=name: see(name)) for name in names]
        all_seen.wait()
        begun()
        sys.stdin.read()
        assert kept


def flood(names: list[str], text: str = "x" * 300, puts: int = 2000) -> None:
    names = (names * puts)[:puts]
    with Context("pva", nt=False) as client:
        client.put(names, [text] * puts, throw=False, get=False)
        begun()
        while True:
            client.put(names, [text] * puts, throw=False, get=False)


def flood_of_long(names: list[str]) -> None:
    flood(names, LONG, 40)


def come_and_go(names: list[str]) -> None:
    while True:
        with Context("pva", nt=False) as client:
            kept = [client.monitor(name, lambda _value: None) for name in names]
            client.get(names, throw=False, timeout=20)
            assert kept
        begun()


if __name__ == "__main__":
    {one.__name__: one for one in (watch, flood, flood_of_long, come_and_go)}[sys.argv[1]](sys.argv[2:])
