"""Checks a downloaded snapshot without the tool: coreutils, pyarrow and DuckDB, and values against what was inserted."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import struct
import subprocess
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pymilvus import DataType as T

from data import Spec
from oracle import canonical_json, canonical_scalar, differences, expected_rows

SCALARS = {
    T.BOOL: pa.bool_(), T.INT8: pa.int8(), T.INT16: pa.int16(), T.INT32: pa.int32(), T.INT64: pa.int64(),
    T.FLOAT: pa.float32(), T.DOUBLE: pa.float64(), T.VARCHAR: pa.string(), T.JSON: pa.string(),
}  # fmt: skip
VECTORS = {
    T.FLOAT_VECTOR: pa.float32(), T.BINARY_VECTOR: pa.uint8(), T.FLOAT16_VECTOR: pa.uint8(), T.BFLOAT16_VECTOR: pa.uint8(),
}  # fmt: skip
PART = re.compile(r"^data/([^/]+)/([^/]+)/([^/]+)/([^/-]+)-(\d+)-([0-9a-f]{8})\.parquet$")


def arrow_type(column: Any) -> pa.DataType:
    if column.dtype == T.ARRAY:
        return pa.list_(SCALARS[column.element_type])
    if column.dtype == T.SPARSE_FLOAT_VECTOR:
        return pa.string()
    if column.dtype in VECTORS:
        return pa.list_(VECTORS[column.dtype])
    return SCALARS[column.dtype]


def sums(folder: pathlib.Path) -> None:
    """`sha256sum -c` as an auditor runs it, and every part and the manifest are in the list."""
    command = ["sha256sum"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]
    done = subprocess.run([*command, "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.endswith(": OK") for line in done.stdout.splitlines()), done.stdout
    listed = {line.split("  ", 1)[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    wanted = {p.relative_to(folder).as_posix() for p in (folder / "data").rglob("*.parquet")} | {"manifest.json"}
    # plan and receipts may be listed too
    assert wanted <= listed, f"not in SHA256SUMS: {sorted(wanted - listed)}"


def whole(folder: pathlib.Path) -> None:
    """The objects that a snapshot has, and none besides."""
    for file in ("PLAN.json", "manifest.json", "SHA256SUMS", "COMMIT.json"):
        assert (folder / file).is_file(), f"{file} is missing"
    for file in (p for p in folder.rglob("*") if p.is_file()):
        key = file.relative_to(folder).as_posix()
        known = key in ("PLAN.json", "manifest.json", "SHA256SUMS", "COMMIT.json")
        assert known or PART.match(key) or re.match(r"^units/[^/]+\.json$", key), f"what is {key}?"


def parts_of(folder: pathlib.Path, database: str, collection: str) -> dict[str, list[pathlib.Path]]:
    """Partition -> parts in order of their names. The names used by the tests need no escaping in keys."""
    found: dict[str, list[pathlib.Path]] = {}
    for file in sorted((folder / "data" / database / collection).glob("*/*.parquet")):
        assert PART.match(file.relative_to(folder).as_posix()), file
        found.setdefault(file.parent.name, []).append(file)
    return found


def check_collection(folder: pathlib.Path, spec: Spec, database: str, name: str | None = None) -> int:
    """Every part of one collection: schema, order, uniqueness, names, and every value. Returns the parts."""
    columns = list(spec.schema.fields)
    wanted_schema = [(c.name, arrow_type(c)) for c in columns]
    if spec.schema.enable_dynamic_field:
        wanted_schema.append(("$meta", pa.string()))
    key = spec.key
    parted = parts_of(folder, database, name or spec.name)
    if "-" in parted:  # a server without partitions
        assert set(spec.rows) == {"_default"} and set(parted) == {"-"}
        parted = {"_default": parted["-"]}
    with_rows = {p for p, rows in spec.rows.items() if rows}
    assert set(parted) >= with_rows, f"no parts for {with_rows - set(parted)}"
    total = 0
    for partition, files in parted.items():
        rows: dict = {}
        ranges = []
        for file in files:
            total += 1
            table = pq.read_table(file, partitioning=None)
            schema = [(f.name, f.type) for f in table.schema]
            assert plain_lists(schema) == plain_lists(wanted_schema), f"{file.name}: {schema}\nwanted {wanted_schema}"
            keys = table[key].to_pylist()
            order = [k.encode() for k in keys] if isinstance(keys[0] if keys else 0, str) else keys
            assert all(a < b for a, b in zip(order, order[1:])), f"{file.name}: keys are not ascending and unique"
            if order:
                ranges.append((order[0], order[-1]))
            part_rows = decode(table, columns)
            assert not set(rows) & set(part_rows), f"{file.name}: keys that an earlier part of {partition} holds"
            rows.update(part_rows)
            check_duckdb(file, table)
        ranges.sort()
        assert all(a[1] < b[0] for a, b in zip(ranges, ranges[1:])), f"{partition}: ranges of parts overlap"
        assert not (wrong := differences(expected_rows(spec, partition), rows, f"parquet of {partition}")), "\n".join(wrong)
    return total


def plain_lists(schema: list[tuple[str, pa.DataType]]) -> list[tuple[str, str]]:
    """Types by name, whatever the field inside a list is called or whether it may be null."""
    return [(n, f"list<{t.value_type}>" if pa.types.is_list(t) else str(t)) for n, t in schema]


def decode(table: pa.Table, columns: list) -> dict:
    """Parquet rows in the canonical form of `oracle`."""
    result: list[dict] = [{} for _ in range(table.num_rows)]
    for column in columns:
        values = table[column.name].to_pylist()
        kind = column.dtype
        for row, value in zip(result, values):
            if kind == T.ARRAY:
                row[column.name] = tuple(canonical_scalar(column.element_type, v) for v in value)
            elif kind == T.FLOAT_VECTOR:
                row[column.name] = np.asarray(value, dtype=np.float32).tobytes()
            elif kind in VECTORS:
                row[column.name] = bytes(value)
            elif kind == T.SPARSE_FLOAT_VECTOR:
                row[column.name] = sparse_text(value)
            elif kind == T.JSON:
                row[column.name] = canonical_json(json.loads(value))
            else:
                row[column.name] = canonical_scalar(kind, value)
    if "$meta" in table.column_names:
        for row, text in zip(result, table["$meta"].to_pylist()):
            if meta := {k: canonical_json(v) for k, v in json.loads(text).items()}:
                row["$meta"] = meta
    primary = next(c.name for c in columns if c.is_primary)
    return {row[primary]: row for row in result}


def sparse_text(text: str) -> tuple:
    """`{"index": value, ...}` or `{"indices": [...], "values": [...]}`, both of which Milvus imports."""
    parsed = json.loads(text)
    pairs = zip(parsed["indices"], parsed["values"]) if "indices" in parsed else parsed.items()
    return tuple(sorted((int(i), struct.pack("<f", v)) for i, v in pairs))


def check_duckdb(file: pathlib.Path, table: pa.Table) -> None:
    """DuckDB, with its own Parquet reader, sees the same columns, rows and values."""
    with duckdb.connect() as db:
        relation = db.sql(f"select * from read_parquet('{file}', hive_partitioning=false)")
        assert relation.columns == table.column_names, f"{file.name}: DuckDB sees {relation.columns}"
        rows = relation.fetchall()
        assert len(rows) == table.num_rows
        if table.num_rows <= 2000:
            # NaN does not occur: Milvus refuses it
            other = [tuple(row) for row in zip(*(table[c].to_pylist() for c in table.column_names))]
            assert rows == other, f"{file.name}: DuckDB and pyarrow read different values"
