"""The reference page of the records' fields, generated from the table of the Channel Access server."""

from __future__ import annotations

from attpc_ioc.ioc.ca.field_table import Field, fields_of
from attpc_ioc.ioc.records import FORMS

HEAD = """# Fields

Generated from `attpc_ioc/ioc/ca/field_table.py`. Every PV serves these fields of its record type (`X.RTYP`)
over Channel Access: `caget ATTPC:State_RBV.DESC`. All can be read; none can be written except
`X.VAL`, which is the PV itself. Limits, units and severities come from the settings and the [table of
PVs](pvs.md).

*Constants* have the value that a Passive record without hardware has in EPICS base, for clients that read
them from every record: `SCAN` is `Passive`, `DTYP` is `Soft Channel`, links are empty texts. A
limit that is not set (`HIHI`, `HIGH`, `LOW`, `LOLO`) is NaN, and 0 in a record of whole numbers. Fields of
a calculation (`CALC`, `INPA`, `A` … of a `calc` or `calcout`) are not served: the IOC computes the value,
not the record.

A text has a long form with `$` after its name, `X.DESC$`, as an array of characters (`caget -S`). Channel
filters and array slices (`X.{"dbnd":{"d":1}}`, `X.[0:9]`) are not served: such a name is not found. The
dead bands of a PV are its `MDEL` and `ADEL`; for a part of an array, a client requests fewer
elements.
"""


def fields_page() -> str:
    """Return the page as Markdown: a section for each record type that is served."""
    parts = [HEAD]
    for rtyp in sorted({form.rtyp for form in FORMS.values()}):
        fields = fields_of(rtyp)
        parts.append(
            f"\n## `{rtyp}`\n\n"
            f"Own: {_names(fields, constant=False)}\n\nConstants: {_names(fields, constant=True)}\n"
        )
    return "".join(parts)


def _names(fields: dict[str, Field], *, constant: bool) -> str:
    return " ".join(f"`{name}`" for name, field in fields.items() if field.constant is constant)
