"""What engines have beside plain columns, engine by engine: partition keys, auto-id, defaults, scalar indexes and
properties on Milvus 2.3.5; what Lite 2.5.1 has of it; values and schemas that a target does not take.

Everything is read back by pymilvus, value by value and attribute by attribute.
"""

from __future__ import annotations

import base64
from typing import Iterator

import pytest
from pymilvus import DataType as T, FieldSchema, Function, FunctionType
from pymilvus.grpc_gen import milvus_pb2, schema_pb2

import data
import tool as exits
from attributes import described, indexes, inserted, read, remove, row_differences
from buckets import Bucket
from conftest import Servers
from moves import nothing_changes, says, tokens
from oracle import Cluster, compare_rows
from test_types_rich import make, move, spec_of, vector
from tool import Tool


@pytest.fixture(autouse=True)
def leave_nothing(clusters: Servers, unique: str) -> Iterator[None]:
    yield
    for name in ("milvus235", "lite251", "lite251b", "lite322", "lite322b"):
        remove(clusters(name), unique)


# --- Milvus 2.3.5 -------------------------------------------------------------------------------------------------


def test_a_partition_key_and_indexes_on_milvus(tool: Tool, clusters: Servers, bucket: Bucket, unique: str) -> None:
    """With a dynamic field, several kinds of scalar indexes, and properties that 2.3 keeps."""
    cluster = clusters("milvus235")
    fields = [
        FieldSchema("tenant", T.VARCHAR, max_length=50, is_partition_key=True, description="who"),
        FieldSchema("day", T.INT64),
        FieldSchema("price", T.DOUBLE),
        FieldSchema("plain", T.INT32),
    ]
    rows = [
        {"id": n * 7 - 90, "tenant": data.STRINGS[n % len(data.STRINGS)][:12], "day": n % 9, "price": n / 3, "plain": -n, "extra": {"n": n}}
        for n in range(120)
    ]
    spec = spec_of(f"{unique}__tenants", fields, rows, enable_dynamic_field=True, description="of tenants")
    spec.indexes |= {"tenant": ("", "Trie"), "day": ("", "STL_SORT"), "price": ("", "STL_SORT")}
    make(cluster, spec, num_partitions=5, properties={"collection.ttl.seconds": "864000", "mmap.enabled": "true"})
    assert {name: i["index_type"] for name, i in indexes(cluster, spec.name).items() if name != "v"} == {
        "tenant": "Trie", "day": "STL_SORT", "price": "STL_SORT",
    }  # fmt: skip
    about = described(cluster, spec.name)
    assert about["num_partitions"] == 5
    assert about["properties"] == {"collection.ttl.seconds": "864000", "mmap.enabled": "true"}
    name = f"{unique}__tenants_too"
    _, result = move(tool, bucket, cluster, cluster, spec, name=name)
    assert not result.doc["warnings"], result
    for tenant in {row["tenant"] for row in rows}:
        literal = tenant.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        found = cluster.client().query(name, filter=f'tenant == "{literal}"', output_fields=["id"], limit=200)
        assert sorted(row["id"] for row in found) == sorted(row["id"] for row in rows if row["tenant"] == tenant), tenant


def test_defaults_on_milvus(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """2.3.5 keeps defaults in its descriptions. Those of narrow integers pymilvus sends in a form that it refuses."""
    cluster = clusters("milvus235")
    defaults = {"flag": True, "i64": data.I64_MAX, "f32": 0.25, "f64": 0.1, "text": 'the "default" 世界'}
    kinds = {"flag": T.BOOL, "i64": T.INT64, "f32": T.FLOAT, "f64": T.DOUBLE, "text": T.VARCHAR}
    fields = [
        FieldSchema(name, kind, default_value=defaults[name], **({"max_length": 50} if kind == T.VARCHAR else {}))
        for name, kind in kinds.items()
    ]
    rows = [{"id": n, "flag": False, "i64": -n, "f32": n / 4, "f64": n / 3, "text": f"row {n}"} for n in range(30)]
    spec = spec_of(f"{unique}__defaults", fields, rows)
    make(cluster, spec)
    about = described(cluster, spec.name)
    assert all(about.get(f"field {name}: default_value") for name in defaults), about
    move(tool, folder_bucket, cluster, cluster, spec, name=f"{unique}__defaults_too")


def test_defaults_from_lite_322_on_milvus(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """Of narrow integers too, which pymilvus 3.0.2 sends in a form that 2.3.5 refuses."""
    source, target = clusters("lite322"), clusters("milvus235")
    fields = [FieldSchema(n, k, default_value=5) for n, k in [("i8", T.INT8), ("i16", T.INT16), ("i32", T.INT32), ("i64", T.INT64)]]
    rows = [{"id": n, "i8": -128, "i16": 2, "i32": 3, "i64": data.I64_MIN} for n in range(9)]
    spec = spec_of(f"{unique}__narrow", fields, rows)
    make(source, spec)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    tool.run("import", folder_bucket.url("snap"), "--target", target.uri, env=tokens(target=target))
    there, here = described(source, spec.name), described(target, spec.name)
    for name in ("i8", "i16", "i32", "i64"):
        default = here[f"field {name}: default_value"]
        assert default and default == there[f"field {name}: default_value"], name
    target.load(spec.name)
    found = read(target, spec, [row["id"] for row in rows])
    assert row_differences(inserted(spec), found, "target against what was inserted") == []


@pytest.mark.parametrize("doc", [[1], "text", 5], ids=["array", "string", "number"])
def test_json_that_milvus_does_not_take(
    tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str, doc: object
) -> None:
    """Only objects: another value is named by collection, field and key."""
    source, target = clusters("lite251"), clusters("milvus235")
    rows = [{"id": n, "doc": {"n": n} if n != 3 else doc} for n in range(6)]
    spec = spec_of(f"{unique}__json", [FieldSchema("doc", T.JSON)], rows)
    make(source, spec)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    args = ("import", folder_bucket.url("snap"), "--target", target.uri)
    result = tool.run(*args, env=tokens(target=target), code=exits.UNSUPPORTED)
    says(result, f"default.{spec.name}", '"doc"', "only JSON objects", "key 3")


def test_schemas_that_milvus_does_not_take(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """Two vector fields, and an array of VarChar whose source does not say how long its texts may be: refused in the
    plan and in the import, by name, and nothing is made."""
    source, target = clusters("lite322"), clusters("milvus235")
    fields = [
        FieldSchema("w", T.FLOAT_VECTOR, dim=2),
        FieldSchema("words", T.ARRAY, element_type=T.VARCHAR, max_length=20, max_capacity=4),
    ]
    spec = spec_of(f"{unique}__two", fields, [{"id": n, "w": [n, 1.0], "words": ["a"]} for n in range(3)])
    spec.indexes["w"] = ("L2", "AUTOINDEX")
    make(source, spec)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    for extra in ((), ("--plan",)):
        with nothing_changes(target.only(unique)):
            args = ("import", folder_bucket.url("snap"), "--target", target.uri, *extra)
            result = tool.run(*args, env=tokens(target=target), code=exits.UNSUPPORTED)
        says(result, f"default.{spec.name} fields w, v", "more than one vector field", '"words"', "max_length")


# --- Milvus Lite 2.5.1 --------------------------------------------------------------------------------------------


def test_the_values_that_lite_322_does_not_keep(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """JSON that is neither object nor array, and sparse vectors that are empty or have zeros: named, not changed."""
    source, target = clusters("lite251"), clusters("lite322b")
    for what, value, words in [
        ("doc", 5, "only JSON objects and arrays"), ("doc", "text", "only JSON objects and arrays"),
        ("s", {}, "no sparse vectors without entries"), ("s", {7: 0.0, 9: 1.0}, "drops explicit zeros"),
    ]:  # fmt: skip
        rows = [{"id": n, "doc": {"n": n}, "s": {n: 0.5}} for n in range(6)]
        rows[4][what] = value
        name = f"{unique}__{what}{len(words)}_{type(value).__name__}"
        spec = spec_of(name, [FieldSchema("doc", T.JSON), FieldSchema("s", T.SPARSE_FLOAT_VECTOR)], rows)
        spec.indexes["s"] = ("IP", "SPARSE_INVERTED_INDEX")
        make(source, spec)
        tool.run("export", folder_bucket.url(name), "--source", source.uri, "-c", name)
        result = tool.run("import", folder_bucket.url(name), "--target", target.uri, code=exits.UNSUPPORTED)
        says(result, f"default.{name}", f'"{what}"', words, "key 4")


def test_keys_and_defaults_of_lite_251(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """It keeps these attributes: a clustering key, defaults, an index on a scalar."""
    source, target = clusters("lite251"), clusters("lite251b")
    fields = [
        FieldSchema("day", T.INT64, is_clustering_key=True),
        FieldSchema("i64", T.INT64, default_value=-7), FieldSchema("text", T.VARCHAR, max_length=50, default_value='"x" 世界'),
    ]  # fmt: skip
    rows = [{"id": n, "day": -n, "i64": n, "text": f"row {n}"} for n in range(50)]
    spec = spec_of(f"{unique}__kept", fields, rows)
    spec.indexes["day"] = ("", "INVERTED")
    make(source, spec)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    tool.run("verify", folder_bucket.url("snap"), "--level", "full")
    tool.run("import", folder_bucket.url("snap"), "--target", target.uri)
    about = described(target, spec.name)
    assert about == described(source, spec.name)
    assert about["field i64: default_value"] and about["field text: default_value"]
    assert about["field day: is_clustering_key"] is True
    assert indexes(target, spec.name)["day"] == indexes(source, spec.name)["day"]
    target.load(spec.name)
    keys = [row["id"] for row in rows]
    found = read(target, spec, keys)
    assert row_differences(inserted(spec), found, "target against what was inserted") == []


def test_a_partition_key_on_lite_251(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """It takes one, and from then on no filter on the collection ("Invalid expr: id > 9"): rows arrive there, and can
    be read only all at once, so not exported."""
    source, target = clusters("lite322"), clusters("lite251")
    fields = [FieldSchema("tenant", T.VARCHAR, max_length=20, is_partition_key=True)]
    rows = [{"id": n, "tenant": f"t{n % 5}"} for n in range(30)]
    spec = spec_of(f"{unique}__keyed", fields, rows)
    make(source, spec)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    tool.run("import", folder_bucket.url("snap"), "--target", target.uri)
    assert described(target, spec.name)["field tenant: is_partition_key"] is True
    target.load(spec.name)
    found = target.client().query(spec.name, filter="", output_fields=["id", "tenant", "v"], limit=100)
    assert {row["id"]: (row["tenant"], list(row["v"])) for row in found} == {
        row["id"]: (row["tenant"], vector(n)) for n, row in enumerate(rows)
    }
    result = tool.run("export", folder_bucket.url("again"), "--source", target.uri, "-c", spec.name, code=exits.UNSUPPORTED)
    says(result, f"default.{spec.name}", "Invalid expr")
    assert not (folder_bucket.folder / "again" / "COMMIT.json").exists()


def test_full_text_of_lite_251(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """It makes a BM25 function, describes none, and does not hand out the output: the export names the field."""
    source = clusters("lite251")
    fields = [FieldSchema("text", T.VARCHAR, max_length=100, enable_analyzer=True), FieldSchema("words", T.SPARSE_FLOAT_VECTOR)]
    rows = [{"id": n, "text": f"brown fox {n}"} for n in range(10)]
    spec = spec_of(f"{unique}__bm25", fields, rows, functions=[Function("bm25", FunctionType.BM25, ["text"], ["words"])])
    spec.indexes["words"] = ("BM25", "SPARSE_INVERTED_INDEX")
    make(source, spec)
    assert described(source, spec.name)["functions"] == []
    result = tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name, code=exits.INTEGRITY)
    says(result, f"default.{spec.name}", '"words"')
    assert not (folder_bucket.folder / "snap" / "COMMIT.json").exists()


@pytest.mark.parametrize("text", [b'{"x":99}', b'{"id":77}', b'{"v":{}}', b'{"a":1,"a":2}'], ids=str)
def test_dynamic_values_that_lite_would_change(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str, text: bytes) -> None:
    """Lite 3.2.2 puts a dynamic value with the name of a field into that field, the primary key included, and keeps one of
    two equal keys. Milvus 2.3.5 holds such rows, so they get there and back, and a Lite is not given them."""
    source, target = clusters("milvus235"), clusters("lite322b")
    spec = spec_of(f"{unique}__shadow", [FieldSchema("x", T.INT64)], [{"id": 1, "x": 2}], enable_dynamic_field=True)
    client = source.client()
    client.create_collection(spec.name, schema=spec.schema)
    insert_raw(source, spec.name, 5, text)
    source.index(spec.name, spec.indexes)
    client.load_collection(spec.name)
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", spec.name, env=tokens(source=source))
    args = ("--rename", f"{spec.name}={unique}__moved")
    result = tool.run("import", url, "--target", target.uri, *args, code=exits.UNSUPPORTED)
    says(result, spec.name, "$meta", "row with key 5", "drop them on the target")
    tool.run("import", url, "--target", source.uri, *args, env=tokens(target=source))
    tool.run("compare", url, "--target", source.uri, *args, "--level", "full", "--load", env=tokens(target=source))


def insert_raw(cluster: Cluster, name: str, key: int, meta: bytes) -> None:
    """A row with a dynamic value that pymilvus would not send."""

    def column(field: str, kind: T, **values: object) -> schema_pb2.FieldData:
        return schema_pb2.FieldData(type=int(kind), field_name=field, is_dynamic=field == "$meta", **values)

    integers = schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=[key]))
    vectors = schema_pb2.VectorField(dim=len(vector(0)), float_vector=schema_pb2.FloatArray(data=vector(0)))
    fields = [
        column("id", T.INT64, scalars=integers),
        column("x", T.INT64, scalars=integers),
        column("v", T.FLOAT_VECTOR, vectors=vectors),
        column("$meta", T.JSON, scalars=schema_pb2.ScalarField(json_data=schema_pb2.JSONArray(data=[meta]))),
    ]
    request = milvus_pb2.InsertRequest(collection_name=name, fields_data=fields, num_rows=1)
    token = base64.b64encode((cluster.token or "").encode()).decode()
    reply = cluster.client()._get_connection()._stub.Insert(request, metadata=[("authorization", token)], timeout=30)
    assert (reply.status.code, reply.insert_cnt) == (0, 1), reply


@pytest.mark.parametrize(
    ("kind", "default", "taken"),
    [
        (T.BOOL, True, True), (T.INT64, -5, True), (T.VARCHAR, "x", True), (T.VARCHAR, "", False),
        (T.INT8, 1, False), (T.INT16, 1, False), (T.INT32, 1, False), (T.FLOAT, 1.5, False), (T.DOUBLE, 1.5, False),
    ],
)  # fmt: skip
def test_default_values_that_lite_251_does_not_bear(
    tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str, kind: T, default: object, taken: bool
) -> None:
    """It refuses some; of others it makes a collection that cannot be described any more."""
    source, target = clusters("lite322"), clusters("lite251b")
    field = FieldSchema("d", kind, default_value=default, **({"max_length": 20} if kind == T.VARCHAR else {}))
    spec = spec_of(f"{unique}__default", [field], [{"id": 1, "d": default}])
    make(source, spec)
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", spec.name)
    with nothing_changes(target.only(unique)):
        result = tool.run("import", url, "--target", target.uri, "--plan", code=0 if taken else exits.UNSUPPORTED)
    if taken:
        tool.run("import", url, "--target", target.uri)
        assert compare_rows(spec, target) == []
    else:
        says(result, spec.name, '"d"', "default value")


def test_names_that_milvus_does_not_take(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """The Lites take any name. The plan lists every one that the target refuses, and what can be renamed is taken then."""
    source, target = clusters("lite322"), clusters("milvus235")
    odd = spec_of(f"{unique}__é", [FieldSchema("a b", T.INT64)], [{"id": 1, "a b": 2}])
    placed = data.plain(f"{unique}__placed", 20)
    make(source, odd)
    source.client().create_collection(placed.name, schema=placed.schema)
    for partition in ("p-1", ".."):
        source.client().create_partition(placed.name, partition)
    source.index(placed.name, placed.indexes)
    source.load(placed.name)
    source.client().create_alias(placed.name, f"{unique}__ö")
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", f"{unique}__*")
    for extra in ((), ("--plan",)):
        with nothing_changes(target.only(unique)):
            result = tool.run("import", url, "--target", target.uri, *extra, env=tokens(target=target), code=exits.UNSUPPORTED)
        says(result, f'"{unique}__é"', '"a b"', '"p-1"', '".."', f'"{unique}__ö"', "--rename", "--no-aliases", "-c")


def test_nulls_that_lite_251_does_not_take(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """It says so itself when the collection is to be created; nothing is left."""
    source, target = clusters("lite322"), clusters("lite251")
    spec = spec_of(f"{unique}__null", [FieldSchema("x", T.INT64, nullable=True)], [{"id": 1, "x": None}])
    make(source, spec)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    with nothing_changes(target.only(unique)):
        result = tool.run("import", folder_bucket.url("snap"), "--target", target.uri, code=exits.UNSUPPORTED)
    says(result, spec.name, "doesn't support nullable")


def test_an_auto_id_of_lite_251(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """Keys that this engine made are kept as a field, here and on the newer engine."""
    source = clusters("lite251")
    fields = [FieldSchema("id", T.INT64, is_primary=True, auto_id=True), FieldSchema("text", T.VARCHAR, max_length=20)]
    spec = spec_of(f"{unique}__auto", fields, [{"text": f"row {n}"} for n in range(40)])
    client = source.client()
    client.create_collection(spec.name, schema=spec.schema)
    keys = client.insert(spec.name, spec.all_rows)["ids"]
    for key, row in zip(keys, spec.all_rows):
        row["id"] = key
    source.index(spec.name, spec.indexes)
    client.load_collection(spec.name)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    for to in ("lite251b", "lite322b"):
        target = clusters(to)
        args = ("import", folder_bucket.url("snap"), "--target", target.uri)
        says(tool.run(*args, code=exits.UNSUPPORTED), "--auto-id as-field", "--auto-id regenerate")
        name = f"{unique}__{to}"
        tool.run(*args, "--auto-id", "as-field", "--rename", f"{spec.name}={name}")
        target.load(name)
        found = target.client().query(name, filter="id >= 0 or id < 0", output_fields=["*"], limit=100)
        assert {row["id"]: (row["text"], list(row["v"])) for row in found} == {
            row["id"]: (row["text"], vector(n)) for n, row in enumerate(spec.all_rows)
        }
        assert not described(target, name)["auto_id"]
        target.client().drop_collection(name)
