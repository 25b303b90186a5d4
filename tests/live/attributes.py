"""Everything that a server says of a collection, compared attribute by attribute, and values with their Python types.

An addition to `oracle`: that one compares what every engine keeps, this one all that pymilvus is told.
"""

from __future__ import annotations

from typing import Any

from pymilvus import DataType as T

from data import Spec
from oracle import TIMEOUT, Cluster, canonical

# what a server assigns by itself, or is compared elsewhere
OWN = {"collection_name", "collection_id", "created_timestamp", "update_timestamp", "aliases", "fields", "functions", "schema_version"}
OWN_OF_FIELD = {"field_id"}
OWN_OF_FUNCTION = {"id", "input_field_ids", "output_field_ids"}


def described(cluster: Cluster, name: str, database: str = "default") -> dict[str, Any]:
    """describe_collection, flattened: `field text: nullable` -> True. Absent attributes are None."""
    raw = cluster.client(database).describe_collection(name, timeout=TIMEOUT)
    flat: dict[str, Any] = {key: plain(value) for key, value in raw.items() if key not in OWN}
    flat["order of fields"] = [field["name"] for field in raw["fields"]]
    for field in raw["fields"]:
        for key, value in field.items():
            if key not in OWN_OF_FIELD:
                flat[f"field {field['name']}: {key}"] = plain(value)
    flat["functions"] = [function["name"] for function in raw["functions"]]
    for function in raw["functions"]:
        for key, value in function.items():
            if key not in OWN_OF_FUNCTION:
                flat[f"function {function['name']}: {key}"] = plain(value)
    return flat


def plain(value: Any) -> Any:
    """Protobuf messages as text, so that a default of 1 and one of 1.0 and one of "1" differ."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return f"{type(value).__name__} {value}".strip()


def indexes(cluster: Cluster, name: str, database: str = "default") -> dict[str, Any]:
    """Per field: name, kind, metric, and whether it is built."""
    client = cluster.client(database)
    found = {}
    for index in client.list_indexes(name, timeout=TIMEOUT):
        one = client.describe_index(name, index, timeout=TIMEOUT)
        found[one["field_name"]] = {key: plain(one[key]) for key in ("index_name", "index_type", "metric_type", "state")}
    return found


def differences(
    source: Cluster, target: Cluster, name: str, target_name: str = "", databases: tuple[str, str] = ("default", "default"),
    besides: tuple[str, ...] = (),
) -> list[str]:
    """What the target says otherwise than the source; `besides` names attributes that were changed on purpose."""
    target_name = target_name or name
    a, b = described(source, name, databases[0]), described(target, target_name, databases[1])
    wrong = [
        f"{key}: source {a.get(key)!r}, target {b.get(key)!r}"
        for key in sorted(set(a) | set(b))
        if a.get(key) != b.get(key) and key not in besides
    ]
    x, y = indexes(source, name, databases[0]), indexes(target, target_name, databases[1])
    if x != y:
        wrong.append(f"indexes: source {x}, target {y}")
    x, y = (sorted(c.client(d).list_partitions(n, timeout=TIMEOUT)) for c, n, d in
            [(source, name, databases[0]), (target, target_name, databases[1])])  # fmt: skip
    if x != y:
        wrong.append(f"partitions: source {x}, target {y}")
    return wrong


def typed(column: Any, value: Any) -> Any:
    """The canonical value with its type, since Python says that 1 == 1.0 == True."""
    if value is None:
        return None
    if column.dtype == T.ARRAY:
        return ("array", [(type(v).__name__, v) for v in canonical(column, value)])
    return (type(value).__name__, canonical(column, value))


def read(cluster: Cluster, spec: Spec, keys: list, name: str = "", database: str = "default") -> dict[Any, dict[str, Any]]:
    """Rows by key with every field of the schema that can be read, None where it is null, and `$meta` for the rest."""
    columns = {field.name: field for field in spec.schema.fields}
    outputs = {output for function in spec.schema.functions for output in function.output_field_names}
    key = spec.key
    literals = ", ".join(str(k) if spec.integer_key else '"' + k.replace("\\", "\\\\").replace('"', '\\"') + '"' for k in keys)
    rows = {}
    for row in cluster.client(database).query(
        name or spec.name, filter=f"{key} in [{literals}]", output_fields=["*"], limit=16000,
        consistency_level="Strong", timeout=TIMEOUT,
    ):  # fmt: skip
        assert row[key] not in rows, f"key {row[key]!r} came twice"
        missing = set(columns) - set(row) - outputs
        assert not missing, f"{missing} are not in the row {row[key]!r}"
        values = {n: typed(columns[n], row[n]) for n in columns if n not in outputs}
        values["$meta"] = {n: plain(v) for n, v in row.items() if n not in columns}
        rows[row[key]] = values
    return rows


def inserted(spec: Spec) -> dict[Any, dict[str, Any]]:
    """What the test put in, in the form of `read`."""
    columns = {field.name: field for field in spec.schema.fields}
    outputs = {output for function in spec.schema.functions for output in function.output_field_names}
    return {
        row[spec.key]: {n: typed(columns[n], row.get(n)) for n in columns if n not in outputs}
        | {"$meta": {n: plain(v) for n, v in row.items() if n not in columns}}
        for row in spec.all_rows
    }


def row_differences(wanted: dict, found: dict, what: str) -> list[str]:
    wrong = []
    if set(wanted) != set(found):
        wrong.append(f"{what}: missing keys {sorted(set(wanted) - set(found))[:5]}, surplus {sorted(set(found) - set(wanted))[:5]}")
    for key in wanted:
        for column, value in wanted[key].items():
            other = found.get(key, wanted[key]).get(column)
            if other != value:
                wrong.append(f"{what}: key {key!r}, {column}: wanted {value!r}, found {other!r}"[:400])
    return wrong[:12]


def remove(cluster: Cluster, prefix: str) -> None:
    """Drops the collections and databases whose names begin so: what one test has made on a shared server."""
    for database, names in cluster.everything().items():
        mine = database.startswith(prefix)
        for name in names:
            if mine or name.startswith(prefix):
                cluster.client(database).drop_collection(name, timeout=TIMEOUT)
        if mine:
            cluster.client().drop_database(database, timeout=TIMEOUT)
