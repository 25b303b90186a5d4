"""From server to server: every type a pair of servers shares, whatever is hard about its values, row by row.

One export holds several collections from several databases: wide ones with every scalar type, arrays, JSON and a
dynamic field, with Int64 and with VarChar keys; one per vector type; an empty one. The oracle then reads both sides
with pymilvus. What an engine refuses is left out where `data.ENGINES` says so, with what it answered.
"""

from __future__ import annotations

import pathlib

import pytest

import data
from buckets import Bucket
from conftest import Servers
from moves import Placed, check_export, collections, fill, move, same_place
from oracle import Cluster, compare_rows, compare_shape
from tool import Tool


@pytest.mark.slow
def test_milvus235_to_lite322(tool: Tool, clusters: Servers, bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    source, target = clusters("milvus235"), clusters("lite322")
    found = collections(data.both(source.engine, target.engine), unique)
    fill(source, found)
    move(tool, bucket, source, target, same_place(found), tmp_path)


@pytest.mark.slow
def test_lite251_to_another_lite251(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    """Another database file: binary, float16, bfloat16, sparse and float vectors in one collection."""
    source, target = clusters("lite251"), clusters("lite251b")
    found = collections(source.engine, unique)
    assert len(found[0][1].indexes) == 5
    fill(source, found)
    _, imported = move(tool, folder_bucket, source, target, same_place(found), tmp_path)
    assert imported.doc["warnings"], "an index other than AUTOINDEX is worth a warning"


@pytest.mark.slow
def test_lite322_to_milvus235(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    source, target = clusters("lite322"), clusters("milvus235")
    # Lite 3.2.2 describes Array<VarChar> without its max_length, which 2.3.5 insists on; see the test below.
    found = collections(data.both(source.engine, target.engine), unique, with_array_text=False)
    fill(source, found)
    move(tool, folder_bucket, source, target, same_place(found), tmp_path)


@pytest.mark.slow
def test_milvus235_to_itself_under_other_names(tool: Tool, clusters: Servers, s3_bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    """Float, binary and float16 vectors; into another database, and by new names in the same one."""
    cluster = clusters("milvus235")
    found = collections(cluster.engine, unique)
    fill(cluster, found)
    placed, renames = [], []
    for database, spec in found:
        spec.aliases = []
        moved = f"{unique}_elsewhere" if database != "default" else "default"
        name = spec.name if database != "default" else f"{spec.name}_copy"
        placed.append(Placed(spec, (database, spec.name), (moved, name)))
        if database == "default":
            renames += ["--rename", f"{spec.name}={name}"]
            # an alias cannot stand for two collections of a database
            for alias in cluster.aliases(spec.name):
                cluster.client().drop_alias(alias)
    renames += ["--rename", f"{unique}_db.*={unique}_elsewhere.*"]
    move(tool, s3_bucket, cluster, cluster, placed, tmp_path, importing=tuple(renames))


@pytest.mark.slow
def test_lite251_to_lite322_and_loaded(tool: Tool, clusters: Servers, s3_bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    """Float and sparse vectors, from the engine without databases; `--load` leaves the copies loaded."""
    source, target = clusters("lite251"), clusters("lite322")
    pair = data.both(source.engine, target.engine)
    found = collections(pair, unique)
    fill(source, found)
    placed = same_place(found)
    _, imported = move(tool, s3_bucket, source, target, placed, tmp_path, importing=("--load",))
    assert all(c["loaded"] for c in imported.doc["collections"])


def test_a_whole_lite322_to_another(tool: Tool, quiet_source: Cluster, quiet_target: Cluster, folder_bucket: Bucket, unique: str, tmp_path: pathlib.Path) -> None:
    """Without -c: all databases, all collections, nothing else."""
    found = collections(quiet_source.engine, unique)
    fill(quiet_source, found)
    placed = same_place(found)
    url = folder_bucket.url("all")
    exported = tool.run("export", url, "--source", quiet_source.uri)
    check_export(exported, placed, quiet_source)
    tool.run("import", url, "--target", quiet_target.uri)
    assert quiet_target.everything() == quiet_source.everything()
    for p in placed:
        assert compare_shape(p.spec, quiet_source, quiet_target, databases=(p.source[0], p.target[0])) == []
        assert compare_rows(p.spec, quiet_target, database=p.target[0]) == []
