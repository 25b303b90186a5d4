"""The acceptance case, and exports and imports that are interrupted.

100,000 rows of 128 dimensions with scalars, JSON and a dynamic field go from Milvus 2.3.5 through an S3 bucket to
Milvus Lite 3.2.2, every value equal. The tests of this file share that source collection.
"""

from __future__ import annotations

import json
import pathlib
import signal
import time
import uuid
from typing import Iterator

import pytest

import data
import layout
import servers
import tool as exits
from buckets import Bucket, FolderBucket
from conftest import Servers
from oracle import Cluster, compare_rows, compare_shape
from moves import tokens
from tool import Tool, end, wait_for

pytestmark = pytest.mark.slow

ROWS, DIM = 100_000, 128


@pytest.fixture(scope="module")
def documents(clusters: Servers) -> data.Spec:
    spec = data.documents(f"t{uuid.uuid4().hex[:10]}__documents", ROWS, DIM)
    clusters("milvus235").fill(spec)
    return spec


@pytest.fixture(scope="module")
def target() -> Iterator[Cluster]:
    """A Lite 3.2.2 of its own: it answers nobody else while it builds an index."""
    with servers.lite322() as server:
        cluster = Cluster("lite322", server.uri)
        yield cluster
        cluster.close()


@pytest.mark.timeout(600)
def test_a_hundred_thousand_rows(
    tool: Tool, clusters: Servers, target: Cluster, s3_bucket: Bucket, documents: data.Spec, tmp_path: pathlib.Path
) -> None:
    source = clusters("milvus235")
    url = s3_bucket.url("snap")
    env = tokens(source=source) | s3_bucket.env
    exported = tool.run("export", url, "--source", source.uri, "-c", documents.name, "--part-size", "16MiB", env=env)
    assert exported.doc["totals"]["rows"] == ROWS
    assert exported.doc["collections"][0]["consistency"] == "checked"
    tool.run("verify", url, "--level", "full", env=s3_bucket.env)
    layout.sums(s3_bucket.download("snap", tmp_path))
    imported = tool.run("import", url, "--target", target.uri, env=s3_bucket.env)
    assert imported.doc["totals"]["rows"] == ROWS
    print(f"export {exported.seconds:.1f} s, import {imported.seconds:.1f} s")
    wrong = compare_shape(documents, source, target) + compare_rows(documents, target)
    assert not wrong, "\n".join(wrong)
    target.client().drop_collection(documents.name)


def receipts(bucket: FolderBucket) -> list[str]:
    return [key for key in bucket.keys("snap") if key.startswith("units/")]


def cut_short(tool: Tool, bucket: FolderBucket, source: Cluster, spec: data.Spec, how: signal.Signals) -> tuple[int, str]:
    """Starts an export and ends it after its first receipt and before its commit."""
    args = ("export", bucket.url("snap"), "--source", source.uri, "-c", spec.name, "-j", "1", "--page-rows", "300", "--json")
    process = tool.start(*args, env=tokens(source=source))
    folder = bucket.folder / "snap"
    try:
        wait_for("the first receipt", lambda: process.poll() is not None or any(folder.glob("units/*.json")), timeout=120, every=0.002)
        assert process.poll() is None, f"it ended before it could be interrupted: {process.communicate()}"
        code, out, _ = end(process, how)
    finally:
        process.kill()
    assert not (folder / "COMMIT.json").exists(), "it had committed already, so this shows nothing"
    return code, out


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["kill", "term", "int"])
def test_an_export_that_ends_midway_resumes(
    tool: Tool, clusters: Servers, folder_bucket: FolderBucket, documents: data.Spec, how: signal.Signals
) -> None:
    """Run again, it finishes; units that were done are not exported a second time."""
    source = clusters("milvus235")
    code, out = cut_short(tool, folder_bucket, source, documents, how)
    assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[how]
    if how != signal.SIGKILL:
        doc = json.loads(out)
        assert doc["status"] == "failed" and doc["error"]["exit_code"] == code
    tool.run("verify", folder_bucket.url("snap"), code=exits.NOT_FOUND)

    done = receipts(folder_bucket)
    before = {key: stamp for key, stamp in folder_bucket.stamps().items() if key.startswith("snap/") and key.endswith((".parquet", ".json"))}
    finished_parts = {
        f"snap/{key}" for key in folder_bucket.parts("snap") for unit in done if f"/{pathlib.Path(unit).stem}-" in key
    }
    assert finished_parts, "a receipt without parts?"
    args = ("export", folder_bucket.url("snap"), "--source", source.uri, "-c", documents.name)
    result = tool.run(*args, env=tokens(source=source))
    assert result.doc["totals"]["rows"] == ROWS
    after = folder_bucket.stamps()
    for key in finished_parts | {"snap/PLAN.json"} | {f"snap/{key}" for key in done}:
        assert after[key] == before[key], f"{key} was written again"
    tool.run("verify", folder_bucket.url("snap"), "--level", "full")
    folder = folder_bucket.folder / "snap"
    layout.whole(folder)
    layout.sums(folder)
    if how == signal.SIGKILL:
        layout.check_collection(folder, documents, "default")


def test_an_interrupted_export_is_not_resumed_as_another(
    tool: Tool, clusters: Servers, folder_bucket: FolderBucket, documents: data.Spec, unique: str
) -> None:
    """PLAN.json says what was meant: asking for something else at that place is a conflict."""
    source = clusters("milvus235")
    other = data.plain(f"{unique}__other", 10)
    source.fill(other)
    cut_short(tool, folder_bucket, source, documents, signal.SIGKILL)
    args = ("export", folder_bucket.url("snap"), "--source", source.uri, "-c", other.name)
    tool.run(*args, env=tokens(source=source), code=exits.EXISTS)


def test_rows_that_came_between_two_runs(
    tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str
) -> None:
    """An export is cut short, the source is written to, and the same export is run again: never a snapshot that
    holds part of the old and part of the new state and says `checked`."""
    source = clusters("milvus235")
    spec = data.documents(f"{unique}__between", 20_000, 64)
    source.fill(spec)
    cut_short(tool, folder_bucket, source, spec, signal.SIGKILL)
    row = spec.rows["_default"][0]
    source.client().delete(spec.name, ids=[r["id"] for r in spec.rows["_default"][:500]])
    source.insert(spec, [{**row, "id": 10**9 + n} for n in range(10)])
    args = ("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    result = tool.run(*args, env=tokens(source=source), code=None)
    if result.code == 0:
        assert result.doc["totals"]["rows"] == 20_000 - 500 + 10
    else:
        assert result.code == exits.CHANGED, result
        assert "COMMIT.json" not in folder_bucket.keys("snap")


def test_an_import_that_is_interrupted_leaves_nothing_that_looks_whole(
    tool: Tool, clusters: Servers, target: Cluster, folder_bucket: FolderBucket, unique: str
) -> None:
    """Killed while the rows go in: run again, it either finishes exactly or says what to do, and touches nothing."""
    source = clusters("milvus235")
    spec = data.documents(f"{unique}__cut", 20_000, 64)
    source.fill(spec)
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", spec.name, "--part-size", "512KiB", "--page-rows", "1000", env=tokens(source=source))
    process = tool.start("import", url, "--target", target.uri, "-j", "1", "--json")
    try:
        wait_for("the collection", lambda: spec.name in target.collections() or process.poll() is not None)
        time.sleep(0.2)
        code, _, _ = end(process, signal.SIGINT)
    finally:
        process.kill()
    if code == 0:
        pytest.fail("it was done before it could be interrupted")
    assert code == 130
    assert target.aliases(spec.name) == []
    result = tool.run("import", url, "--target", target.uri, code=None)
    if result.code == 0:
        assert compare_rows(spec, target) == []
    else:
        assert result.code == exits.EXISTS, result
        assert spec.name in result.error["message"]
        target.client().drop_collection(spec.name)
        tool.run("import", url, "--target", target.uri)
        assert compare_rows(spec, target) == []
