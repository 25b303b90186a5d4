"""What Lite 3.2.2 holds beyond plain columns: nulls, defaults, geometry, times with zones, functions, partition keys,
properties. Exported, imported into another Lite 3.2.2, and compared by pymilvus: values with their types, None as
None, and every attribute that the servers describe.
"""

from __future__ import annotations

import datetime
import json
import pathlib
import random
import struct
from typing import Any, Iterator

import pytest
from pymilvus import CollectionSchema, DataType as T, FieldSchema, Function, FunctionType

import data
import servers
import tool as exits
from attributes import described, differences, indexes, inserted, read, remove, row_differences
from buckets import Bucket, FolderBucket
from conftest import Servers
from moves import nothing_changes, says, tokens
from oracle import Cluster
from tool import Result, Tool

DIM = 4


def vector(n: int) -> list[float]:
    return [struct.unpack("<f", struct.pack("<f", x))[0] for x in (n + 0.1, -n / 3, 1e-40, 3.4e38)]


def spec_of(name: str, fields: list[FieldSchema], rows: list[dict], functions: list[Function] = [], **schema: Any) -> data.Spec:
    """A collection with an Int64 key `id` and a vector `v`, unless the fields have their own."""
    names = [f.name for f in fields]
    if not any(f.is_primary for f in fields):
        fields = [FieldSchema("id", T.INT64, is_primary=True), *fields]
    if "v" not in names:
        fields = [*fields, FieldSchema("v", T.FLOAT_VECTOR, dim=DIM)]
        rows = [{**row, "v": vector(n)} for n, row in enumerate(rows)]
    return data.Spec(
        name, CollectionSchema(fields, functions=functions, **schema), {"_default": rows}, {"v": ("L2", "AUTOINDEX")}
    )


def make(cluster: Cluster, spec: data.Spec, database: str = "default", **options: Any) -> None:
    client = cluster.client(database)
    client.create_collection(spec.name, schema=spec.schema, **options)
    if spec.all_rows:
        cluster.insert(spec, spec.all_rows, database)
    cluster.index(spec.name, spec.indexes, database)
    client.load_collection(spec.name)


def move(
    tool: Tool, bucket: Bucket, source: Cluster, target: Cluster, spec: data.Spec,
    databases: tuple[str, str] = ("default", "default"), name: str = "", importing: tuple[str, ...] = (),
) -> tuple[Result, Result]:  # fmt: skip
    """The whole way of one collection; the rows are compared on both sides, and all attributes."""
    url, name = bucket.url("snap"), name or spec.name
    old, new = f"{databases[0]}.{spec.name}", f"{databases[1]}.{name}"
    exported = tool.run("export", url, "--source", source.uri, "-c", old, env=tokens(source=source) | bucket.env)
    assert exported.doc["totals"]["rows"] == len(spec.all_rows)
    tool.run("verify", url, "--level", "full", "--expect", exported.doc["snapshot"]["commit_sha256"], env=bucket.env)
    rename = ("--rename", f"{old}={new}") if old != new else ()
    imported = tool.run("import", url, "--target", target.uri, *rename, *importing, env=tokens(target=target) | bucket.env)
    assert imported.doc["totals"]["rows"] == len(spec.all_rows)
    wrong = differences(source, target, spec.name, name, databases)
    target.load(name, databases[1])
    if spec.all_rows:
        keys = [row[spec.key] for row in spec.all_rows]
        before = read(source, spec, keys, database=databases[0])
        after = read(target, spec, keys, name, databases[1])
        wrong += row_differences(before, after, "target against source")
    assert target.count(spec, name, databases[1]) == len(spec.all_rows)
    assert not wrong, "\n".join(wrong)
    return exported, imported


@pytest.fixture
def source(clusters: Servers) -> Cluster:
    return clusters("lite322")


@pytest.fixture
def target(clusters: Servers) -> Cluster:
    return clusters("lite322b")


@pytest.fixture(autouse=True)
def leave_nothing(clusters: Servers, unique: str) -> Iterator[None]:
    yield
    for name in ("lite322", "lite322b"):
        remove(clusters(name), unique)


def test_the_comparison_notices_what_differs(source: Cluster, unique: str) -> None:
    """So that an empty list of differences means something."""
    one = spec_of(f"{unique}__a", [FieldSchema("x", T.INT64, nullable=True), FieldSchema("y", T.VARCHAR, max_length=9)], [{"id": 1, "x": None, "y": ""}])
    two = spec_of(f"{unique}__b", [FieldSchema("x", T.INT64, default_value=7), FieldSchema("y", T.VARCHAR, max_length=8)], [{"id": 1, "x": 0, "y": ""}])
    one.indexes["y"] = ("", "INVERTED")
    make(source, one, properties={"collection.ttl.seconds": "5000"})
    make(source, two)
    wrong = "\n".join(differences(source, source, one.name, two.name))
    for what in ("field x: nullable", "field x: default_value", "field y: params", "properties", "indexes"):
        assert what in wrong, wrong
    (found,) = row_differences(read(source, one, [1]), read(source, two, [1]), "rows")
    assert "x: wanted None" in found


# --- nulls --------------------------------------------------------------------------------------------------------

VALUES: list[tuple[str, T, dict, list]] = [
    ("flag", T.BOOL, {}, [True, False]),
    ("i8", T.INT8, {}, [-128, 127, 0]),
    ("i16", T.INT16, {}, [-(2**15), 2**15 - 1, 0]),
    ("i32", T.INT32, {}, [-(2**31), 2**31 - 1, 0]),
    ("i64", T.INT64, {}, [data.I64_MIN, data.I64_MAX, 0, 2**53 + 1]),
    ("f32", T.FLOAT, {}, [0.0, -0.0, data.F32_MAX, data.F32_TINY]),
    ("f64", T.DOUBLE, {}, [0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1]),
    ("text", T.VARCHAR, {"max_length": 500}, data.STRINGS),
    ("doc", T.JSON, {}, [*data.JSON_OBJECTS, *data.JSON_ARRAYS]),
    ("geo", T.GEOMETRY, {}, ["POINT (1 2)", "POINT (0.1 -1e-9)", "POINT (123456789.123456789 1e300)", "point(1 2)"]),
    (
        "ts", T.TIMESTAMPTZ, {},
        ["2024-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"],
    ),
    ("a_flag", T.ARRAY, {"element_type": T.BOOL}, [[], [True], [False, True]]),
    ("a_i8", T.ARRAY, {"element_type": T.INT8}, [[], [-128], [127, 0]]),
    ("a_i16", T.ARRAY, {"element_type": T.INT16}, [[], [-(2**15)], [2**15 - 1, 0]]),
    ("a_i32", T.ARRAY, {"element_type": T.INT32}, [[], [-(2**31)], [2**31 - 1, 0]]),
    ("a_i64", T.ARRAY, {"element_type": T.INT64}, [[], [data.I64_MIN], [data.I64_MAX, 2**53 + 1]]),
    ("a_f32", T.ARRAY, {"element_type": T.FLOAT}, [[], [-0.0], [data.F32_MAX, data.F32_TINY]]),
    ("a_f64", T.ARRAY, {"element_type": T.DOUBLE}, [[], [-0.0], [5e-324, 0.1]]),
    ("a_text", T.ARRAY, {"element_type": T.VARCHAR, "max_length": 500}, [[], [""], ["null", "世界 😀", 'q"\\']]),
]  # fmt: skip


def nullable_fields(defaults: dict[str, Any] | None = None) -> list[FieldSchema]:
    fields = []
    for name, kind, params, _ in VALUES:
        extra = {"max_capacity": 8} if kind == T.ARRAY else {}
        fields.append(FieldSchema(name, kind, nullable=True, **params, **extra))
    return fields


def nullable_rows(rows: int = 48) -> list[dict]:
    """All null, none null, every field null alone, and a mixture."""
    rng = random.Random(5)
    names = [name for name, *_ in VALUES]
    table = []
    for n in range(rows):
        row: dict[str, Any] = {"id": n - 5}
        for at, (name, _, _, values) in enumerate(VALUES):
            absent = n == 0 or n == at + 2 or (n > len(names) + 2 and rng.random() < 0.5)
            row[name] = None if absent else values[n % len(values)]
        table.append(row)
    assert any(all(row[n] is None for n in names) for row in table) and any(all(row[n] is not None for n in names) for row in table)
    return table


def test_nulls_of_every_scalar_type(tool: Tool, source: Cluster, target: Cluster, bucket: Bucket, unique: str) -> None:
    spec = spec_of(f"{unique}__nulls", nullable_fields(), nullable_rows(), enable_dynamic_field=True)
    for n, row in enumerate(spec.all_rows):
        row.update({} if n % 2 else {"extra": n, "nothing": None})
    make(source, spec)
    before = read(source, spec, [row["id"] for row in spec.all_rows])
    assert row_differences(inserted(spec), before, "source against what was inserted") == []
    nulls = {name: sum(row[name] is None for row in before.values()) for name, *_ in VALUES}
    assert all(nulls.values()), "the source holds no null in some column, so this shows nothing"
    move(tool, bucket, source, target, spec)
    # null and empty are told apart by the target's filters too
    for name in ("text", "i64", "flag"):
        found = target.client().query(spec.name, filter=f"{name} is null", output_fields=["id"], limit=100)
        assert len(found) == nulls[name], name


def test_a_column_that_is_null_everywhere(tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str) -> None:
    rows = [{"id": n, **{name: None for name, *_ in VALUES}} for n in range(10)]
    spec = spec_of(f"{unique}__allnull", nullable_fields(), rows)
    make(source, spec)
    move(tool, folder_bucket, source, target, spec)


def test_a_nullable_vector(tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str) -> None:
    """Lite stores zeros for a null vector and says nothing of it; what it says arrives, and the field stays nullable."""
    fields = [FieldSchema("w", T.FLOAT_VECTOR, dim=3, nullable=True)]
    spec = spec_of(f"{unique}__nullvector", fields, [{"id": n, "w": None if n % 3 == 0 else [n, 0.5, -0.0]} for n in range(12)])
    spec.indexes["w"] = ("COSINE", "AUTOINDEX")
    make(source, spec)
    move(tool, folder_bucket, source, target, spec)
    assert described(target, spec.name)["field w: nullable"] is True
    found = read(target, spec, [1])[1]["w"]
    assert found[1] == struct.pack("<3f", 1, 0.5, -0.0)
    # beside one that is not null, because Lite refuses a column of nulls alone
    target.client().insert(spec.name, [{"id": 98, "w": [1, 2, 3], "v": vector(1)}, {"id": 99, "w": None, "v": vector(1)}])


# --- defaults -----------------------------------------------------------------------------------------------------

DEFAULTS = {
    "flag": True, "i8": -128, "i16": 2**15 - 1, "i32": -(2**31), "i64": data.I64_MAX, "f32": 0.25, "f64": 0.1,
    "text": 'say "default" 世界 \\ \n', "geo": "POINT (1 2)", "ts": "2020-02-02T00:00:00.123456Z",
}  # fmt: skip


def default_fields(nullable: bool) -> list[FieldSchema]:
    return [
        FieldSchema(name, kind, default_value=DEFAULTS[name], nullable=nullable, **params)
        for name, kind, params, _ in VALUES
        if name in DEFAULTS
    ]


@pytest.mark.parametrize("nullable", [False, True], ids=["plain", "nullable"])
def test_defaults(tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str, nullable: bool) -> None:
    values = {name: values for name, _, _, values in VALUES}
    rows = [{"id": n, **({} if n % 2 else {name: values[name][n % len(values[name])] for name in DEFAULTS})} for n in range(20)]
    spec = spec_of(f"{unique}__defaults", default_fields(nullable), rows)
    client = source.client()
    client.create_collection(spec.name, schema=spec.schema)
    for rows in (spec.all_rows[::2], spec.all_rows[1::2]):  # one insert has the fields, one leaves them out
        source.insert(spec, rows)
    source.index(spec.name, spec.indexes)
    source.load(spec.name)
    move(tool, folder_bucket, source, target, spec)
    about = described(target, spec.name)
    for name in DEFAULTS:
        assert about.get(f"field {name}: default_value"), f"{name} has lost its default: {about}"
    # the default works: a row without the fields gets it
    target.client().insert(spec.name, [{"id": 1000, "v": vector(0)}])
    new, old = read(target, spec, [1000])[1000], read(source, spec, [1])[1]
    assert {n: new[n] for n in DEFAULTS} == {n: old[n] for n in DEFAULTS}
    assert new["text"] == ("str", DEFAULTS["text"]) and new["i64"] == ("int", data.I64_MAX)


def test_falsy_defaults_are_defaults(tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str) -> None:
    """False, 0, 0.0 and the empty string are not "no default"."""
    fields = [
        FieldSchema("flag", T.BOOL, default_value=False), FieldSchema("i8", T.INT8, default_value=0),
        FieldSchema("i64", T.INT64, default_value=0), FieldSchema("f64", T.DOUBLE, default_value=0.0),
        FieldSchema("text", T.VARCHAR, max_length=9, default_value=""),
    ]  # fmt: skip
    rows = [{"id": n, "flag": True, "i8": 1, "i64": 2, "f64": 3.0, "text": "x"} for n in range(3)]
    spec = spec_of(f"{unique}__falsy", fields, rows)
    make(source, spec)
    move(tool, folder_bucket, source, target, spec)
    for cluster in (source, target):
        cluster.client().insert(spec.name, [{"id": 1000, "v": vector(0)}])
    new, old = read(target, spec, [1000]), read(source, spec, [1000])
    assert new == old and new[1000]["text"] == ("str", "") and new[1000]["flag"] == ("bool", False)


def test_nulls_where_a_default_stands(tool: Tool, target: Cluster, folder_bucket: FolderBucket, unique: str, tmp_path: pathlib.Path) -> None:
    """A field with a default can hold nulls that are older than the default; servers would put the default in their
    place. Lite has no way to add a default, so its file is changed while it is stopped."""
    folder, name = tmp_path / "lite", f"{unique}__older"
    folder.mkdir()
    fields = [FieldSchema("text", T.VARCHAR, max_length=50, nullable=True), FieldSchema("i64", T.INT64, nullable=True)]
    spec = spec_of(name, fields, [{"id": n, "text": None if n < 3 else "x", "i64": n} for n in range(8)])
    with servers.lite322(folder) as server:
        cluster = Cluster("lite322", server.uri)
        make(cluster, spec)
        cluster.client().flush(name)
        cluster.close()
    (file,) = folder.rglob(f"{name}/schema.json")
    schema = json.loads(file.read_text())
    for field in schema["fields"]:
        if field["name"] in ("text", "i64"):
            field["default_value"] = {"text": "the default", "i64": 7}[field["name"]]
    file.write_text(json.dumps(schema))
    with servers.lite322(folder) as server:
        cluster = Cluster("lite322", server.uri)
        cluster.load(name)
        rows = read(cluster, spec, list(range(8)))
        assert sum(row["text"] is None for row in rows.values()) == 3, "the source has no real nulls, so this shows nothing"
        assert described(cluster, name).get("field text: default_value"), "the source has no default, so this shows nothing"
        url = folder_bucket.url("snap")
        tool.run("export", url, "--source", cluster.uri, "-c", name)
        tool.run("verify", url, "--level", "full")
        for extra in ([], ["--plan"]):
            with nothing_changes(target.only(name), folder_bucket):
                result = tool.run("import", url, "--target", target.uri, *extra, code=exits.UNSUPPORTED)
            says(result, name, "text", "null", "default")
            assert "i64" not in result.error["message"], "that field has no nulls"
        # without the nulls nothing is in the way
        cluster.client().delete(name, ids=[0, 1, 2])
        tool.run("export", folder_bucket.url("whole"), "--source", cluster.uri, "-c", name)
        tool.run("import", folder_bucket.url("whole"), "--target", target.uri)
        wrong = differences(cluster, target, name)
        target.load(name)
        wrong += row_differences(read(cluster, spec, [3, 4, 5, 6, 7]), read(target, spec, [3, 4, 5, 6, 7]), "rows")
        assert not wrong, "\n".join(wrong)
        cluster.close()


# --- geometry and times -------------------------------------------------------------------------------------------


def test_geometry_and_times(tool: Tool, source: Cluster, target: Cluster, bucket: Bucket, unique: str) -> None:
    """By meaning: the same point, the same moment. With a time zone on the collection too."""
    times = [
        "2024-06-30T23:59:59.123456+05:30", "1969-12-31T23:59:59.5-11:00", "2024-01-01T00:00:00Z", "2024-02-29T12:00:00.000001Z",
        "2024-03-31T02:30:00+01:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z",
    ]  # fmt: skip
    points = ["POINT (1 2)", "POINT (-0.0 0.30000000000000004)", "POINT (1e-300 -1e300)", "POINT(5 6)"]
    rows = [{"id": n, "ts": times[n % len(times)], "geo": points[n % len(points)]} for n in range(14)]
    spec = spec_of(f"{unique}__geotime", [FieldSchema("ts", T.TIMESTAMPTZ), FieldSchema("geo", T.GEOMETRY)], rows)
    make(source, spec)
    move(tool, bucket, source, target, spec)
    for key, row in read(target, spec, list(range(14))).items():
        if times[key % len(times)][:4] not in ("0001", "9999"):
            moment = datetime.datetime.fromisoformat(row["ts"][1].replace("Z", "+00:00"))
            assert moment == datetime.datetime.fromisoformat(times[key % len(times)].replace("Z", "+00:00")), row
        assert [float(x) for x in row["geo"][1][6:].strip(" ()").split()] == [
            float(x) for x in points[key % len(points)][6:].strip(" ()").split()
        ]


def test_times_of_a_collection_with_a_time_zone(tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str) -> None:
    """The zone travels as a property, and must not be applied to the values a second time."""
    fields = [FieldSchema("ts", T.TIMESTAMPTZ)]
    spec = spec_of(f"{unique}__zone", fields, [{"id": n, "ts": t} for n, t in enumerate(["2024-07-01T12:00:00Z", "2024-07-01T12:00:00+02:00"])])
    make(source, spec, properties={"timezone": "America/New_York"})
    move(tool, folder_bucket, source, target, spec)
    assert described(target, spec.name)["properties"] == {"timezone": "America/New_York"}
    moments = [datetime.datetime.fromisoformat(read(target, spec, [n])[n]["ts"][1].replace("Z", "+00:00")) for n in (0, 1)]
    utc = datetime.timezone.utc
    assert moments == [datetime.datetime(2024, 7, 1, 12, tzinfo=utc), datetime.datetime(2024, 7, 1, 10, tzinfo=utc)]


# --- functions ----------------------------------------------------------------------------------------------------


def texts(rows: int) -> list[str]:
    words = ["Quick", "brown", "FOX", "lazy", "dogs", "sleep", "running", "Milvus", "snapshot", "the"]
    rng = random.Random(3)
    return [" ".join(rng.choice(words) for _ in range(rng.randint(1, 9))) for _ in range(rows)]


@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "no index"])
def test_full_text_search(
    tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str, indexed: bool
) -> None:
    """The function and its analyzer travel; its output is computed anew and finds the same keys in the same order."""
    analyzer = {"tokenizer": "standard", "filter": ["lowercase", {"type": "stop", "stop_words": ["the"]}]}
    fields = [
        FieldSchema("text", T.VARCHAR, max_length=500, enable_analyzer=True, enable_match=True, analyzer_params=analyzer),
        FieldSchema("sparse", T.SPARSE_FLOAT_VECTOR),
    ]
    bm25 = Function("words", FunctionType.BM25, ["text"], ["sparse"])
    spec = spec_of(f"{unique}__bm25", fields, [{"id": n, "text": t} for n, t in enumerate(texts(40))], functions=[bm25])
    if indexed:
        spec.indexes["sparse"] = ("BM25", "SPARSE_INVERTED_INDEX")
    name = spec.name
    client = source.client()
    client.create_collection(name, schema=spec.schema)
    source.insert(spec, spec.all_rows)
    source.index(name, spec.indexes)
    client.load_collection(name)
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", name)
    tool.run("verify", url, "--level", "full")
    result = tool.run("import", url, "--target", target.uri)
    about = described(target, name)
    assert about["field sparse: is_function_output"] is True
    assert json.loads(about["field text: params"]["analyzer_params"]) == analyzer
    if indexed:
        assert differences(source, target, name) == []
        assert [i["metric_type"] for i in result.doc["collections"][0]["indexes"] if i["field"] == "sparse"] == ["BM25"]
    else:
        assert indexes(target, name)["sparse"]["metric_type"] == "BM25"
        assert any("sparse" in w for w in result.doc["warnings"]), result
    target.load(name)
    keys = list(range(40))
    assert row_differences(read(source, spec, keys), read(target, spec, keys), "rows") == []

    def matches(cluster: Cluster, what: str) -> list[int]:
        found = cluster.client().query(name, filter=f"text_match(text, '{what}')", output_fields=["id"], limit=100)
        return sorted(row["id"] for row in found)

    for words in ("fox", "quick lazy", "the", "nosuchword"):
        assert matches(target, words) == matches(source, words), words
    assert matches(target, "fox"), "nothing matches at all"
    if indexed:
        for words in ("brown fox", "milvus snapshot dogs", "the"):
            hits = [
                [(hit["id"], round(hit["distance"], 4)) for hit in c.client().search(
                    name, data=[words], anns_field="sparse", limit=100, search_params={"metric_type": "BM25"})[0]]
                for c in (source, target)
            ]  # fmt: skip
            assert sorted(hits[0]) == sorted(hits[1]), words
        assert hits[0] == [] or words != "the"
    # a new row is found too: the function is alive
    target.client().insert(name, [{"id": 500, "text": "an Unheard word", "v": vector(1)}])
    assert matches(target, "unheard") == [500]


# --- the collection as a whole ------------------------------------------------------------------------------------


def whole(name: str) -> data.Spec:
    fields = [
        FieldSchema("key", T.VARCHAR, is_primary=True, max_length=77, description="the key"),
        FieldSchema("tenant", T.VARCHAR, max_length=20, is_partition_key=True),
        FieldSchema("day", T.INT64, is_clustering_key=True),
        FieldSchema("price", T.DOUBLE, nullable=True),
        FieldSchema("v", T.FLOAT_VECTOR, dim=DIM, description="first"),
        FieldSchema("w", T.FLOAT_VECTOR, dim=2),
        FieldSchema("s", T.SPARSE_FLOAT_VECTOR),
    ]
    rows = [
        {"key": f"k\"{n}\\", "tenant": f"tenant {n % 7}", "day": n, "price": None if n % 4 == 0 else n / 3, "v": vector(n),
         "w": [n, 1.0], "s": {n: 0.5, 4294967294: 0.1}, "color": "red" if n % 2 else None, "n": n}
        for n in range(60)
    ]  # fmt: skip
    spec = spec_of(name, fields, rows, enable_dynamic_field=True, description="a collection")
    spec.indexes = {
        "v": ("IP", "AUTOINDEX"), "w": ("COSINE", "AUTOINDEX"), "s": ("IP", "SPARSE_INVERTED_INDEX"),
        "tenant": ("", "INVERTED"), "day": ("", "INVERTED"),
    }  # fmt: skip
    return spec


PROPERTIES = {"collection.ttl.seconds": "864000", "mmap.enabled": "true", "my.own": 'välue "1"'}


@pytest.mark.parametrize("where", ["another server", "another database", "another name"])
def test_all_attributes_at_once(tool: Tool, source: Cluster, target: Cluster, bucket: Bucket, unique: str, where: str) -> None:
    spec = whole(f"{unique}__whole")
    make(source, spec, properties=PROPERTIES, num_partitions=5, consistency_level="Session")
    about = described(source, spec.name)
    assert about["properties"] == PROPERTIES and about["field tenant: is_partition_key"] is True
    assert set(indexes(source, spec.name)) == {"v", "w", "s", "tenant", "day"}
    if where == "another server":
        _, result = move(tool, bucket, source, target, spec)
    elif where == "another database":
        _, result = move(tool, bucket, source, source, spec, ("default", f"{unique}_db"))
    else:
        _, result = move(tool, bucket, source, source, spec, name=f"{unique}__copy")
    (collection,) = result.doc["collections"]
    assert {i["field"] for i in collection["indexes"]} == {"v", "w", "s", "tenant", "day"}, result
    place = {"another server": (target, spec.name, "default"), "another database": (source, spec.name, f"{unique}_db"),
             "another name": (source, f"{unique}__copy", "default")}[where]  # fmt: skip
    cluster, name, database = place
    # rows of one tenant are found through the partition key
    found = cluster.client(database).query(name, filter='tenant == "tenant 3"', output_fields=["key"], limit=100)
    assert sorted(row["key"] for row in found) == sorted(r["key"] for r in spec.all_rows if r["tenant"] == "tenant 3")


def test_properties_of_the_cluster_stay_behind(tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str) -> None:
    """Each is named in the result; the others are copied."""
    spec = spec_of(f"{unique}__props", [], [{"id": 1}])
    make(source, spec, properties={"collection.replica.number": "3", "collection.resource_groups": "rg", "collection.ttl.seconds": "9999"})
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    result = tool.run("import", folder_bucket.url("snap"), "--target", target.uri)
    assert described(target, spec.name)["properties"] == {"collection.ttl.seconds": "9999"}
    for key in ("collection.replica.number", "collection.resource_groups"):
        assert any(key in w and spec.name in w for w in result.doc["warnings"]), result


def test_properties_of_a_database(tool: Tool, source: Cluster, target: Cluster, folder_bucket: Bucket, unique: str) -> None:
    database = f"{unique}_db"
    source.client().create_database(database, properties={"database.max.collections": "9", "database.replica.number": "2"})
    spec = spec_of("papers", [], [{"id": 1}])
    make(source, spec, database)
    _, result = move(tool, folder_bucket, source, target, spec, (database, database))
    found = target.client().describe_database(database)
    assert found["database.max.collections"] == "9" and "database.replica.number" not in found
    assert any("database.replica.number" in w for w in result.doc["warnings"]), result


def test_partitions_of_a_partition_key_on_milvus(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """Lite makes as many as it likes; Milvus 2.3.5 makes what it is told."""
    cluster = clusters("milvus235")
    fields = [FieldSchema("tenant", T.INT64, is_partition_key=True, description="who")]
    spec = spec_of(f"{unique}__tenants", fields, [{"id": n, "tenant": n % 11} for n in range(50)], description="of tenants")
    make(cluster, spec, num_partitions=7, consistency_level="Session", num_shards=2)
    about = described(cluster, spec.name)
    assert about["num_partitions"] == 7 and about["num_shards"] == 2 and about["consistency_level_name"] == "Session"
    name = f"{unique}__tenants_too"
    move(tool, folder_bucket, cluster, cluster, spec, name=name)
    for old in (spec.name, name):
        cluster.client().drop_collection(old)


def test_descriptions_on_milvus(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """Of the collection and its fields, on the engine that keeps them; and properties, by its own RPC."""
    cluster = clusters("milvus235")
    fields = [
        FieldSchema("id", T.INT64, is_primary=True, description="Schlüssel 世界"),
        FieldSchema("text", T.VARCHAR, max_length=9, description='"quoted" \\ and\nbroken'),
    ]
    spec = spec_of(f"{unique}__described", fields, [{"id": n, "text": "x"} for n in range(5)], description="Beschreibung 😀")
    make(cluster, spec)
    name = f"{unique}__described_too"
    move(tool, folder_bucket, cluster, cluster, spec, name=name)
    assert described(cluster, name)["description"] == "Beschreibung 😀"
    for old in (spec.name, name):
        cluster.client().drop_collection(old)
