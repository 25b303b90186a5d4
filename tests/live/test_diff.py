"""`diff` between exports of a real server, before and after changes that the test made itself."""

from __future__ import annotations

import pytest

import data
from buckets import Bucket
from conftest import Servers
from moves import tokens
from oracle import Cluster
from tool import INTEGRITY, Tool


def export(tool: Tool, bucket: Bucket, cluster: Cluster, name: str, *collections: str, args: tuple[str, ...] = ()) -> str:
    patterns = [arg for collection in collections for arg in ("-c", collection)]
    env = {**bucket.env, **tokens(cluster, cluster)}
    tool.run("export", bucket.url(name), "--source", cluster.uri, *patterns, *args, env=env)
    return bucket.url(name)


@pytest.mark.parametrize("engine", ["lite322", "milvus235"])
def test_what_has_changed_since_is_named(tool: Tool, clusters: Servers, bucket: Bucket, unique: str, engine: str) -> None:
    cluster = clusters(engine)
    spec = data.plain(f"{unique}_docs", 400, partitions=2)
    untouched = data.plain(f"{unique}_same", 60)
    cluster.fill(spec)
    cluster.fill(untouched)
    small = ("--part-size", "64KiB", "--page-rows", "50")
    names = (spec.name, untouched.name)
    a = export(tool, bucket, cluster, "a", *names, args=small)
    again = export(tool, bucket, cluster, "again", *names, args=small)
    for keys in ((), ("--keys",)):
        doc = tool.run("diff", a, again, *keys, env=bucket.env).doc
        assert doc["differences"] == 0 and len(doc["collections"]) == 2

    # The same rows in other parts are different parts and the same rows.
    other = export(tool, bucket, cluster, "other", *names, args=("--part-size", "64KiB", "--page-rows", "70"))
    doc = tool.run("diff", a, other, "--keys", env=bucket.env).doc
    assert doc["differences"] == 0
    assert sum(c["keys"]["compared"] + c["keys"]["in_same_parts"] for c in doc["collections"]) == 460

    # Three rows go, two come, one has another title and vector, and a collection is new.
    rows = {row["id"]: row for row in spec.all_rows}
    even = spec.rows["_default"][3]["id"]  # of the partition _default
    cluster.client().delete(spec.name, ids=[0, 1, 399])
    cluster.insert(spec, [{**rows[0], "id": 1000}], partition="_default")
    cluster.insert(spec, [{**rows[0], "id": 1001}], partition="part_1")
    cluster.client().upsert(spec.name, [{**rows[even], "title": "another", "v": [0.5] * 8}], partition_name="_default")
    new = data.plain(f"{unique}_new", 10)
    cluster.fill(new)
    b = export(tool, bucket, cluster, "b", *names, new.name, args=small)
    doc = tool.run("diff", a, b, "--keys", env=bucket.env, code=INTEGRITY).doc
    by_name = {c["name"]: c for c in doc["collections"]}
    assert by_name[untouched.name]["differences"] == 0
    assert by_name[new.name]["rows"] == {"a": None, "b": 10}
    found = by_name[spec.name]["keys"]
    assert (found["removed"], found["added"], found["changed"], found["changed_fields"]) == (3, 2, 1, 2)

    def places(kind: str) -> set[tuple]:
        return {(f["partition"], f["key"]) for f in found[f"first_{kind}"]}

    assert places("removed") == {("_default", 0), ("part_1", 1), ("part_1", 399)}
    assert places("added") == {("_default", 1000), ("part_1", 1001)}
    assert places("changed") == {("_default", even)}
    title = next(f for f in found["first_changed"] if f["field"] == "title")
    assert (title["a"], title["b"]) == (f'"title {even}"', '"another"')
    # Back again: what came has gone.
    found = {c["name"]: c for c in tool.run("diff", b, a, "--keys", env=bucket.env, code=INTEGRITY).doc["collections"]}[spec.name]["keys"]
    assert (found["removed"], found["added"], found["changed"]) == (2, 3, 1)
    # Without keys the parts say that something differs, and the text says how much.
    text = tool.run("diff", a, b, "-c", spec.name, env=bucket.env, code=INTEGRITY, as_json=False).stdout
    assert f"default.{spec.name}: rows: A 400, B 399" in text and text.splitlines()[-1].startswith("Different: ")


def test_a_copy_on_another_server_has_the_same_rows(tool: Tool, clusters: Servers, bucket: Bucket, unique: str) -> None:
    """From Milvus 2.3.5 to Lite 3.2.2, which prints JSON anew: other parts and other indexes, the same rows."""
    source, target = clusters("milvus235"), clusters("lite322")
    spec = data.wide(f"{unique}__wide", data.both(source.engine, target.engine), rows=200)
    source.fill(spec)
    first = export(tool, bucket, source, "first", spec.name)
    tool.run("import", first, "--target", target.uri, "--load", env=bucket.env)
    second = export(tool, bucket, target, "second", spec.name)
    (collection,) = tool.run("diff", first, second, "--keys", env=bucket.env, code=None).doc["collections"]
    keys = collection["keys"]
    assert (keys["removed"], keys["added"], keys["changed"]) == (0, 0, 0), collection
    assert keys["compared"] + keys["in_same_parts"] == 200 and keys["fields_not_compared"] == []
