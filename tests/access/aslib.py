"""EPICS base's own access security, the `asLib` of its `libCom`, to compare with."""

from __future__ import annotations

import ctypes
import functools

from epicscorelibs.path import get_lib

# Of struct asgClient in asLib.h: a list's node, five pointers, the level, and then the access.
_ACCESS_AT = 16 + 5 * ctypes.sizeof(ctypes.c_void_p) + ctypes.sizeof(ctypes.c_int)


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(get_lib("Com"))
    handle = ctypes.POINTER(ctypes.c_void_p)
    library.asInitMem.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    library.asAddMember.argtypes = [handle, ctypes.c_char_p]
    library.asAddClient.argtypes = [
        handle,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_char_p,
    ]
    library.asRemoveClient.argtypes = [handle]
    library.asRemoveMember.argtypes = [handle]
    library.errlogInit(0)
    return library


def takes(text: str) -> bool:
    """Read a file's text; whether EPICS base takes it. Its rules are then those that `right` asks."""
    library = _library()
    # What is wrong with the text is printed by a thread, which other tests of this process listen to.
    library.eltc(0)
    try:
        return library.asInitMem(text.encode(), None) == 0
    finally:
        library.errlogFlush()
        library.eltc(1)


def right(group: str, level: int, user: str, host: str) -> int:
    """What a client may do: 0 nothing, 1 read, 2 write."""
    library = _library()
    member, client = ctypes.c_void_p(), ctypes.c_void_p()
    # It keeps pointers to these texts, and writes into the host's.
    texts = [ctypes.create_string_buffer(text.encode()) for text in (group, user, host)]
    assert library.asAddMember(ctypes.byref(member), texts[0]) == 0
    assert library.asAddClient(ctypes.byref(client), member, level, texts[1], texts[2]) == 0
    assert client.value is not None
    access = ctypes.c_int.from_address(client.value + _ACCESS_AT).value
    assert library.asRemoveClient(ctypes.byref(client)) == 0
    assert library.asRemoveMember(ctypes.byref(member)) == 0
    return access
