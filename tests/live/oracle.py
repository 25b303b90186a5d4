"""The independent client: fills collections with pymilvus and reads them back as plain Python values.

It shares nothing with the tool under test: not its code, not its way of scanning. Rows are asked for by the keys
that the test itself inserted, so nothing that a scan would skip is missed here, and `count(*)` per partition says
that there is nothing besides. Values are compared by what they are, not by how they print: floats by their bits,
vectors as bytes, JSON numbers with integers and floats kept apart.

pymilvus 3.0.2 talks to all three servers (2.3.5, Lite 2.5.1, Lite 3.2.2), so one client does for all.
"""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import dataclass
from typing import Any, Iterable

import numpy as np
from pymilvus import DataType as T, MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.exceptions import MilvusException

from data import ENGINES, I64_MIN, Spec
from servers import GRPC_OPTIONS

# Lite 2.5.1 answers UNIMPLEMENTED to half of what we ask; pymilvus logs each with a stack.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

TIMEOUT = 180  # seconds; servers are slow while the tests of other files keep the machine busy
BATCH = 2000  # keys in one query
INSERT_BYTES = 4 << 20


@dataclass(frozen=True)
class Part:
    """The databases and collections of a server that have one of the words in their names."""

    cluster: Cluster
    words: tuple[str, ...]

    def everything(self) -> dict[str, list[str]]:
        def ours(name: str) -> bool:
            return any(word in name for word in self.words)

        # any other database belongs to another test, which may drop it while we look
        found = {database: self.cluster.collections(database) for database in self.cluster.databases() if ours(database)}
        return {"default": [name for name in self.cluster.collections() if ours(name)]} | found


class Cluster:
    """One running server, seen by pymilvus."""

    def __init__(self, engine: str, uri: str, token: str = "", shared: bool = False):
        self.engine = ENGINES[engine]
        self.uri = uri
        self.token = token
        self.shared = shared  # by tests that run at the same time and make and drop things of their own
        self._clients: dict[str, MilvusClient] = {}

    def client(self, database: str = "default") -> MilvusClient:
        if not self.engine.databases:
            assert database == "default", f"{self.engine.name} has no databases"
            database = ""
        if database not in self._clients:
            self._clients[database] = MilvusClient(
                uri=self.uri,
                token=self.token,
                timeout=TIMEOUT,
                grpc_options=GRPC_OPTIONS,
                **({"db_name": database} if database else {}),
            )
        return self._clients[database]

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    # --- writing --------------------------------------------------------------------------------------------------

    def create_database(self, name: str) -> None:
        if name not in self.databases():
            self.client().create_database(name, timeout=TIMEOUT)

    def fill(self, spec: Spec, database: str = "default", load: bool = True, name: str | None = None) -> None:
        """Makes the collection, its partitions, rows, indexes and aliases, and loads it."""
        name = name or spec.name
        client = self.client(database)
        client.create_collection(name, schema=spec.schema, consistency_level=spec.consistency, timeout=TIMEOUT)
        for partition in spec.rows:
            if partition != "_default":
                client.create_partition(name, partition, timeout=TIMEOUT)
        for partition, rows in spec.rows.items():
            self.insert(spec, rows, database, partition if self.engine.partitions else None, name=name)
        self.index(name, spec.indexes, database)
        for alias in spec.aliases:
            client.create_alias(name, alias, timeout=TIMEOUT)
        if load:
            client.load_collection(name, timeout=TIMEOUT)
        else:
            client.release_collection(name, timeout=TIMEOUT)

    def insert(
        self, spec: Spec, rows: list[dict], database: str = "default", partition: str | None = None, name: str | None = None
    ) -> None:
        client = self.client(database)
        # pymilvus takes a str for a JSON field as JSON text, so a JSON string must be sent as its text
        documents = [f.name for f in spec.schema.fields if f.dtype == T.JSON]
        rows = [{k: json.dumps(v) if k in documents and isinstance(v, str) else v for k, v in row.items()} for row in rows]
        size = max(1, min(BATCH, INSERT_BYTES // max(1, 8 * sum(_length(v) for v in rows[0].values())))) if rows else 1
        for start in range(0, len(rows), size):
            extra = {"partition_name": partition} if partition and partition != "_default" else {}
            client.insert(name or spec.name, rows[start : start + size], timeout=TIMEOUT, **extra)

    def index(self, name: str, indexes: dict[str, tuple[str, str]], database: str = "default") -> None:
        client = self.client(database)
        for column, (metric, kind) in indexes.items():
            params = client.prepare_index_params()
            params.add_index(column, index_type=kind, metric_type=metric)
            client.create_index(name, params, timeout=TIMEOUT)

    # --- reading --------------------------------------------------------------------------------------------------

    def databases(self) -> list[str]:
        return sorted(self.client().list_databases(timeout=TIMEOUT)) if self.engine.databases else ["default"]

    def collections(self, database: str = "default") -> list[str]:
        return sorted(self.client(database).list_collections(timeout=TIMEOUT))

    def everything(self) -> dict[str, list[str]]:
        """All databases with all their collections: what a command that failed must not have changed."""
        return {database: self.collections(database) for database in self.databases()}

    def only(self, *words: str) -> "Part":
        """What of this server has one of the words in its name: on a shared one, what a test could have changed."""
        return Part(self, words)

    def partitions(self, name: str, database: str = "default") -> list[str]:
        if not self.engine.partitions:
            return ["_default"]
        return sorted(self.client(database).list_partitions(name, timeout=TIMEOUT))

    def aliases(self, name: str, database: str = "default") -> list[str]:
        if not self.engine.aliases:
            return []
        client = self.client(database)
        if self.engine.name == "milvus235":  # its ListAliases does not look at the connection's database
            return sorted(client.describe_collection(name, timeout=TIMEOUT)["aliases"])
        # Lite 3.2.2 names them only here; its DescribeCollection has none
        return sorted(client.list_aliases(name, timeout=TIMEOUT).get("aliases", []))

    def loaded(self, name: str, database: str = "default") -> bool:
        return self.client(database).get_load_state(name, timeout=TIMEOUT)["state"] == LoadState.Loaded

    def load(self, name: str, database: str = "default") -> None:
        self.client(database).load_collection(name, timeout=TIMEOUT)

    def release(self, name: str, database: str = "default") -> None:
        self.client(database).release_collection(name, timeout=TIMEOUT)

    def count(self, spec: Spec, name: str | None = None, database: str = "default", partition: str | None = None) -> int:
        """count(*), of one partition or of all.

        With a filter that every row passes: without one, Lite 3.2.2 counts the whole collection whatever partition
        it was asked for.
        """
        extra = {"partition_names": [partition]} if partition and self.engine.partitions else {}
        everything = f"{spec.key} >= 0 or {spec.key} < 0" if spec.integer_key else f'{spec.key} >= ""'
        reply = self.client(database).query(
            name or spec.name, filter=everything, output_fields=["count(*)"], consistency_level="Strong", timeout=TIMEOUT, **extra
        )
        return reply[0]["count(*)"]

    def indexes(self, name: str, database: str = "default") -> dict[str, dict[str, Any]]:
        """Per field: index type, metric type and state, as the server describes them."""
        client = self.client(database)
        found = {}
        try:
            names = client.list_indexes(name, timeout=TIMEOUT)
        except MilvusException as error:
            if error.code == 700:  # none
                return {}
            raise
        for index in names:
            described = client.describe_index(name, index, timeout=TIMEOUT)
            found[described["field_name"]] = {
                key: described.get(key) for key in ("index_type", "metric_type", "state", "pending_index_rows")
            }
        return found

    def describe(self, name: str, database: str = "default") -> dict[str, Any]:
        """The schema as the server describes it, in one form for all servers."""
        raw = self.client(database).describe_collection(name, timeout=TIMEOUT)
        fields = []
        for column in raw["fields"]:
            params = {key: int(value) if str(value).isdigit() else value for key, value in column.get("params", {}).items()}
            fields.append(
                {
                    "name": column["name"],
                    "type": T(column["type"]).name,
                    "element_type": T(column["element_type"]).name if column.get("element_type") else None,
                    "params": params,
                    "primary": bool(column.get("is_primary")),
                    "auto_id": bool(column.get("auto_id")),
                    "nullable": bool(column.get("nullable")),
                    "partition_key": bool(column.get("is_partition_key")),
                    "default": column.get("default_value"),
                    "description": column.get("description", ""),
                }
            )
        return {
            "description": raw["description"],
            "dynamic": raw["enable_dynamic_field"],
            "consistency": raw.get("consistency_level"),
            "fields": fields,
            "functions": [f["name"] for f in raw.get("functions", [])],
        }

    def rows(self, spec: Spec, name: str | None = None, database: str = "default", partition: str | None = None) -> dict:
        """Reads rows by the keys of `spec` (of one partition, or all): key -> {column: canonical value}."""
        name = name or spec.name
        client = self.client(database)
        columns = {f.name: f for f in spec.schema.fields}
        source = spec.rows[partition] if partition else spec.all_rows
        keys = [row[spec.key] for row in source]
        found: dict = {}
        extra = {"partition_names": [partition]} if partition and self.engine.partitions else {}
        for expression in _key_filters(spec.key, keys, self.engine.newline):
            reply = client.query(
                name,
                filter=expression,
                output_fields=["*"],
                limit=16000,
                consistency_level="Strong",
                timeout=TIMEOUT,
                **extra,
            )
            for row in reply:
                key = row[spec.key]
                value = canonical_row(columns, row)
                if found.setdefault(key, value) != value:
                    raise AssertionError(f"{name}: key {key!r} came back twice with different values")
        return found


def _length(value: Any) -> int:
    return len(value) if hasattr(value, "__len__") else 1


def _key_filters(column: str, keys: list, newline: str) -> Iterable[str]:
    """Expressions that select exactly these keys.

    The literals that the servers understand: characters as they are, with only the quote, the backslash and line
    breaks escaped. The smallest 64-bit integer has no literal
    in 2.3.5, and in Lite 2.5.1 its literal means the next one.
    """
    usual = [key for key in keys if key != I64_MIN]
    for start in range(0, len(usual), BATCH):
        batch = usual[start : start + BATCH]
        yield f"{column} in [{', '.join(key_literal(key, newline) for key in batch)}]"
    if len(usual) != len(keys):
        yield f"{column} < {I64_MIN + 1}"


def key_literal(key: Any, newline: str) -> str:
    if isinstance(key, int):
        return str(key)
    text = key.replace("\\", "\\\\").replace('"', '\\"')
    if newline == "\\n":
        text = text.replace("\n", "\\n").replace("\r", "\\r")
    else:
        # there, a backslash before CR LF stands for both
        text = text.replace("\r\n", "\0crlf").replace("\n", newline).replace("\0crlf", "\\\r\n")
    return f'"{text}"'


# --- values -------------------------------------------------------------------------------------------------------


def canonical_row(columns: dict, row: dict) -> dict[str, Any]:
    """One row as comparable values; what is outside the schema goes under `$meta`."""
    result = {}
    meta = {}
    for name, value in row.items():
        if name in columns:
            result[name] = canonical(columns[name], value)
        else:
            meta[name] = canonical_json(value)
    if meta:
        result["$meta"] = meta
    return result


def canonical(column: Any, value: Any) -> Any:
    kind = column.dtype
    if value is None:
        return None
    if kind == T.ARRAY:
        return tuple(canonical_scalar(column.element_type, v) for v in value)
    if kind == T.FLOAT_VECTOR:
        return np.asarray(value, dtype=np.float32).tobytes()
    if kind in (T.BINARY_VECTOR, T.FLOAT16_VECTOR, T.BFLOAT16_VECTOR, T.INT8_VECTOR):
        while isinstance(value, list):
            (value,) = value
        return value if isinstance(value, bytes) else value.tobytes()
    if kind == T.SPARSE_FLOAT_VECTOR:
        return tuple(sorted((int(i), struct.pack("<f", v)) for i, v in value.items()))
    return canonical_scalar(kind, value)


def canonical_scalar(kind: T, value: Any) -> Any:
    if kind == T.FLOAT:
        return struct.pack("<f", value)
    if kind == T.DOUBLE:
        return struct.pack("<d", value)
    if kind == T.JSON:
        return canonical_json(json.loads(value) if isinstance(value, (bytes, bytearray)) else value)
    if kind == T.BOOL:
        assert isinstance(value, bool), value
    return value


def canonical_json(value: Any) -> Any:
    """JSON with what Python's `==` blurs kept apart: 1 and 1.0 and true, 0.0 and -0.0."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return (type(value).__name__, value)
    if isinstance(value, int):
        return ("int", value)
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, list):
        return ("list", [canonical_json(v) for v in value])
    if isinstance(value, dict):
        return ("dict", {k: canonical_json(v) for k, v in value.items()})
    raise TypeError(f"{type(value)} is not JSON")


def expected_rows(spec: Spec, partition: str | None = None) -> dict:
    """What the test inserted, in the same form as `Cluster.rows`."""
    columns = {f.name: f for f in spec.schema.fields}
    source = spec.rows[partition] if partition else spec.all_rows
    return {row[spec.key]: canonical_row(columns, row) for row in source}


# --- comparing ----------------------------------------------------------------------------------------------------


def differences(wanted: dict, found: dict, what: str, most: int = 5) -> list[str]:
    """Rows of `found` that are not as in `wanted`; the first few, each with the columns that differ."""
    result = []
    missing = [key for key in wanted if key not in found]
    surplus = [key for key in found if key not in wanted]
    if missing:
        result.append(f"{what}: {len(missing)} rows are missing, such as {missing[:most]!r}")
    if surplus:
        result.append(f"{what}: {len(surplus)} rows too many, such as {surplus[:most]!r}")
    wrong = [key for key in wanted if key in found and wanted[key] != found[key]]
    for key in wrong[:most]:
        a, b = wanted[key], found[key]
        for column in sorted(set(a) | set(b)):
            if a.get(column) != b.get(column):
                result.append(f"{what}: key {key!r}, {column}: wanted {a.get(column)!r}, found {b.get(column)!r}"[:600])
    if len(wrong) > most:
        result.append(f"{what}: {len(wrong)} rows differ in all")
    return result


def compare_rows(spec: Spec, cluster: Cluster, name: str | None = None, database: str = "default") -> list[str]:
    """Every row of the collection against what was inserted: per partition where the server has them."""
    name = name or spec.name
    if not cluster.loaded(name, database):
        cluster.load(name, database)
    result = []
    for partition, rows in spec.rows.items():
        what = f"{database}.{name}/{partition}"
        count = cluster.count(spec, name, database, partition)
        if count != len(rows):
            result.append(f"{what}: count(*) is {count}, wanted {len(rows)}")
        result += differences(expected_rows(spec, partition), cluster.rows(spec, name, database, partition), what)
    return result


def compare_shape(
    spec: Spec, source: Cluster, target: Cluster, name: str | None = None,
    databases: tuple[str, str] = ("default", "default"), aliases: bool = True,
) -> list[str]:
    """Schema, partitions, counts, metrics and aliases of the target against the source."""
    name = name or spec.name
    a, b = source.describe(spec.name, databases[0]), target.describe(name, databases[1])
    if not (source.engine.keeps_consistency and target.engine.keeps_consistency):
        a.pop("consistency"), b.pop("consistency")
    for described in (a, b):
        if not (source.engine.keeps_descriptions and target.engine.keeps_descriptions):
            described.pop("description")
            for column in described["fields"]:
                column.pop("description")
        if not (source.engine.keeps_array_length and target.engine.keeps_array_length):
            for column in described["fields"]:
                if column["type"] == "ARRAY":
                    column["params"].pop("max_length", None)
    result = []
    for key in a:
        if a[key] != b[key]:
            if key == "fields":
                for x, y in zip(a[key], b[key]):
                    if x != y:
                        result.append(f"field differs: source {x}, target {y}")
                if len(a[key]) != len(b[key]):
                    result.append(f"{len(a[key])} fields became {len(b[key])}")
            else:
                result.append(f"{key} differs: source {a[key]!r}, target {b[key]!r}")
    x, y = source.partitions(spec.name, databases[0]), target.partitions(name, databases[1])
    if x != y:
        result.append(f"partitions differ: source {x}, target {y}")
    x, y = ({f: i["metric_type"] for f, i in c.indexes(n, d).items()} for c, n, d in
            [(source, spec.name, databases[0]), (target, name, databases[1])])  # fmt: skip
    if x != y:
        result.append(f"metrics differ: source {x}, target {y}")
    if aliases and source.engine.aliases and target.engine.aliases:
        x, y = source.aliases(spec.name, databases[0]), target.aliases(name, databases[1])
        if x != y:
            result.append(f"aliases differ: source {x}, target {y}")
    return result
