"""Load states of the source on Milvus 2.3.5: nothing is loaded without being asked, every row arrives, and what was
loaded before is loaded afterwards, neither more nor less, however the export ends."""

from __future__ import annotations

import json
import pathlib
import signal
import time
import uuid
from typing import Callable, Iterator

import pytest
from pymilvus.client.types import LoadState

import data
import layout
import tool as exits
from buckets import FolderBucket, S3Bucket
from conftest import Servers
from moves import nothing_changes, says, tokens
from oracle import TIMEOUT, Cluster, compare_rows
from proxy import Proxy
from tool import Tool, end, wait_for

ROWS = 1200  # in four partitions
PARTITIONS = ["_default", "part_1", "part_2", "part_3"]


@pytest.fixture(scope="module")
def milvus(clusters: Servers) -> Cluster:
    return clusters("milvus235")


@pytest.fixture(scope="module")
def spec(milvus: Cluster) -> Iterator[data.Spec]:
    """Flushed, so that its rows are in segments that query nodes must fetch; not loaded."""
    spec = data.plain(f"t{uuid.uuid4().hex[:10]}__parts", ROWS, dim=16, partitions=4)
    milvus.fill(spec)
    milvus.client().flush(spec.name, timeout=TIMEOUT)
    milvus.release(spec.name)
    yield spec
    milvus.client().drop_collection(spec.name)


def load_states(cluster: Cluster, name: str) -> dict[str, bool]:
    client = cluster.client()
    return {
        p: client.get_load_state(name, partition_name=p, timeout=TIMEOUT)["state"] == LoadState.Loaded for p in PARTITIONS
    }


def only(*loaded: str) -> dict[str, bool]:
    return {p: p in loaded for p in PARTITIONS}


@pytest.fixture
def nothing_loaded(milvus: Cluster, spec: data.Spec) -> Iterator[data.Spec]:
    milvus.release(spec.name)
    assert load_states(milvus, spec.name) == only()
    yield spec
    milvus.release(spec.name)


def partly(cluster: Cluster, spec: data.Spec, *loaded: str) -> None:
    cluster.client().load_partitions(spec.name, list(loaded), timeout=TIMEOUT)
    wanted = sum(len(spec.rows[p]) for p in loaded)
    # served, not only reported as loaded
    wait_for("the rows", lambda: cluster.count(spec) == wanted, timeout=60, every=0.2)
    assert load_states(cluster, spec.name) == only(*loaded)


# --- some partitions are loaded -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loaded", [["part_1"], ["_default", "part_2"]], ids=["one", "two"])
def test_partly_loaded(
    tool: Tool, milvus: Cluster, nothing_loaded: data.Spec, folder_bucket: FolderBucket, tmp_path: pathlib.Path, loaded: list[str]
) -> None:
    """Queries of such a collection leave rows out without a word. Refused by the names of the partitions, or loaded:
    then every row arrives, and afterwards the same partitions are loaded as before."""
    spec = nothing_loaded
    partly(milvus, spec, *loaded)
    args = ("export", folder_bucket.url("snap"), "--source", milvus.uri, "-c", spec.name)
    with nothing_changes(folder_bucket, milvus.only(spec.name)):
        result = tool.run(*args, env=tokens(source=milvus), code=exits.EXISTS)
    missing = [p for p in PARTITIONS if p not in loaded]
    says(result, spec.name, "--load-source", *missing)
    for partition in loaded:
        assert partition not in result.error["message"], "this one is loaded"
    planned = tool.run(*args, "--plan", env=tokens(source=milvus))
    assert any(spec.name in w and missing[0] in w for w in planned.doc["warnings"]), planned
    assert load_states(milvus, spec.name) == only(*loaded), "a refusal must not change what is loaded"

    result = tool.run(*args, "--load-source", env=tokens(source=milvus))
    (described,) = result.doc["collections"]
    assert described["rows"] == described["server_count"] == ROWS, result
    assert {p["name"]: p["rows"] for p in described["partitions"]} == {p: len(rows) for p, rows in spec.rows.items()}
    tool.run("verify", folder_bucket.url("snap"), "--level", "full")
    layout.check_collection(folder_bucket.folder / "snap", spec, "default")
    assert load_states(milvus, spec.name) == only(*loaded)
    assert milvus.count(spec) == sum(len(spec.rows[p]) for p in loaded)


def test_partitions_that_are_loaded_but_not_served_yet(
    tool: Tool, milvus: Cluster, nothing_loaded: data.Spec, folder_bucket: FolderBucket
) -> None:
    """Somebody loads the other partitions just before the export: the server says "loaded" and leaves their rows out
    for some seconds. Every row arrives all the same."""
    spec = nothing_loaded
    for attempt in range(4):
        milvus.release(spec.name)
        partly(milvus, spec, "part_1")
        time.sleep(attempt * 2.5)  # the server looks every 10 s; another phase each time
        milvus.client().load_partitions(spec.name, ["_default", "part_2", "part_3"], timeout=TIMEOUT)
        served = milvus.count(spec)
        url = folder_bucket.url(f"snap{attempt}")
        result = tool.run("export", url, "--source", milvus.uri, "-c", spec.name, env=tokens(source=milvus))
        assert result.doc["totals"]["rows"] == ROWS, result
        if served < ROWS:
            break
    else:
        pytest.fail("the server served all rows at once each time, so this showed nothing")
    assert load_states(milvus, spec.name) == only(*PARTITIONS), "they are not the export's to release"


# --- nothing is loaded --------------------------------------------------------------------------------------------


def test_not_loaded_at_all(tool: Tool, milvus: Cluster, clusters: Servers, nothing_loaded: data.Spec, folder_bucket: FolderBucket) -> None:
    spec, target = nothing_loaded, clusters("lite322b")
    args = ("export", folder_bucket.url("snap"), "--source", milvus.uri, "-c", spec.name)
    with nothing_changes(folder_bucket, milvus.only(spec.name)):
        result = tool.run(*args, env=tokens(source=milvus), code=exits.EXISTS)
    says(result, spec.name, "--load-source")
    assert load_states(milvus, spec.name) == only()
    planned = tool.run(*args, "--load-source", "--plan", env=tokens(source=milvus))
    assert any(spec.name in w for w in planned.doc["warnings"]), planned
    assert load_states(milvus, spec.name) == only(), "a plan touches nothing"

    result = tool.run(*args, "--load-source", env=tokens(source=milvus))
    assert result.doc["totals"]["rows"] == ROWS
    assert load_states(milvus, spec.name) == only()
    assert not milvus.loaded(spec.name)
    tool.run("import", folder_bucket.url("snap"), "--target", target.uri)
    assert compare_rows(spec, target) == []
    target.client().drop_collection(spec.name)


# --- whatever happens ---------------------------------------------------------------------------------------------


def before(state: str) -> list[str]:
    return {"nothing loaded": [], "one partition loaded": ["part_1"]}[state]


@pytest.mark.parametrize("state", ["nothing loaded", "one partition loaded"])
def test_the_bucket_vanishes_midway(
    tool: Tool, milvus: Cluster, nothing_loaded: data.Spec, s3_bucket: S3Bucket, state: str
) -> None:
    """The export fails after the collection was loaded; the load state is what it was."""
    spec = nothing_loaded
    if before(state):
        partly(milvus, spec, *before(state))

    def remove() -> None:
        for page in s3_bucket.client.get_paginator("list_objects_v2").paginate(Bucket=s3_bucket.bucket):
            for item in page.get("Contents", []):
                s3_bucket.client.delete_object(Bucket=s3_bucket.bucket, Key=item["Key"])
        s3_bucket.client.delete_bucket(Bucket=s3_bucket.bucket)

    # the first part does not get through until the bucket is gone
    upstream = s3_bucket.env["AWS_ENDPOINT_URL_S3"]
    with Proxy(upstream, hold=f"PUT /{s3_bucket.bucket}/exports/snap/data/".encode()) as proxy:
        env = tokens(source=milvus) | s3_bucket.env | {"AWS_ENDPOINT_URL_S3": proxy.uri}
        args = ("export", s3_bucket.url("snap"), "--source", milvus.uri, "-c", spec.name, "--load-source", "--json")
        process = tool.start(*args, env=env)
        try:
            wait_for("the first part", lambda: proxy.stopped.is_set() or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            assert load_states(milvus, spec.name) == only(*PARTITIONS)
            remove()
            proxy.let_go()
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
    doc = json.loads(out)
    assert process.returncode == exits.NOT_FOUND == doc["error"]["exit_code"], (process.returncode, out, err)
    assert s3_bucket.bucket in json.dumps(doc["error"])
    assert load_states(milvus, spec.name) == only(*before(state))


@pytest.mark.parametrize("state", ["nothing loaded", "one partition loaded"])
def test_another_export_is_in_the_way(
    tool: Tool, milvus: Cluster, nothing_loaded: data.Spec, folder_bucket: FolderBucket, state: str
) -> None:
    """An unfinished one of something else: that shows only after the collection was loaded."""
    spec = nothing_loaded
    folder_bucket.write("snap", "PLAN.json", b'{"something": "else"}')
    if before(state):
        partly(milvus, spec, *before(state))
    args = ("export", folder_bucket.url("snap"), "--source", milvus.uri, "-c", spec.name, "--load-source")
    result = tool.run(*args, env=tokens(source=milvus), code=None)
    assert result.code in (exits.EXISTS, exits.INTEGRITY), result
    assert load_states(milvus, spec.name) == only(*before(state))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["int", "term"])
@pytest.mark.parametrize("when", ["rows are read", "it loads"])
@pytest.mark.parametrize("state", ["nothing loaded", "one partition loaded"])
def test_a_signal_midway(
    tool: Tool, milvus: Cluster, nothing_loaded: data.Spec, s3_bucket: S3Bucket, how: signal.Signals, when: str, state: str
) -> None:
    """Released before it ends, and in time. While a part is on its way to the bucket, and while the server loads."""
    spec = nothing_loaded
    if before(state):
        partly(milvus, spec, *before(state))
    upstream = s3_bucket.env["AWS_ENDPOINT_URL_S3"]
    with Proxy(upstream, hold=f"PUT /{s3_bucket.bucket}/exports/snap/data/".encode()) as proxy:
        env = tokens(source=milvus) | s3_bucket.env | {"AWS_ENDPOINT_URL_S3": proxy.uri}
        args = ("export", s3_bucket.url("snap"), "--source", milvus.uri, "-c", spec.name, "--load-source", "--json")
        process = tool.start(*args, env=env)
        try:
            if when == "rows are read":
                wait_for("the first part", lambda: proxy.stopped.is_set() or process.poll() is not None)
            else:
                begun: Callable[[], bool] = lambda: (  # noqa: E731
                    milvus.client().get_load_state(spec.name, partition_name="part_3")["state"] != LoadState.NotLoad
                )
                wait_for("the load", lambda: begun() or process.poll() is not None, every=0.005)
            assert process.poll() is None, process.communicate()
            began = time.monotonic()
            code, out, _ = end(process, how)
            seconds = time.monotonic() - began
        finally:
            process.kill()
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143}[how], out
    assert json.loads(out)["error"]["exit_code"] == code
    assert seconds < 15, f"it took {seconds:.1f} s to end"
    wait_for(
        f"the load state of before (now {load_states(milvus, spec.name)})",
        lambda: load_states(milvus, spec.name) == only(*before(state)), timeout=5, every=0.2,
    )  # fmt: skip
