"""How a simulated data router writes its files."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest

from attpc_ioc.simulator.data.frames import cobo_frame, mutant_frame
from attpc_ioc.simulator.data.writer import GrawWriter
from tests.support.graw import read_graw


def next_millisecond() -> None:
    """Wait until a file would have another name."""
    now_ms = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == now_ms:
        pass


def test_the_next_part_is_made_at_once(tmp_path: Path) -> None:
    made: list[str] = []
    writer = GrawWriter(tmp_path, ("CoBo0_AsAd0",), 1000, made.append)
    writer.write(0, [cobo_frame(event, 0, 0, 0, 100) for event in range(2)])
    first, second = sorted(tmp_path.iterdir())
    assert [first.stat().st_size, second.stat().st_size] == [2 * 768, 0]
    assert made == [str(first), str(second)]
    writer.write(0, [cobo_frame(2, 0, 0, 0, 100)])
    assert [path.stat().st_size for path in (first, second)] == [2 * 768, 768]
    assert writer.written_bytes == 3 * 768


def test_a_number_that_is_not_larger_begins_a_new_stream(tmp_path: Path) -> None:
    writer = GrawWriter(tmp_path, ("MuTanT",), 1 << 30, lambda path: None)
    for run in ([4, 5, 9], [9], [3, 4]):
        writer.write(0, [mutant_frame(event, 0) for event in run])
        next_millisecond()
    writer.write(0, [mutant_frame(5, 0)])
    assert [read_graw(path).events for path in sorted(tmp_path.iterdir())] == [[4, 5, 9], [9], [3, 4, 5]]
    assert {path.name[-10:] for path in tmp_path.iterdir()} == {"_0000.graw"}


@pytest.mark.parametrize("items", [100, 20_000])
def test_a_full_disk_leaves_a_torn_frame_and_later_ones_behind_it(tmp_path: Path, items: int) -> None:
    writer = GrawWriter(tmp_path, ("CoBo0_AsAd0",), 1 << 30, lambda path: None)
    frames = [cobo_frame(event, 0, 0, 0, items) for event in range(9)]
    writer.write(0, frames[:2])
    writer.disk_full = True
    for event in (2, 3, 4):
        with pytest.raises(OSError, match="No space left") as raised:
            writer.write(0, frames[event : event + 1])
        assert raised.value.errno == errno.ENOSPC
    writer.disk_full = False
    writer.write(0, frames[5:])
    (path,) = tmp_path.iterdir()
    read = read_graw(path)
    assert read.events[:2] == [0, 1]
    whole, torn = frames[0].length, frames[2].torn().length
    data = path.read_bytes()
    assert len(data) == writer.written_bytes == 6 * whole + torn
    assert data[2 * whole :][:20] == frames[2].head[:20]
    (tmp_path / "behind").write_bytes(data[2 * whole + torn :])
    assert read_graw(tmp_path / "behind").events == [5, 6, 7, 8]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    writer = GrawWriter(tmp_path / "gone", ("MuTanT",), 1 << 30, lambda path: None)
    with pytest.raises(FileNotFoundError):
        writer.write(0, [mutant_frame(0, 0)])


def test_a_new_process_begins_new_streams(tmp_path: Path) -> None:
    writer = GrawWriter(tmp_path, ("MuTanT",), 1 << 30, lambda path: None)
    writer.write(0, [mutant_frame(0, 0)])
    next_millisecond()
    writer.forget()
    writer.write(0, [mutant_frame(1, 0)])
    assert [read_graw(path).events for path in sorted(tmp_path.iterdir())] == [[0], [1]]
