"""A source that changes while it is exported, and primary keys that occur more than once."""

from __future__ import annotations

import random
import threading
import time

import pytest

import data
import tool as exits
from buckets import FolderBucket
from conftest import Servers
from oracle import Cluster, compare_rows
from moves import tokens
from tool import Tool


class Writer:
    """Inserts new keys all over the range, and deletes some of them again, until told to stop."""

    def __init__(self, cluster: Cluster, name: str, rows: int, dim: int):
        self.cluster, self.name, self.rows, self.dim = cluster, name, rows, dim
        self.written = 0
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        rng = random.Random(1)
        # even keys are taken; a new key is odd, lies anywhere between or beyond them, and comes once
        new = iter(rng.sample(range(-5 * self.rows, 6 * self.rows), 11 * self.rows))
        client = self.cluster.client()
        try:
            while not self._stop.is_set():
                keys = [next(new) * 2 + 1 for _ in range(5)]
                rows = [{"id": k, "title": "new", "v": [1.0] * self.dim} for k in keys]
                client.insert(self.name, rows, timeout=30)
                if rng.random() < 0.3:
                    client.delete(self.name, ids=keys[:1], timeout=30)
                self.written += 1
                time.sleep(0.002)
        except Exception as error:
            self.error = error

    def __enter__(self) -> "Writer":
        self._thread.start()
        while self.written == 0 and self._thread.is_alive():
            time.sleep(0.001)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self.error is None, self.error


def spread(spec: data.Spec) -> data.Spec:
    """Even keys only, so that new ones fit between."""
    for row in spec.all_rows:
        row["id"] *= 2
    return spec


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["milvus235", "lite251", "lite322b"])
def test_writes_during_the_export(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, engine: str) -> None:
    """None of these servers can pin, so exit 8 and no commit; with --allow-writes a commit that says `unchecked`."""
    cluster = clusters(engine)
    rows, dim = (3000 if engine == "lite322b" else 8000), 64  # Lite 3.2.2 reads slowly while it is written to
    spec = spread(data.plain(f"{unique}__busy", rows, dim=dim))
    cluster.fill(spec)
    env = tokens(source=cluster)
    # small pages make it slow enough for many writes to fall between its first and its last look
    args = ("--source", cluster.uri, "-c", spec.name, "--page-rows", "200", "-j", "1")
    with Writer(cluster, spec.name, rows, dim) as writer:
        before = writer.written
        result = tool.run("export", folder_bucket.url("snap"), *args, env=env, code=exits.CHANGED)
        assert writer.written > before + 3, "no writes happened meanwhile, so this showed nothing"
        assert "--allow-writes" in (result.error["hint"] or ""), result
        assert spec.name in result.error["message"], result
        assert "COMMIT.json" not in folder_bucket.keys("snap")
        tool.run("verify", folder_bucket.url("snap"), code=exits.NOT_FOUND)

        result = tool.run("export", folder_bucket.url("allowed"), *args, "--allow-writes", env=env)
    assert [c["consistency"] for c in result.doc["collections"]] == ["unchecked"]
    assert result.doc["warnings"]
    tool.run("verify", folder_bucket.url("allowed"), "--level", "full")

    # a quiet source again: the same export, under another name, is complete
    result = tool.run("export", folder_bucket.url("later"), *args, env=env)
    assert [c["consistency"] for c in result.doc["collections"]] == ["checked"]
    assert result.doc["totals"]["rows"] == cluster.count(spec)


def test_an_unchecked_snapshot_is_imported_and_says_so(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    source, target = clusters("lite322"), clusters("lite322b")
    spec = data.plain(f"{unique}__quiet", 300)
    source.fill(spec)
    result = tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name, "--allow-writes")
    assert [c["consistency"] for c in result.doc["collections"]] == ["unchecked"]
    result = tool.run("import", folder_bucket.url("snap"), "--target", target.uri)
    assert compare_rows(spec, target) == []
    assert any("unchecked" in w or "writes" in w for w in result.doc["warnings"]), result


def test_duplicate_primary_keys(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """2.3.5 does not keep keys unique: three rows with one key, count(*) says 3, a scan gives 1."""
    source, target = clusters("milvus235"), clusters("lite322")
    spec = data.plain(f"{unique}__twice", 400)
    source.fill(spec)
    again = [{**row, "title": "again"} for row in spec.all_rows[100:150]]
    source.insert(spec, again), source.insert(spec, again)
    assert source.count(spec) == 500
    env = tokens(source=source)
    result = tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name, env=env)
    (described,) = result.doc["collections"]
    assert described["rows"] == 400 and described["server_count"] == 500, result
    assert described["duplicate_keys"] in (50, 100), "keys that occur more than once, or rows too many"
    assert any(spec.name in w and ("key" in w or "duplicate" in w) for w in result.doc["warnings"]), result

    tool.run("import", folder_bucket.url("snap"), "--target", target.uri)
    target.load(spec.name)
    assert target.count(spec) == 400
    # which of the copies a scan gives is the server's choice, but it is one of them
    titles = {row["id"]: row["title"] for row in spec.all_rows}
    for key, row in target.rows(spec).items():
        assert row["title"] == titles[key] or (100 <= key < 150 and row["title"] == "again")


@pytest.mark.parametrize("engine", ["milvus235", "lite251", "lite322"])
def test_deleted_and_upserted_rows(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str, engine: str) -> None:
    """What was deleted does not come back, what was replaced comes once."""
    source, target = clusters(engine), clusters("lite322b")
    spec = data.plain(f"{unique}__changed", 500)
    source.fill(spec)
    client = source.client()
    client.delete(spec.name, filter="id in [" + ", ".join(str(n) for n in range(100, 200)) + "]")
    changed = [{**row, "title": "new title"} for row in spec.rows["_default"][300:320]]
    client.upsert(spec.name, changed)
    spec.rows["_default"][300:320] = changed
    del spec.rows["_default"][100:200]
    assert compare_rows(spec, source) == []
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name, env=tokens(source=source))
    tool.run("import", folder_bucket.url("snap"), "--target", target.uri)
    assert compare_rows(spec, target) == []
