"""The frames that simulated boards send, read back by the description of the format."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from attpc_ioc.simulator.data.frames import Frame, cobo_frame, mutant_frame
from tests.support.graw import Seen, read_graw


def read(tmp_path: Path, *frames: Frame, items: bool = False) -> tuple[Seen, ...]:
    path = tmp_path / "x.graw"
    path.write_bytes(b"".join(frame.head.ljust(frame.length, b"\0") for frame in frames))
    found = read_graw(path, items=items)
    assert found.rest == 0
    return found.frames


@pytest.mark.parametrize("samples", [False, True])
@pytest.mark.parametrize("items", [0, 1, 64, 65, 2000, 139264])
def test_partial_readout(tmp_path: Path, items: int, samples: bool) -> None:
    frame = cobo_frame(77, 2**47 + 5, 10, 3, items, samples=samples)
    (seen,) = read(tmp_path, frame, items=True)
    assert (seen.type, seen.event, seen.ticks, seen.cobo, seen.asad) == (1, 77, 2**47 + 5, 10, 3)
    assert len(seen.items) == items
    for item in seen.items:
        assert item >> 23 & 0x7F < 68
        assert item >> 12 & 0b11 == 0
    if samples and items > 1000:
        assert len(set(seen.items)) > 900


def test_full_readout_has_each_sample_once(tmp_path: Path) -> None:
    (seen,) = read(tmp_path, cobo_frame(1, 0, 0, 0, 0, full=True, samples=True), items=True)
    assert (seen.type, seen.length, len(seen.items)) == (2, 278_784, 4 * 68 * 512)
    assert Counter(item >> 14 for item in seen.items) == dict.fromkeys(range(4), 68 * 512)
    (sparse,) = read(tmp_path, cobo_frame(1, 0, 0, 0, 0, full=True))
    assert (sparse.type, sparse.length) == (2, 278_784)


def test_mutant(tmp_path: Path) -> None:
    first, second = read(tmp_path, mutant_frame(0, 12), mutant_frame(2**32 - 2, 2**48 + 1))
    assert (first.type, first.event, first.ticks, first.counters) == (8, 0, 12, (1, 1, 1, 1))
    assert (second.event, second.ticks) == (2**32 - 2, 1)


def test_a_torn_frame_is_seen_as_such(tmp_path: Path) -> None:
    path = tmp_path / "x.graw"
    whole, torn = cobo_frame(1, 0, 0, 0, 500), cobo_frame(2, 0, 0, 0, 500).torn()
    path.write_bytes(b"".join(frame.head.ljust(frame.length, b"\0") for frame in (whole, torn)))
    found = read_graw(path)
    assert (found.events, found.rest) == ([1], torn.length)
    assert torn.length % 256
