"""Where pages and parts end, and what JSON looks like inside: exactness at the edges."""

from __future__ import annotations

import hashlib
import pathlib

import grpc
import pyarrow.parquet as pq
import pytest
from pymilvus import DataType as T
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

import data
import layout
from buckets import Bucket
from conftest import Servers
from moves import move, same_place, tokens
from oracle import Cluster
from tool import Tool


@pytest.mark.parametrize("engine", ["milvus235", "lite251", "lite322"])
@pytest.mark.parametrize("key", [T.INT64, T.VARCHAR], ids=["int64", "varchar"])
def test_pages_and_parts_may_end_at_any_key(
    tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str, tmp_path: pathlib.Path, engine: str, key: T
) -> None:
    """Pages of three rows: every key, however odd, becomes the one after which the next page starts."""
    source = clusters(engine)
    spec = data.wide(f"{unique}__keys", source.engine, rows=150, key=key, partitions=1, vectors=list(source.engine.vectors)[:1])
    source.fill(spec)
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", spec.name, "--page-rows", "3", env=tokens(source=source))
    folder = folder_bucket.folder / "snap"
    layout.check_collection(folder, spec, "default")
    layout.sums(folder)


def test_many_small_parts(tool: Tool, clusters: Servers, bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    source, target = clusters("lite322"), clusters("lite322b")
    spec = data.plain(f"{unique}__parts", 6000, dim=64, partitions=2)
    source.fill(spec)
    placed = same_place([("default", spec)])
    exported, _ = move(tool, bucket, source, target, placed, tmp_path, export=("--part-size", "100KiB", "--page-rows", "400", "-j", "3"))
    assert exported.doc["totals"]["parts"] >= 8, "1.5 MB in parts of 100 KB"


def test_text_keys_are_exported_in_ranges(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    """Random keys behind a long common prefix are cut into several ranges, which together leave no row out."""
    source, rows = clusters("milvus235"), 80_000
    name, client = f"{unique}__ranges", source.client()
    schema = client.create_schema()
    schema.add_field("id", T.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("v", T.FLOAT_VECTOR, dim=2)
    index = client.prepare_index_params()
    index.add_index("v", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index)
    keys = [f"tenant/documents/{hashlib.sha256(str(n).encode()).hexdigest()[:20]}" for n in range(rows)]
    for start in range(0, rows, 10_000):
        client.insert(name, [{"id": key, "v": [1.0, 2.0]} for key in keys[start : start + 10_000]])
    client.flush(name)
    source.load(name)
    url = folder_bucket.url("snap")
    exported = tool.run("export", url, "--source", source.uri, "-c", name, env=tokens(source=source))
    assert exported.doc["totals"]["rows"] == rows
    parts = [folder_bucket.folder / "snap" / part for part in folder_bucket.parts("snap")]
    sizes = [pq.read_metadata(part).num_rows for part in parts]
    assert len(parts) == 2 and min(sizes) > rows / 4, sizes
    found = [key for part in parts for key in pq.read_table(part, columns=["id"], partitioning=None)["id"].to_pylist()]
    assert sorted(found) == sorted(keys)
    client.drop_collection(name)


def test_json_is_kept_byte_for_byte(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    """Texts that a parser would change: number forms, order and doubling of keys, spaces, escapes.

    On the two servers that keep JSON as it came; Lite 3.2.2 parses and prints it anew.
    """
    texts = [
        '{"b":1,"a":2}', '{ "spaced" : [ 1 , 2 ] }', '{"n":1.50,"e":1E5,"big":123456789012345678901234567890}',
        '{"u":"\\u00e9\\/"}', '{"z":-0,"zz":-0.0}', '{"same":1,"same":2}', '{}',
    ]  # fmt: skip
    source, target = clusters("lite251"), clusters("lite251b")
    spec = data.plain(f"{unique}__json", len(texts))
    spec.schema.add_field("doc", T.JSON)
    for row in spec.all_rows:
        row["doc"] = {}
    source.fill(spec)

    def stub(cluster: Cluster) -> milvus_pb2_grpc.MilvusServiceStub:
        return milvus_pb2_grpc.MilvusServiceStub(grpc.insecure_channel(cluster.uri.removeprefix("http://")))

    # pymilvus would print the documents anew, so the rows are replaced by hand
    source.client().delete(spec.name, filter="id >= 0")
    rows = spec.all_rows
    columns = [
        schema_pb2.FieldData(type=5, field_name="id", scalars={"long_data": {"data": [r["id"] for r in rows]}}),
        schema_pb2.FieldData(type=21, field_name="title", scalars={"string_data": {"data": [r["title"] for r in rows]}}),
        schema_pb2.FieldData(type=101, field_name="v", vectors={"dim": 8, "float_vector": {"data": sum((r["v"] for r in rows), [])}}),
        schema_pb2.FieldData(type=23, field_name="doc", scalars={"json_data": {"data": [t.encode() for t in texts]}}),
    ]
    stub(source).Insert(milvus_pb2.InsertRequest(collection_name=spec.name, fields_data=columns, num_rows=len(rows)))

    def raw(cluster: Cluster) -> list[str]:
        query = milvus_pb2.QueryRequest(
            collection_name=spec.name, output_fields=["doc"], query_params=[common_pb2.KeyValuePair(key="limit", value="100")]
        )
        reply = stub(cluster).Query(query)
        found = next(f for f in reply.fields_data if f.field_name == "doc")
        return [data.decode() for data in found.scalars.json_data.data]

    assert raw(source) == texts
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", spec.name)
    (part,) = folder_bucket.parts("snap")
    assert pq.read_table(folder_bucket.folder / "snap" / part, partitioning=None)["doc"].to_pylist() == texts
    tool.run("import", url, "--target", target.uri)
    target.load(spec.name)
    assert raw(target) == texts
