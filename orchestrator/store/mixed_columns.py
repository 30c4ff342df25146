"""Columns of results, whatever their trainers put in: no result that a spool holds may keep its table from
being written.

Numbers and truth values in one column become floats. Other values of several kinds, numbers beyond 64 bits
and mappings become text: a text stays what it is, anything else is its JSON. Parts that disagree on a
column's type are brought to one type in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sweeps.manifest import arrow


def column(values: Sequence[Any], name: str) -> pa.Array:
    """Values as an array, ``None`` where there is none."""
    try:
        return arrow.array(values, name)
    except (TypeError, OverflowError):
        pass
    if {type(value) for value in values} <= {bool, int, float, type(None)}:
        try:
            return arrow.array([None if value is None else float(value) for value in values], name)
        except OverflowError:
            pass
    return arrow.texts([_as_text(value) for value in values])


def unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema with every column of these."""
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowTypeError:
        names = dict.fromkeys(name for schema in schemas for name in schema.names)
        return pa.schema(
            [_field(name, [s.field(name) for s in schemas if name in s.names]) for name in names]
        )


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with the schema's columns and types, null where it lacks one."""
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        found = table[field.name]
        if pa.types.is_string(field.type) and not _is_text(found.type):
            columns.append(arrow.texts([_as_text(value) for value in found.to_pylist()]))
        else:
            columns.append(found.cast(field.type))
    return pa.table(columns, schema=schema)


def _field(name: str, fields: Sequence[pa.Field]) -> pa.Field:
    kinds = {field.type for field in fields} - {pa.null()}
    if all(pa.types.is_boolean(k) or pa.types.is_integer(k) or pa.types.is_floating(k) for k in kinds):
        alike = len(kinds) == 1
        return pa.field(name, kinds.pop() if alike else pa.float64()) if kinds else fields[0]
    try:
        return pa.unify_schemas([pa.schema([f]) for f in fields], promote_options="permissive").field(0)
    except pa.ArrowTypeError:
        return pa.field(name, pa.string())


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_dictionary(kind) or pa.types.is_null(kind))


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)
