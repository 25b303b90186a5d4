"""`compare` against real servers: what is equal is called equal at every level, and each difference is named once.

Differences are made with pymilvus, by keys and values that the test itself chose, so the findings wanted are known to
the last one. `compare` must change nothing, and must leave load states as it found them.
"""

from __future__ import annotations

import copy
import json
import shutil
import signal

import numpy as np
import pytest
from pymilvus import CollectionSchema, DataType as T, FieldSchema, Function, FunctionType

import data
from buckets import FolderBucket
from conftest import Servers
from moves import tokens
from oracle import Cluster
from test_harness import spoil
from tool import EXISTS, INTEGRITY, NOT_FOUND, USAGE, Result, Tool, wait_for

ENGINES = ["milvus235", "lite251", "lite322"]
LEVELS = ["count", "sample", "full"]


def export(tool: Tool, bucket: FolderBucket, cluster: Cluster, *names: str, args: tuple[str, ...] = ()) -> str:
    patterns = [arg for name in names for arg in ("-c", name)]
    tool.run("export", bucket.url("snap"), "--source", cluster.uri, *patterns, *args, env=tokens(cluster, cluster))
    return bucket.url("snap")


def compare(tool: Tool, url: str, cluster: Cluster, *args: str, code: int = 0) -> Result:
    """Runs it and checks what every result promises; differences are a result and not an error, as for `verify`."""
    result = tool.run("compare", url, "--target", cluster.uri, *args, env=tokens(cluster, cluster), code=code)
    if code not in (0, INTEGRITY) or "error" in result.doc:
        return result
    doc = result.doc
    last = result.stderr.rstrip().splitlines()[-1]
    assert last.startswith("Successful: " if code == 0 else "Failed: "), result
    assert ("Successful" in result.stderr) == (code == 0), result
    assert doc["seconds"] > 0 and doc["findings_limit"] == 1000
    assert doc["differences"] == len(doc["findings"]) + doc["findings_omitted"], result
    assert (doc["differences"] > 0) == (code == INTEGRITY), result
    counted = [sum(v for k, v in c["findings"].items() if k != "changed_rows") for c in doc["collections"]]
    assert sum(counted) == doc["differences"], result
    assert (doc["seed"] is not None) == (doc["level"] == "sample")
    return result


def found(result: Result) -> set[tuple]:
    """The findings without values: (kind, key or partition or subject, field)."""
    short = set()
    for finding in result.doc["findings"]:
        what = finding.get("key", finding.get("subject", finding.get("partition")))
        entry = (finding["kind"], what, finding.get("field"))
        assert entry not in short, f"{entry} is named twice\n{result}"
        short.add(entry)
    return short


def plain(unique: str, rows: int = 60, partitions: int = 1) -> data.Spec:
    return data.plain(f"{unique}__plain", rows, partitions=partitions)


# --- equal --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [T.INT64, T.VARCHAR], ids=["int64", "varchar"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_source_equals_its_own_export(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, engine: str, key: T) -> None:
    """Every type and every odd key, pages and parts that end anywhere."""
    cluster = clusters(engine)
    spec = data.wide(f"{unique}__wide", cluster.engine, rows=240, key=key)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name, args=("--part-size", "64KiB", "--page-rows", "50"))
    parts = len(folder_bucket.parts("snap"))
    for level in LEVELS:
        result = compare(tool, url, cluster, "--level", level, "-j", "3", "--page-rows", "7")
        (collection,) = result.doc["collections"]
        assert collection["snapshot_rows"] == collection["server_rows"] == 240, result
        assert collection["fields_not_compared"] == [], result
        rows = {p["name"]: p["snapshot_rows"] for p in collection["partitions"]}
        if cluster.engine.partitions:
            assert rows == {name: len(rows) for name, rows in spec.rows.items()}, result
            assert all(p["snapshot_rows"] == p["server_rows"] for p in collection["partitions"])
        assert result.doc["level"] == level
        compared = collection["rows_compared"]
        assert {"count": compared == 0, "sample": parts <= compared <= 240, "full": compared == 240}[level], result
    assert cluster.loaded(spec.name)


@pytest.mark.slow
def test_a_copy_on_another_server_is_equal(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """Lite 3.2.2 prints JSON anew: other bytes, the same values. The copy has another name."""
    source, target = clusters("milvus235"), clusters("lite322")
    spec = data.wide(f"{unique}__wide", data.both(source.engine, target.engine), rows=200)
    source.fill(spec)
    url = export(tool, folder_bucket, source, spec.name)
    rename = ("--rename", f"{spec.name}={unique}_copy")
    tool.run("import", url, "--target", target.uri, *rename, "--load")
    result = compare(tool, url, target, *rename, "--level", "full")
    (collection,) = result.doc["collections"]
    assert collection["target"] == {"database": "default", "name": f"{unique}_copy"}
    assert collection["rows_compared"] == 200


def test_partitions_of_the_same_key_are_kept_apart(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """One key in two partitions is two rows; each is compared with its own."""
    cluster = clusters("milvus235")
    spec = plain(unique, 20, partitions=2)
    spec.rows["part_1"].append({**spec.rows["_default"][0], "title": "the same key, another row"})
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    result = compare(tool, url, cluster, "--level", "full")
    assert result.doc["collections"][0]["rows_compared"] == 21
    compare(tool, url, cluster, "--level", "sample")


def test_nulls_shapes_moments_and_functions(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """What a function computes is left out; null is not the empty value."""
    source, target = clusters("lite322"), clusters("lite322b")
    fields = [
        FieldSchema("id", T.INT64, is_primary=True),
        FieldSchema("text", T.VARCHAR, max_length=100, enable_analyzer=True),
        FieldSchema("word", T.VARCHAR, max_length=20, nullable=True),
        FieldSchema("number", T.INT64, nullable=True),
        FieldSchema("place", T.GEOMETRY, nullable=True),
        FieldSchema("at", T.TIMESTAMPTZ, nullable=True),
        FieldSchema("v", T.FLOAT_VECTOR, dim=4),
        FieldSchema("words", T.SPARSE_FLOAT_VECTOR, is_function_output=True),
    ]
    function = Function("bm25", FunctionType.BM25, input_field_names=["text"], output_field_names=["words"])
    schema = CollectionSchema(fields, functions=[function])
    rows = [
        {
            "id": n, "text": f"word{n} and more", "word": None if n % 3 == 0 else "", "number": None if n % 2 else 0,
            "place": None if n % 4 == 0 else f"POINT ({n} 2)", "at": None if n % 5 == 0 else f"2026-01-0{n % 9 + 1}T00:00:00Z",
            "v": [float(n)] * 4,
        }
        for n in range(40)
    ]  # fmt: skip
    indexes = {"v": ("L2", "AUTOINDEX"), "words": ("BM25", "SPARSE_INVERTED_INDEX")}
    spec = data.Spec(f"{unique}__nulls", schema, {"_default": rows}, indexes)
    source.fill(spec)
    url = export(tool, folder_bucket, source, spec.name)
    assert compare(tool, url, source, "--level", "full").doc["collections"][0]["rows_compared"] == 40
    tool.run("import", url, "--target", target.uri, "--load")
    assert compare(tool, url, target, "--level", "full").doc["collections"][0]["rows_compared"] == 40
    changes = {1: ("word", None), 3: ("word", ""), 4: ("number", None), 5: ("number", 0), 6: ("place", "POINT (6 3)"),
               8: ("place", "POINT (0 0)"), 7: ("at", "2026-01-08T00:00:01Z"), 9: ("at", None)}  # fmt: skip
    target.client().delete(spec.name, filter=f"id in {list(changes)}")
    target.insert(spec, [{**rows[key], field: value} for key, (field, value) in changes.items()])
    result = compare(tool, url, target, "--level", "full", code=INTEGRITY)
    assert found(result) == {("changed-field", key, field) for key, (field, _) in changes.items()}, result


@pytest.mark.parametrize("engine", ["milvus235", "lite322"])
def test_rows_that_a_partition_key_places(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, engine: str) -> None:
    """Their partitions are the server's business: they are neither counted nor named."""
    cluster = clusters(engine)
    spec = plain(unique, 50)
    spec.schema.fields[1].is_partition_key = True
    spec.schema = CollectionSchema(spec.schema.fields)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    for level in LEVELS:
        assert compare(tool, url, cluster, "--level", level).doc["collections"][0]["partitions"] == []
    cluster.client().delete(spec.name, filter="id in [3]")
    result = compare(tool, url, cluster, "--level", "full", code=INTEGRITY)
    assert found(result) == {("count", None, None), ("missing-row", 3, None)}


def test_nothing_equals_nothing(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    cluster = clusters("lite322")
    spec = plain(unique, 0)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    for level in LEVELS:
        assert compare(tool, url, cluster, "--level", level).doc["collections"][0]["rows_compared"] == 0
    cluster.insert(spec, data.plain("x", 3).all_rows)
    for level in ("sample", "full"):
        result = compare(tool, url, cluster, "--level", level, code=INTEGRITY)
        assert found(result) == {("count", None, None), *(("extra-row", key, None) for key in range(3))}


# --- different ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_changed_value_is_named(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, engine: str) -> None:
    """A copy with the smallest change in every column, each in a row of its own: all are named, and nothing else."""
    cluster = clusters(engine)
    spec = data.wide(f"{unique}__wide", cluster.engine, rows=200)
    copied = copy.deepcopy(spec)
    table = [row for rows in copied.rows.values() for row in rows]
    wanted = set()
    for n, column in enumerate(f.name for f in spec.schema.fields if f.name != spec.key):
        row = next(r for r in table[100 + 2 * n :] if isinstance(r[column], np.ndarray) or r[column] not in ([], {}))
        row[column] = spoil(row[column])
        wanted.add(("changed-field", row[spec.key], column))
    table[199]["a key outside the schema"] = 1
    wanted.add(("changed-field", table[199][spec.key], "$meta"))
    cluster.fill(spec)
    cluster.fill(copied, name=f"{unique}__copy")
    url = export(tool, folder_bucket, cluster, spec.name)
    result = compare(tool, url, cluster, "--rename", f"{spec.name}={unique}__copy", "--level", "full", code=INTEGRITY)
    assert found(result) == wanted, result
    assert result.doc["collections"][0]["findings"]["changed_rows"] == len({key for _, key, _ in wanted})
    for finding in result.doc["findings"]:
        assert finding["snapshot"] != finding["server"], finding
        assert len(finding["snapshot"]) < 200 and len(finding["server"]) < 200, finding
    # a sample that draws every row finds the same
    drawn = compare(
        tool, url, cluster, "--rename", f"{spec.name}={unique}__copy", "--rows-per-part", "200", code=INTEGRITY
    )
    assert found(drawn) == wanted, drawn


@pytest.mark.parametrize("engine", ENGINES)
def test_changed_missing_and_extra_rows_are_named(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, engine: str) -> None:
    """At both ends and in the middle, with parts that end in between."""
    cluster = clusters(engine)
    spec = plain(unique, 600, partitions=2 if cluster.engine.partitions else 1)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name, args=("--part-size", "64KiB", "--page-rows", "60"))
    client = cluster.client()
    gone, changed, added = [0, 299, 300, 599], [1, 450, 598], [-7, 600, 9000]
    rows = {row["id"]: (partition, row) for partition, rows in spec.rows.items() for row in rows}
    client.delete(spec.name, filter=f"id in {gone + changed}")
    for key in changed:
        partition, row = rows[key]
        cluster.insert(spec, [{**row, "title": f"changed {key}"}], partition=partition)
    cluster.insert(spec, [{**rows[5][1], "id": key} for key in added])

    result = compare(tool, url, cluster, "--level", "full", "--page-rows", "40", code=INTEGRITY)
    wanted = {("missing-row", key, None) for key in gone}
    wanted |= {("extra-row", key, None) for key in added}
    wanted |= {("changed-field", key, "title") for key in changed}
    counts = {entry for entry in found(result) if entry[0] == "count"}
    assert found(result) - counts == wanted, result
    assert ("count", None, None) in counts, "599 rows are not 600"
    (collection,) = result.doc["collections"]
    assert (collection["snapshot_rows"], collection["server_rows"], collection["rows_compared"]) == (600, 599, 596)
    one = next(f for f in result.doc["findings"] if f.get("key") == 450)
    assert (one["snapshot"], one["server"]) == ('"title 450"', '"changed 450"')
    assert one["collection"] == {"database": "default", "name": spec.name}
    if cluster.engine.partitions:
        for finding in result.doc["findings"]:
            if finding["kind"] in ("missing-row", "changed-field"):
                assert finding["partition"] == rows[finding["key"]][0], finding
    for line in ("missing row: key 299", "extra row: key -7", "changed field: key 598"):
        assert line in result.stderr, result

    # the newest rows are in every sample, whatever it draws, and so is what came after them
    sampled = compare(tool, url, cluster, "--rows-per-part", "1", "--seed", "1", code=INTEGRITY)
    assert {("missing-row", 599, None), ("extra-row", 600, None)} <= found(sampled), sampled
    again = compare(tool, url, cluster, "--rows-per-part", "1", "--seed", "1", code=INTEGRITY)
    assert again.doc["findings"] == sampled.doc["findings"] and again.doc["seed"] == 1


def test_only_full_sees_that_a_row_took_the_place_of_another(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """A delete and an insert leave the count as it was: what docs/cutover.md says of the levels."""
    cluster = clusters("lite322")
    spec = plain(unique, 600)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    assert len(folder_bucket.parts("snap")) == 1
    (rows,) = spec.rows.values()
    client = cluster.client()
    client.delete(spec.name, ids=[rows[7]["id"]])
    cluster.insert(spec, [{**rows[7], "id": -1}])
    compare(tool, url, cluster, "--level", "count")
    full = compare(tool, url, cluster, "--level", "full", code=INTEGRITY)
    assert found(full) == {("missing-row", rows[7]["id"], None), ("extra-row", -1, None)}, full


def test_doubled_rows_are_counted(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """2.3.5 hands out one row a key; the count alone gives the others away."""
    cluster = clusters("milvus235")
    spec = plain(unique)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    cluster.insert(spec, spec.all_rows[:10])
    for level in LEVELS:
        result = compare(tool, url, cluster, "--level", level, code=INTEGRITY)
        (finding,) = result.doc["findings"]
        assert (finding["kind"], finding["snapshot"], finding["server"]) == ("count", 60, 70)


def test_partitions_that_the_server_cannot_have_are_laid_into_one(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """Lite 2.5.1 has no partitions: the rows of all parts meet in the order of their keys."""
    source, target = clusters("milvus235"), clusters("lite251")
    spec = plain(unique, 300, partitions=3)
    source.fill(spec)
    other = copy.deepcopy(spec)
    other.rows = {"_default": sorted(spec.all_rows, key=lambda row: row["id"])}
    other.rows["_default"][150]["title"] = "changed"
    del other.rows["_default"][77]
    target.fill(other)
    url = export(tool, folder_bucket, source, spec.name, args=("--part-size", "64KiB", "--page-rows", "30"))
    wanted = {("schema", 'partition "part_1"', None), ("schema", 'partition "part_2"', None), ("count", None, None)}
    wanted |= {("changed-field", 150, "title"), ("missing-row", 77, None)}
    for args in (("--level", "full", "--page-rows", "17"), ("--level", "sample", "--rows-per-part", "300")):
        result = compare(tool, url, target, *args, code=INTEGRITY)
        assert found(result) == wanted, result
        assert result.doc["collections"][0]["rows_compared"] == 299


def test_a_row_in_another_partition_is_missing_and_extra(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    cluster = clusters("lite322")
    spec = plain(unique, 20, partitions=2)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    row = spec.rows["part_1"][0]
    cluster.client().delete(spec.name, filter=f"id in [{row['id']}]")
    cluster.insert(spec, [row])
    result = compare(tool, url, cluster, "--level", "full", code=INTEGRITY)
    kinds = {(f["kind"], f["partition"]) for f in result.doc["findings"]}
    assert kinds == {("count", "_default"), ("count", "part_1"), ("missing-row", "part_1"), ("extra-row", "_default")}


def test_schemas_and_partitions_that_differ_are_named(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """What both sides have in the same form is compared all the same."""
    cluster = clusters("milvus235")
    spec = plain(unique, 20, partitions=2)
    cluster.fill(spec)
    other = copy.deepcopy(spec)
    other.schema.fields[1].params["max_length"] = 101
    other.schema.add_field("more", T.INT8)
    other.schema.enable_dynamic_field = True
    other.rows = {"_default": other.rows["_default"], "part_9": other.rows["part_1"]}
    for row in other.all_rows:
        row["more"] = 1
    other.rows["_default"][3]["title"] = "changed"
    cluster.fill(other, name=f"{unique}__other")
    url = export(tool, folder_bucket, cluster, spec.name)
    rename = ("--rename", f"{spec.name}={unique}__other")
    result = compare(tool, url, cluster, *rename, "--level", "count", code=INTEGRITY)
    schema = {
        ("schema", 'field "title"', None), ("schema", 'field "more"', None), ("schema", "dynamic field", None),
        ("schema", 'partition "part_1"', None), ("schema", 'partition "part_9"', None),
    }  # fmt: skip
    assert found(result) == schema, result
    result = compare(tool, url, cluster, *rename, "--level", "full", code=INTEGRITY)
    rows = {("missing-row", row["id"], None) for row in spec.rows["part_1"]}
    rows |= {("extra-row", row["id"], None) for row in spec.rows["part_1"]}
    # one key is both
    kinds = [(f["kind"], f.get("key")) for f in result.doc["findings"] if f["kind"].endswith("-row")]
    assert sorted(kinds) == sorted((kind, key) for kind, key, _ in rows), result
    changed = [(f["key"], f["field"]) for f in result.doc["findings"] if f["kind"] == "changed-field"]
    assert changed == [(other.rows["_default"][3]["id"], "title")]
    assert result.doc["collections"][0]["fields_not_compared"] == ["more", "$meta"]


def test_long_lists_are_cut_and_counts_stay_exact(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    cluster = clusters("lite322")
    spec = plain(unique, 3000)
    cluster.fill(spec)
    other = data.plain(f"{unique}__other", 3)
    cluster.fill(other)
    url = export(tool, folder_bucket, cluster, spec.name, other.name)
    cluster.client().delete(spec.name, filter="id >= 500")
    cluster.client().delete(other.name, filter="id == 1")
    result = compare(tool, url, cluster, "--level", "full", code=INTEGRITY)
    by_name = {c["target"]["name"]: c["findings"] for c in result.doc["collections"]}
    assert by_name[spec.name]["missing_rows"] == 2500 and by_name[other.name]["missing_rows"] == 1
    assert len(result.doc["findings"]) == 1000 and result.doc["findings_omitted"] == 1503
    named = [f for f in result.doc["findings"] if f["collection"]["name"] == other.name]
    assert [f["kind"] for f in named] == ["count", "missing-row"], "a flood in one collection hides no other"
    shown = [line for line in result.stderr.splitlines() if "missing row: key" in line]
    assert len(shown) == 21 and "2,480 more" in result.stderr, result


# --- load states --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["milvus235", "lite322"])
def test_an_unloaded_collection_is_refused_or_loaded_for_a_while(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, engine: str) -> None:
    cluster = clusters(engine)
    spec = plain(unique)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    cluster.release(spec.name)
    refused = compare(tool, url, cluster, code=EXISTS)
    assert spec.name in refused.error["message"] and "--load" in refused.error["hint"]
    assert not cluster.loaded(spec.name)
    compare(tool, url, cluster, "--load", "--level", "full")
    assert not cluster.loaded(spec.name)
    # also after a failure
    (part,) = folder_bucket.parts("snap")
    folder_bucket.write("snap", part, b"damaged" + folder_bucket.read("snap", part)[7:])
    damaged = compare(tool, url, cluster, "--load", code=INTEGRITY)
    assert part in damaged.error["message"]
    assert not cluster.loaded(spec.name)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_puts_the_load_state_back(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, how: signal.Signals) -> None:
    cluster = clusters("lite322")
    spec = data.plain(f"{unique}__plain", 8000, dim=64)
    cluster.fill(spec)
    url = export(tool, folder_bucket, cluster, spec.name)
    cluster.release(spec.name)
    process = tool.start("compare", url, "--target", cluster.uri, "--load", "--level", "full", "--page-rows", "1", "--json")
    wait_for("the load", lambda: cluster.loaded(spec.name) or process.poll() is not None)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    code = {signal.SIGINT: 130, signal.SIGTERM: 143}[how]
    assert process.returncode == code, err.decode()
    assert json.loads(out)["error"]["exit_code"] == code
    assert not cluster.loaded(spec.name)


# --- what cannot be compared --------------------------------------------------------------------------------------


def test_what_is_not_there_is_not_found(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    cluster = clusters("lite322")
    spec, other = plain(unique), data.plain(f"{unique}__other", 5)
    cluster.fill(spec), cluster.fill(other)
    url = export(tool, folder_bucket, cluster, spec.name, other.name)
    before = cluster.everything()
    cluster.client().drop_collection(other.name)
    absent = compare(tool, url, cluster, code=NOT_FOUND)
    assert other.name in absent.error["message"] and spec.name not in absent.error["message"]
    compare(tool, url, cluster, "-c", spec.name)
    compare(tool, url, cluster, "-c", "nothing*", code=NOT_FOUND)
    compare(tool, url, cluster, "--rename", "a=b=c", code=USAGE)
    other_digest = ("--expect", "sha256:" + 64 * "0")
    assert "expected" in compare(tool, url, cluster, *other_digest, code=INTEGRITY).error["message"]
    assert set(cluster.collections()) == set(before["default"]) - {other.name}
    shutil.rmtree(folder_bucket.folder / "snap" / "data")
    gone = compare(tool, url, cluster, "-c", spec.name, code=INTEGRITY)
    assert "missing" in gone.error["message"]
