"""The manifest beside a run's files, `manifest.json`: the run, its files and their sizes.

The text is JSON in UTF-8 with sorted files, so that the same files give the same text. Times are Unix times
in seconds, by the host's clock for files and by the IOC's for the run. Where a file name is not valid UTF-8,
`name` has replacement characters, and `name_bytes` has its bytes in hexadecimal.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from attpc_ioc.errors import AttpcError
from attpc_ioc.model import outside
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.model.run import RunRef
from attpc_ioc.printable import json_text
from attpc_plugins.data_routers.events.streams import STRETCHES_MOST, Stretches
from attpc_plugins.data_routers.hosts.entries import MOST_FILES
from attpc_plugins.data_routers.hosts.words import bytes_of, text_of
from attpc_plugins.data_routers.model import FileEntry

FILE_NAME = "manifest.json"
VERSION = 1
TEXT_MOST = 10_000
SIZE_MAX_BYTES = 16 * 2**20
"""More than the manifest of 50,000 files has."""

VALUES_MOST = 10 * MOST_FILES
"""Maximum values. A JSON text of 16 MiB can have 5 million values, of 100 bytes each in memory."""


class ManifestError(AttpcError):
    """A manifest is damaged; `faults` has each fault with its key."""

    def __init__(self, where: str, faults: list[str]) -> None:
        self.faults = faults
        super().__init__("\n".join(f"{where}: {fault}" for fault in faults))


@dataclass(frozen=True, slots=True)
class StreamFrames:
    """What is in the frames of one sender, such as `CoBo0_AsAd1`, in all its files.

    `first` and `last` are event numbers, -1 without a frame; `missing` event numbers are left out, `back`
    frames have no larger number than the one before, after `resets` the numbers begin anew; `torn_at` is the
    place of the first of `torn` frames that are not whole. Where not all frames were looked at, `frames` is
    None, and so are `missing`, `back` and `torn` unless some were found.

    `stretches`: where numbers begin anew, the first and the last of each numbering that has frames, see
    `bounded`; a last one is -1 where it is not known. Empty where they do not.
    """

    sender: str
    frames: int | None = 0
    first: int = -1
    last: int = -1
    missing: int | None = 0
    back: int | None = 0
    resets: int = 0
    torn: int | None = 0
    torn_at: str = ""
    stretches: Stretches = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """One data router's files of a run.

    `closing` is the token of the closing that wrote it. `missing` are files that were there when the run
    ended and that an operator accepted as lost; `note` is for readers.

    - `streams`: what is in the frames, None where that is not known. `checked_s`: when `files check` looked
      at all of them, None if it did not since files came. `differs`: how it found that senders differ from
      most others of the run, see `comparing`.
    - `sync`: see `RunFiles`. `remarks`: what else was said of the run's data; None in the manifest of an
      earlier version.
    - `idle`: all data routers none of whose boards took part in the run; those of a sentry have no manifest.
    """

    run: RunRef
    router: str
    sources: tuple[str, ...]
    files: tuple[FileEntry, ...]
    closed_s: float
    began_s: float | None = None
    started_s: float | None = None
    stopped_s: float | None = None
    missing: tuple[str, ...] = ()
    note: str = ""
    closing: str = ""
    streams: tuple[StreamFrames, ...] | None = None
    checked_s: float | None = None
    differs: tuple[str, ...] = ()
    sync: str = ""
    remarks: tuple[str, ...] | None = None
    idle: tuple[str, ...] = ()

    @property
    def data_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size for file in self.files)


# ---------------------------------------------------------------------------- the JSON document


def _name(value: str) -> str:
    if not value or "/" in value or "\0" in value or value in (".", ".."):
        raise ValueError(f"must be the name of a file, not {value!r}")
    return value


def _hexadecimal(value: str) -> str:
    name = bytes.fromhex(value)
    if not name or b"/" in name or b"\0" in name:
        raise ValueError("must be the bytes of a file's name in hexadecimal")
    return value


def _experiment(value: str) -> str:
    if fault := experiment_fault(value):
        raise ValueError(fault)
    return value


Seconds = Annotated[float, AfterValidator(outside.time_s)]
Text = Annotated[str, Field(max_length=TEXT_MOST)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Name(_Part):
    name: Annotated[str, AfterValidator(_name)]
    name_bytes: Annotated[str, AfterValidator(_hexadecimal)] | None = None

    def true_name(self) -> str:
        return text_of(bytes.fromhex(self.name_bytes)) if self.name_bytes else self.name


class _File(_Name):
    size: int = Field(ge=0, le=outside.MOST)
    modified_s: Seconds
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


Count = Annotated[int, Field(ge=0, le=outside.MOST)]
_Stretch = Annotated[list[Annotated[int, Field(ge=-1, le=outside.MOST)]], Field(min_length=2, max_length=2)]


class _Stream(_Part):
    sender: Text
    frames: Count | None
    first: int = Field(ge=-1, le=outside.MOST)
    last: int = Field(ge=-1, le=outside.MOST)
    missing: Count | None
    back: Count | None
    resets: Count
    torn: Count | None
    torn_at: Text = ""
    stretches: list[_Stretch] = Field(default=[], max_length=STRETCHES_MOST)


class _Document(_Part):
    version: Literal[1]
    experiment: Annotated[str, AfterValidator(_experiment)]
    run: int = Field(ge=0, le=outside.MOST)
    router: Text
    sources: list[Text]
    began_s: Seconds | None = None
    started_s: Seconds | None = None
    stopped_s: Seconds | None = None
    closed_s: Seconds
    closing: Text = ""
    note: Text = ""
    missing: list[_Name] = Field(default=[], max_length=MOST_FILES)
    files: list[_File] = Field(max_length=MOST_FILES)
    streams: list[_Stream] | None = Field(default=None, max_length=MOST_FILES)
    checked_s: Seconds | None = None
    differs: list[Text] = Field(default=[], max_length=MOST_FILES)
    sync: Text = ""
    remarks: list[Text] | None = Field(default=None, max_length=MOST_FILES)
    idle: list[Text] = Field(default=[], max_length=MOST_FILES)

    @model_validator(mode="after")
    def _once(self) -> Self:
        names = Counter(file.true_name() for file in self.files)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise ValueError(f"files: {twice[0]!r} is there more than once")
        if sum(file.size for file in self.files) > outside.MOST:
            raise ValueError("files: together they have more than 2^63 bytes")
        return self


def dump(manifest: Manifest) -> bytes:
    """Return the text of a manifest; `load` reads it back."""
    document: dict[str, object] = {
        "version": VERSION,
        "experiment": manifest.run.experiment,
        "run": manifest.run.number,
        "router": manifest.router,
        "sources": list(manifest.sources),
        "began_s": manifest.began_s,
        "started_s": manifest.started_s,
        "stopped_s": manifest.stopped_s,
        "closed_s": manifest.closed_s,
        "closing": manifest.closing,
        "note": manifest.note,
        "missing": [_name_out(name) for name in sorted(manifest.missing)],
        "files": [_file_out(file) for file in sorted(manifest.files, key=lambda file: file.name)],
    }
    if manifest.streams is not None:
        document["streams"] = [_stream_out(stream) for stream in manifest.streams]
        document["checked_s"] = manifest.checked_s
        if manifest.differs:
            document["differs"] = list(manifest.differs)
    if manifest.remarks is not None:
        document["sync"] = manifest.sync
        document["remarks"] = [outside.text(remark, TEXT_MOST) for remark in manifest.remarks]
    if manifest.idle:
        document["idle"] = list(manifest.idle)
    text = json_text(document, allow_nan=False, indent=1)
    return text.encode("utf-8") + b"\n"


def load(raw: bytes, where: str) -> Manifest:
    """Read the text of a manifest; raises `ManifestError` with `where` and the key of every fault."""
    if len(raw) > SIZE_MAX_BYTES:
        raise ManifestError(where, [f"has more than {SIZE_MAX_BYTES} bytes and is not a manifest"])
    if sum(map(raw.count, (b",", b"[", b"{"))) > VALUES_MOST:
        raise ManifestError(where, [f"has more than {VALUES_MOST} values and is not a manifest"])
    try:
        plain = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ManifestError(where, [f"byte {error.start + 1}: is not UTF-8"]) from None
    except RecursionError:
        raise ManifestError(where, ["is not a manifest: lists are nested too deeply"]) from None
    except ValueError as error:
        raise ManifestError(where, [f"is not JSON: {error}"]) from None
    if not isinstance(plain, dict):
        raise ManifestError(where, ["is not a JSON object"])
    try:
        document = _Document.model_validate(plain)
    except ValidationError as error:
        raise ManifestError(where, [_fault(fault["loc"], fault["msg"]) for fault in error.errors()]) from None
    return Manifest(
        run=RunRef(document.experiment, document.run),
        router=document.router,
        sources=tuple(document.sources),
        files=tuple(
            FileEntry(file.true_name(), file.size, file.modified_s, file.sha256 or "")
            for file in document.files
        ),
        closed_s=document.closed_s,
        began_s=document.began_s,
        started_s=document.started_s,
        stopped_s=document.stopped_s,
        missing=tuple(entry.true_name() for entry in document.missing),
        note=document.note,
        closing=document.closing,
        streams=None if document.streams is None else tuple(map(_stream, document.streams)),
        checked_s=document.checked_s,
        differs=tuple(document.differs),
        sync=document.sync,
        remarks=None if document.remarks is None else tuple(document.remarks),
        idle=tuple(document.idle),
    )


def _stream(stream: _Stream) -> StreamFrames:
    stretches = tuple((first, last) for first, last in stream.stretches)
    return StreamFrames(**stream.model_dump(exclude={"stretches"}), stretches=stretches)


def _stream_out(stream: StreamFrames) -> dict[str, object]:
    return {key: value for key, value in asdict(stream).items() if key != "stretches" or value}


def _fault(loc: tuple[int | str, ...], text: str) -> str:
    text = text.removeprefix("Value error, ")
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    return f"{key}: {text}" if key else text


def _name_out(name: str) -> dict[str, object]:
    raw = bytes_of(name)
    try:
        return {"name": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"name": raw.decode("utf-8", errors="replace"), "name_bytes": raw.hex()}


def _file_out(file: FileEntry) -> dict[str, object]:
    out = _name_out(file.name) | {"size": file.size, "modified_s": file.modified_s}
    return out | {"sha256": file.sha256} if file.sha256 else out
