"""Types of settings values: names, hosts, addresses, ports and times, each with its check.

A check raises `ValueError` with a text that follows the key: "must be ...".
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated

from pydantic import AfterValidator, Field, Strict

from .contract import STRING_MAX, taken_by

NAME_PATTERN = r"^[A-Za-z0-9_][A-Za-z0-9_-]*$"
PREFIX_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_:-]*[:_-]$"
SENDER_PATTERN = r"^[A-Za-z][A-Za-z0-9_]*\[[A-Za-z0-9_-]+\]$"
HOST_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
"""Labels of RFC 1123, and `_`, which no RFC allows but name servers, `/etc/hosts` and SSH aliases do."""

BROADCAST = IPv4Address("255.255.255.255")


def name_fault(name: str, *, behind_prefix: bool = False) -> str:
    """Return what is wrong with the name of an ECC server, or `behind_prefix` of a source; empty if right."""
    if not re.fullmatch(NAME_PATTERN[1:-1], name):
        return f"must be letters, digits, '_' and '-' (it is a part of PV names), not {name!r}"
    if len(name) > STRING_MAX:
        return f"must have at most {STRING_MAX} characters, not {len(name)}"
    if taken := taken_by(name, behind_prefix=behind_prefix):
        return f"must be another name than {name!r}: {taken!r} is a reserved part of PV names"
    return ""


def _name(value: str) -> str:
    if fault := name_fault(value):
        raise ValueError(fault)
    return value


def _source_name(value: str) -> str:
    if value and (fault := name_fault(value, behind_prefix=True)):
        raise ValueError(fault)
    return value


def _link_name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN[1:-1], value) or len(value) > STRING_MAX:
        raise ValueError(f"must be up to {STRING_MAX} letters, digits, '_' and '-', not {value!r}")
    return value


def plugin_name_fault(name: str) -> str:
    """Return what is wrong with the name of a plugin's section; empty if it can be part of a PV name."""
    if not re.fullmatch(NAME_PATTERN[1:-1], name) or len(name) > STRING_MAX:
        return (
            f"must be a plugin's name: up to {STRING_MAX} letters, digits, '_' and '-' "
            f"(it is a part of PV names), not {name!r}"
        )
    return ""


def prefix_fault(value: str) -> str:
    """Return what is wrong with the prefix of all PV names; empty if it is right."""
    if not value:
        return "must not be empty: every PV name begins with it, such as 'ATTPC:'"
    if not re.fullmatch(PREFIX_PATTERN[1:-1], value):
        return (
            "must be letters, digits, '_', '-' and ':', begin with a letter or digit and end with a "
            f"separator such as ':', not {value!r}"
        )
    return ""


def _prefix(value: str) -> str:
    if fault := prefix_fault(value):
        raise ValueError(fault)
    return value


def _sender_id(value: str) -> str:
    if not re.fullmatch(SENDER_PATTERN[1:-1], value):
        raise ValueError(
            "must be a sender id as in the describe file, such as 'CoBo[0]' or 'Mutant[master]', "
            f"not {value!r}"
        )
    if len(value) > STRING_MAX:
        raise ValueError(f"must have at most {STRING_MAX} characters, not {len(value)}")
    return value


def address_fault(value: str, *, unspecified: bool = False) -> str:
    """Return what is wrong with the IPv4 address of one host; `unspecified` allows 0.0.0.0 too."""
    try:
        address = IPv4Address(value)
    except AddressValueError:
        return f"must be an IPv4 address written as four numbers, such as '192.168.41.60', not {value!r}"
    if address == BROADCAST or address.is_multicast or (address.is_unspecified and not unspecified):
        return f"must be the address of one host, not the unspecified, broadcast or multicast {value!r}"
    return ""


def _address(value: str) -> str:
    if fault := address_fault(value):
        # The server resolves no names, and reports no error for an invalid address.
        raise ValueError(f"{fault} (an ECC server silently takes anything else as 255.255.255.255)")
    return value


def _interface(value: str) -> str:
    if fault := address_fault(value, unspecified=True):
        raise ValueError(fault)
    return value


def host_fault(value: str) -> str:
    """Return what is wrong with a host; empty for an IPv4 address or a host name, see `HOST_LABEL`."""
    example = "such as 'cobo0' or '192.168.41.60'"
    if not value:
        return f"must not be empty: it is a host name or IPv4 address, {example}"
    if "://" in value:
        return f"must be the host alone without a scheme, {example}, not {value!r}"
    if value.count(":") > 1 or value.startswith("["):
        return f"must be a host name or IPv4 address, {example}: IPv6 is not supported, not {value!r}"
    if ":" in value:
        return f"must be the host alone, the port is a separate setting, {example}, not {value!r}"
    labels = value.removesuffix(".").split(".")
    if labels[-1].isdigit():  # RFC 1123: a host name's last label is never all digits.
        return address_fault(value)
    if len(value) > 253 or not all(HOST_LABEL.fullmatch(label) for label in labels):
        return f"must be a host name (letters, digits, '-_.') or IPv4 address, {example}, not {value!r}"
    return ""


def _host(value: str) -> str:
    if fault := host_fault(value):
        raise ValueError(fault)
    return value


def _short_text(value: str) -> str:
    if not value.isprintable() and value:
        raise ValueError("must be one line without control characters")
    if len(value.encode(errors="replace")) > STRING_MAX:
        raise ValueError(f"must have at most {STRING_MAX} bytes in UTF-8 (it is an EPICS string)")
    return value


def _state_dir(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must be the path of a directory; leave the key out for the default")
    return value


def _file_path(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must be the path of a file; leave the key out for no file")
    return value


def _group_name(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be the name of a group (ASG) of the access security file")
    return value


Name = Annotated[str, AfterValidator(_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
OptionalName = Annotated[str, AfterValidator(_source_name)]
LinkName = Annotated[str, AfterValidator(_link_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]
Prefix = Annotated[str, AfterValidator(_prefix), Field(json_schema_extra={"pattern": PREFIX_PATTERN})]
SenderId = Annotated[str, AfterValidator(_sender_id), Field(json_schema_extra={"pattern": SENDER_PATTERN})]
Address = Annotated[str, AfterValidator(_address), Field(json_schema_extra={"format": "ipv4"})]
Interface = Annotated[str, AfterValidator(_interface), Field(json_schema_extra={"format": "ipv4"})]
Host = Annotated[str, AfterValidator(_host), Field(json_schema_extra={"minLength": 1, "maxLength": 253})]
ShortText = Annotated[str, AfterValidator(_short_text), Field(json_schema_extra={"maxLength": STRING_MAX})]
FilePath = Annotated[str, AfterValidator(_file_path)]
GroupName = Annotated[str, AfterValidator(_group_name)]
DirectoryPath = Annotated[str, AfterValidator(_state_dir)]

Port = Annotated[int, Strict(), Field(ge=1, le=65535)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Seconds = Annotated[float, Strict(), Field(gt=0, le=86400, allow_inf_nan=False)]
Whole = Annotated[int, Strict()]
WholeNumber = Annotated[int, Strict(), Field(ge=0, le=2**31 - 1)]
"""From 0 to the largest value of an EPICS longin."""
Days = Annotated[int, Strict(), Field(ge=1, le=3650)]
YesNo = Annotated[bool, Strict()]
