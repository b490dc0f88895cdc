"""A process variable: its value, its alarm, its time stamp and its subscriptions."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakValueDictionary

from attpc_ioc.ioc.ca.dbr import NANOSECONDS, encode
from attpc_ioc.ioc.ca.protocol import ChannelType
from attpc_ioc.ioc.ca.spec import INVALID, STATUS_LABELS, UDF, PVSpec, Scalar, Value
from attpc_ioc.log import get_logger

log = get_logger(__name__)

DBE_VALUE, DBE_LOG, DBE_ALARM = 1, 2, 4
"""Event masks of subscriptions, as in EPICS base's `caeventmask.h`."""

_FORMS, _FORM_BYTES = 8, 32 << 10
"""Limits on the encoded forms kept of one value: their number, and their bytes if there are several. A client
can ask for an array in thousands of lengths. While a value is being sent only the number is limited."""

Message = tuple[bytes, bytes]
"""Parts of a message with a value: its header from size to status, and what follows the header's last
parameter. Made once for all clients that ask for the same type and count."""


class _Subscription(Protocol):
    """The part of `Subscription` that a PV uses."""

    mask: int

    def deliver(self) -> None: ...


class PV:
    """One process variable; used from the event loop's thread only.

    Clients read `value`; change it with `post`. Until the first post a PV is INVALID with status UDF,
    unless it was made with a value.
    """

    __slots__ = (
        "__weakref__",
        "_last_log",
        "_last_value",
        "_message_bytes",
        "_messages",
        "_publishing",
        "clock",
        "fields",
        "follower",
        "severity",
        "spec",
        "stamp_ns",
        "status",
        "subscriptions",
        "value",
    )

    def __init__(self, spec: PVSpec, value: Value | None = None) -> None:
        self.spec = spec
        self.clock: Callable[[], float] = time.time
        self.value: Value = spec.default
        self.severity, self.status = INVALID, UDF
        self.stamp_ns = int(self.clock() * NANOSECONDS)
        self.subscriptions: dict[_Subscription, None] = {}
        self.fields: WeakValueDictionary[str, PV] | None = None
        """Its fields in use, by name; `fields.field` makes them."""
        self.follower: Callable[[], None] | None = None
        """Called after each post, whatever the dead bands: another protocol's server follows the PV."""
        self._last_value = self._last_log = self.value
        self._messages: dict[tuple[int, int], Message] = {}
        self._message_bytes = 0
        self._publishing = False
        if value is not None:
            self.post(value, force=True)

    def __repr__(self) -> str:
        return f"<PV {self.spec.name} {self.value!r}>"

    @property
    def name(self) -> str:
        """The name that clients search for."""
        return self.spec.name

    @property
    def writable(self) -> bool:
        """Whether it can be written."""
        return self.spec.writable

    @property
    def target(self) -> PV:
        """The PV that a write goes to: for a field, the record's."""
        return self

    @property
    def stamp(self) -> float:
        """Time of the last change, in seconds since 1970."""
        return self.stamp_ns / NANOSECONDS

    def post(
        self,
        value: Value,
        *,
        severity: int = 0,
        status: int = 0,
        stamp: float | None = None,
        force: bool = False,
    ) -> None:
        """Set value and alarm, and send subscribers what changed.

        Nothing happens, and the time stamp stays, if neither value nor alarm differs from the last; `force`
        posts even then, as does a negative dead band. `stamp` is in seconds since 1970, by default from
        the clock. Never raises: a value of the wrong type is a fault of the program: it is logged, and the PV
        turns INVALID/UDF.
        """
        try:
            value = (_array if self.spec.is_array else _scalar)(self.spec, value)
            if not (0 <= severity <= INVALID and 0 <= status < len(STATUS_LABELS)):
                raise ValueError(f"no such alarm: severity {severity}, status {status}")
            stamp_ns = int((self.clock() if stamp is None else stamp) * NANOSECONDS)
        except (TypeError, ValueError, OverflowError) as error:
            log.error("value cannot be posted", pv=self.spec.name, value=repr(value)[:80], reason=str(error))
            value, severity, status = self.value, INVALID, UDF
            stamp_ns = int(self.clock() * NANOSECONDS)
        # NaN is the same as NaN.
        changed = value != self.value and (value == value or self.value == self.value)
        alarm_changed = severity != self.severity or status != self.status
        mdel, adel = self.spec.mdel, self.spec.adel
        every_value, every_log = force or mdel < 0, force or adel < 0
        if not (changed or alarm_changed or every_value or every_log):
            return
        mask = DBE_ALARM if alarm_changed else 0
        if every_value or (changed and (not mdel or _exceeds(value, self._last_value, mdel))):
            mask |= DBE_VALUE
            self._last_value = value
        if every_log or (changed and (not adel or _exceeds(value, self._last_log, adel))):
            mask |= DBE_LOG
            self._last_log = value
        self.value, self.severity, self.status = value, int(severity), int(status)
        self.stamp_ns = stamp_ns
        self._publish(mask)

    def message(self, dtype: int, count: int) -> Message:
        """Return the parts of a message with the value as DBR type `dtype`; see `Message`."""
        made = self._messages.get((dtype, count))
        if made is None:
            made = to_message(
                dtype,
                *encode(self.spec, self.value, self.severity, self.status, self.stamp_ns, dtype, count),
            )
            size = len(made[1])
            much = self._message_bytes + size > _FORM_BYTES and not self._publishing
            if much or len(self._messages) >= _FORMS:
                self._forget_forms()
            self._messages[dtype, count] = made
            self._message_bytes += size
        return made

    def _forget_forms(self) -> None:
        self._messages.clear()
        self._message_bytes = 0

    def _publish(self, mask: int) -> None:
        if self._messages:
            self._forget_forms()
        if mask and self.subscriptions:
            self._publishing = True
            for subscription in self.subscriptions:
                if subscription.mask & mask:
                    subscription.deliver()
            self._publishing = False
            if self._message_bytes > _FORM_BYTES and len(self._messages) > 1:
                self._forget_forms()
        if self.fields:
            for field in tuple(self.fields.values()):
                follow = getattr(field, "follow", None)
                if follow is not None:
                    follow(mask)
        if self.follower is not None:
            self.follower()


def to_message(dtype: int, status: int, count: int, payload: bytes) -> Message:
    """Return an encoded value as the parts of a message; see `Message`."""
    payload += bytes(-len(payload) % 8)
    size = len(payload)
    if size >= 0xFFFF or count > 0xFFFF:
        head = b"\xff\xff" + dtype.to_bytes(2, "big") + b"\0\0" + status.to_bytes(4, "big")
        return head, size.to_bytes(4, "big") + count.to_bytes(4, "big") + payload
    head = size.to_bytes(2, "big") + dtype.to_bytes(2, "big") + count.to_bytes(2, "big")
    return head + status.to_bytes(4, "big"), payload


def _array(spec: PVSpec, value: Any) -> Value:
    """Return an array in the form that a PV of this kind keeps; one that is too long is cut and logged.

    Raises TypeError or ValueError if an element does not have the PV's type or range.
    """
    if isinstance(value, str | bytes):
        raise TypeError("an array is needed")
    elements = tuple(_scalar(spec, element) for element in value)
    if len(elements) > spec.max_elements:
        log.error("array is too long and was cut", pv=spec.name, length=len(elements), most=spec.max_elements)
    return elements[: spec.max_elements]


def _scalar(spec: PVSpec, value: Any) -> Scalar:
    """Return one value in the form that a PV of this kind keeps; raises as `_array` does."""
    if spec.dtype in (ChannelType.STRING, ChannelType.CHAR):
        if not isinstance(value, str):
            raise TypeError("a text is needed")
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, str):
        raise TypeError("a number is needed")
    if spec.dtype is ChannelType.DOUBLE:
        return float(value)
    number = operator.index(value)
    if spec.dtype is ChannelType.ENUM and not 0 <= number < (len(spec.labels) or 0x10000):
        raise ValueError(f"there is no label {number}")
    if not -(2**31) <= number < 2**31:
        raise ValueError("it does not fit 32 bits")
    return number


def _exceeds(new: Value, last: Value, deadband: float) -> bool:
    """Whether a number moved by more than the dead band since the last event; True for other types."""
    if not isinstance(new, float | int) or not isinstance(last, float | int):
        return True
    if not (math.isfinite(new) and math.isfinite(last)):
        return new != last and (new == new or last == last)
    return abs(new - last) > deadband
