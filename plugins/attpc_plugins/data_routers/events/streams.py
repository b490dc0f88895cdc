"""The frames of one sender in a run, put together from the looks at its files.

Nothing here reads a clock or a file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attpc_plugins.data_routers.hosts.frames import Cursor, Piece
from attpc_plugins.data_routers.hosts.names import growing_parts

SAMPLES_KEPT = 64

STRETCHES_MOST = 8

Stretches = tuple[tuple[int, int], ...]
"""The first and the last event number of each numbering, of a sender whose numbers begin anew."""


def bounded(stretches: Stretches) -> Stretches:
    """Return at most `STRETCHES_MOST` of them: the first ones, and the last."""
    return (
        stretches if len(stretches) <= STRETCHES_MOST else (*stretches[: STRETCHES_MOST - 1], stretches[-1])
    )


@dataclass(frozen=True, slots=True)
class Stream:
    """What is known of the frames of one sender, such as `CoBo0_AsAd1`, in the run in progress.

    - `began`: the time in the names of its present files; another one in the run is a reset, of which there
      were `resets`, the last one after the event `reset_at`; `earlier`: the numberings before it.
    - `name`, `offset`, `size`, `before`: the file and place up to which it was looked at, see `Cursor`.
    - `files`: those that were looked at, with this one; `jumped`: parts of them were passed over.
    - `first`, `last`: event numbers since its counter was last zeroed, -1 without a frame; `ticks`:
      `eventTime` of the last one, in 10 ns.
    - `begin`: the first event number of the run; `origin`: what the number `first` would be if no counter had
      been reset since. Both are -1 without a frame.
    - `frames`: those looked at; `missing`: event numbers between two of them that are not there; `back`:
      frames whose number is not larger than the one before in the same file.
    - `torn`: frames that are there in part with others behind; `torn_at` says where the first one is.
      `torn_end`: where the end of a file is a part of a frame and nothing follows.
    - `samples`: event number and `eventTime`, the newest last; `triggers`: the MuTAnT's L0, L1A, L1B and L2.
    """

    sender: str
    began: str = ""
    name: str = ""
    offset: int = 0
    size: int = -1
    files: int = 0
    jumped: bool = False
    first: int = -1
    last: int = -1
    begin: int = -1
    origin: int = -1
    ticks: int = -1
    frames: int = 0
    missing: int = 0
    back: int = 0
    resets: int = 0
    reset_at: int = -1
    earlier: Stretches = ()
    torn: int = 0
    torn_at: str = ""
    torn_end: str = ""
    before: int = -1
    samples: tuple[tuple[int, int], ...] = ()
    triggers: tuple[int, ...] = ()

    @property
    def cursor(self) -> Cursor:
        """Where the next look goes on."""
        return Cursor(self.sender, self.name, self.offset, self.size, self.before)

    @property
    def board(self) -> str:
        """The board, and its AsAd, as messages name them: `CoBo0 AsAd1`, `MuTAnT`."""
        return self.sender.replace("_", " ") if self.is_cobo else "MuTAnT"

    @property
    def is_cobo(self) -> bool:
        """Whether it is an AsAd board of a CoBo, not the MuTAnT."""
        return self.sender.startswith("CoBo")

    @property
    def reached(self) -> int:
        """What the number of the last event would be if no counter had been reset; -1 without a frame."""
        if self.last < 0:
            return self.origin - 1 if self.origin >= 0 else -1
        return self.origin + self.last - self.first

    @property
    def missing_percent(self) -> float:
        """The part of the events that is missing, in percent."""
        return 100.0 * self.missing / (self.missing + self.frames) if self.missing else 0.0

    def take(self, piece: Piece) -> Stream:
        """Return it with the result of another look."""
        parts = growing_parts(piece.name)
        assert parts is not None
        began, new = parts.time, self if piece.name == self.name else self._next_file()
        if began != self.began:
            new = replace(new, began=began, first=-1, last=-1, samples=())
            if self.began:
                origin = self.reached + 1 if self.begin >= 0 else -1
                new = replace(new, resets=self.resets + 1, reset_at=self.last, origin=origin)
            if self.last >= 0:
                new = replace(new, earlier=bounded((*self.earlier, (self.first, self.last))))
        # A jump leaves out an unknown number of frames, so nothing is known to be missing.
        missing, back = piece.after(-1 if piece.jumped else new.last)
        place = piece.torn_place(new.last)
        first = new.first if new.first >= 0 else piece.first
        return replace(
            new,
            name=piece.name,
            offset=piece.offset,
            size=piece.size,
            before=piece.before,
            jumped=new.jumped or piece.jumped,
            first=first,
            begin=new.begin if new.begin >= 0 else first,
            origin=new.origin if new.origin >= 0 else first,
            last=piece.last if piece.frames else new.last,
            ticks=piece.ticks if piece.frames else new.ticks,
            frames=new.frames + piece.frames,
            missing=new.missing + missing,
            back=new.back + back,
            torn=new.torn + piece.torn,
            torn_at=new.torn_at or (place if piece.torn else ""),
            torn_end=place if piece.torn_at >= piece.offset else "",
            samples=(*new.samples, *piece.samples)[-SAMPLES_KEPT:],
            triggers=piece.triggers or new.triggers,
        )

    def _next_file(self) -> Stream:
        """Return it before another file: what is torn at the end of this one is so for good."""
        passed_over = self.offset < self.size and not self.torn_end
        return replace(
            self,
            files=self.files + 1,
            jumped=self.jumped or passed_over,
            torn=self.torn + bool(self.torn_end),
            torn_at=self.torn_at or self.torn_end,
            torn_end="",
        )


def sender_of(piece: Piece) -> str:
    """Return the sender whose file a look was into."""
    parts = growing_parts(piece.name)
    assert parts is not None
    return parts.sender


def take_all(streams: dict[str, Stream], pieces: tuple[Piece, ...]) -> dict[str, Stream]:
    """Return the streams by sender with the results of a look."""
    found = dict(streams)
    for piece in pieces:
        sender = sender_of(piece)
        found[sender] = found.get(sender, Stream(sender)).take(piece)
    return found
