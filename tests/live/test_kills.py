"""Exports and imports that end midway: killed where it hurts, interrupted, and run again.

A proxy in front of the S3 server stops the tool at a request of the test's choice, so that "after the first receipt"
or "between the manifest and the commit" is a place and not a guess.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import time
import uuid
from typing import Iterator

import pytest

import data
import layout
import tool as exits
from attributes import remove
from buckets import FolderBucket, S3Bucket
from conftest import Servers
from moves import tokens
from oracle import Cluster, compare_rows, compare_shape
from proxy import Proxy
from tool import Tool, end, wait_for

ROWS = 2400  # in four partitions, so at least four units
PROMPT = 10.0

# where the export stands still: the request that does not get through
PLACES = {
    "plan": "PLAN.json",
    "part": "data/",
    "receipt": "units/",
    "manifest": "manifest.json",
    "sums": "SHA256SUMS",
    "commit": "COMMIT.json",
}


@pytest.fixture(scope="module")
def source(clusters: Servers) -> Cluster:
    return clusters("milvus235")


@pytest.fixture(scope="module")
def target(clusters: Servers) -> Cluster:
    return clusters("lite322b")


@pytest.fixture(scope="module")
def docs(source: Cluster) -> Iterator[data.Spec]:
    spec = data.documents(f"t{uuid.uuid4().hex[:10]}__kills", ROWS, 32)
    source.fill(spec)
    yield spec
    source.client().drop_collection(spec.name)


def export_args(bucket: S3Bucket | FolderBucket, source: Cluster, spec: data.Spec) -> tuple[str, ...]:
    # one unit after the other, several parts in each
    return ("export", bucket.url("snap"), "--source", source.uri, "-c", spec.name, "-j", "1", "--page-rows", "100", "--part-size", "64KiB")


def put(bucket: S3Bucket, key: str) -> bytes:
    return f"PUT /{bucket.bucket}/exports/snap/{key}".encode()


def stop_at(
    tool: Tool, bucket: S3Bucket, source: Cluster, spec: data.Spec, how: signal.Signals, arrives: bool, key: str
) -> tuple[int, str, str, float]:
    """Starts the export, ends it by a signal while a request hangs, and returns code, stdout, stderr and the seconds that
    it took to end. `arrives`: the object gets into the bucket, only the answer is lost."""
    with Proxy(bucket.env["AWS_ENDPOINT_URL_S3"]) as proxy:
        if arrives:
            proxy.swallow = put(bucket, key)
        else:
            proxy.hold = put(bucket, key)
        env = tokens(source=source) | bucket.env | {"AWS_ENDPOINT_URL_S3": proxy.uri}
        process = tool.start(*export_args(bucket, source, spec), "--json", env=env)
        try:
            wait_for(f"the request for {key}", lambda: proxy.stopped.is_set() or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            if arrives:
                wait_for(f"{key} in the bucket", lambda: any(k.startswith(key) for k in bucket.keys("snap")))
            began = time.monotonic()
            code, out, err = end(process, how)
            return code, out, err, time.monotonic() - began
        finally:
            process.kill()


def receipts(bucket: S3Bucket | FolderBucket) -> list[str]:
    return [key for key in bucket.keys("snap") if key.startswith("units/")]


def finish(
    tool: Tool, bucket: S3Bucket | FolderBucket, source: Cluster, target: Cluster, spec: data.Spec, folder: pathlib.Path,
    importing: bool = True,
) -> None:  # fmt: skip
    """The same command again finishes, reads no unit twice, and the result is whole: on disk and on the target."""
    done = receipts(bucket)
    kept = {key: bucket.read("snap", key) for key in done}
    had_plan = bucket.read("snap", "PLAN.json") if "PLAN.json" in bucket.keys("snap") else None
    result = tool.run(*export_args(bucket, source, spec), env=tokens(source=source) | bucket.env)
    assert result.doc["reused_units"] == len(done), result
    assert result.doc["totals"]["rows"] == ROWS
    for key, content in kept.items():
        assert bucket.read("snap", key) == content, f"{key} was written again"
    assert had_plan is None or bucket.read("snap", "PLAN.json") == had_plan
    verified = tool.run("verify", bucket.url("snap"), "--level", "full", env=bucket.env)
    assert verified.doc["problems"] == []
    local = bucket.download("snap", folder)
    layout.whole(local)
    layout.sums(local)
    layout.check_collection(local, spec, "default")
    if not importing:
        return
    imported = tool.run("import", bucket.url("snap"), "--target", target.uri, env=bucket.env)
    assert imported.doc["totals"]["rows"] == ROWS
    try:
        assert compare_shape(spec, source, target) + compare_rows(spec, target) == []
    finally:
        target.client().drop_collection(spec.name)


@pytest.fixture(autouse=True)
def leave_nothing(clusters: Servers, unique: str) -> Iterator[None]:
    yield
    for name in ("lite322b",):
        remove(clusters(name), unique)


# --- kill -9 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("arrives", [False, True], ids=["before", "after"])
def test_kill_an_export(
    tool: Tool, source: Cluster, target: Cluster, docs: data.Spec, s3_bucket: S3Bucket, tmp_path: pathlib.Path, place: str, arrives: bool
) -> None:
    """Just before an object gets into the bucket, and just after."""
    key = PLACES[place]
    code, *_ = stop_at(tool, s3_bucket, source, docs, signal.SIGKILL, arrives, key)
    assert code == -signal.SIGKILL
    there = any(k.startswith(key) for k in s3_bucket.keys("snap"))
    assert there == arrives, f"{key} was to be {'there' if arrives else 'missing'}: {s3_bucket.keys('snap')}"
    if place == "commit" and arrives:
        # it is a snapshot: nobody told the user, but it is complete
        tool.run("verify", s3_bucket.url("snap"), "--level", "full", env=s3_bucket.env)
        tool.run(*export_args(s3_bucket, source, docs), env=tokens(source=source) | s3_bucket.env, code=exits.EXISTS)
        return
    result = tool.run("verify", s3_bucket.url("snap"), env=s3_bucket.env, code=exits.NOT_FOUND)
    assert result.error["message"]
    # the values in the parts are compared in any case
    finish(tool, s3_bucket, source, target, docs, tmp_path, importing=place in ("part", "receipt"))


def test_kill_it_again_and_again(
    tool: Tool, source: Cluster, target: Cluster, docs: data.Spec, s3_bucket: S3Bucket, tmp_path: pathlib.Path
) -> None:
    """Every run comes a little further; none begins anew."""
    counts = []
    for n, key in enumerate(["data/", "units/", "data/", "units/"]):
        code, *_ = stop_at(tool, s3_bucket, source, docs, signal.SIGKILL, True, key)
        assert code == -signal.SIGKILL
        counts.append(len(receipts(s3_bucket)))
    assert counts == sorted(counts) and counts[-1] >= 2, counts
    finish(tool, s3_bucket, source, target, docs, tmp_path)


@pytest.mark.parametrize("point", ["plan", "receipt"])
def test_kill_an_export_into_a_folder(
    tool: Tool, source: Cluster, target: Cluster, docs: data.Spec, folder_bucket: FolderBucket, tmp_path: pathlib.Path, point: str
) -> None:
    """There the tool also keeps half-written files; nothing of them is left in the end."""
    folder = folder_bucket.folder / "snap"
    reached = {"plan": lambda: (folder / "PLAN.json").exists(), "receipt": lambda: any(folder.glob("units/*.json"))}[point]
    with Proxy(source.uri, pause=0.03) as proxy:
        args = list(export_args(folder_bucket, source, docs))
        args[args.index(source.uri)] = proxy.uri
        process = tool.start(*args, "--json", env=tokens(source=source))
        try:
            wait_for(point, lambda: reached() or process.poll() is not None, every=0.001)
            code, *_ = end(process, signal.SIGKILL)
        finally:
            process.kill()
    assert code == -signal.SIGKILL, "it was done before it could be killed"
    assert not (folder / "COMMIT.json").exists()
    finish(tool, folder_bucket, source, target, docs, tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == ["COMMIT.json", "PLAN.json", "SHA256SUMS", "data", "manifest.json", "units"]


# --- SIGINT and SIGTERM -------------------------------------------------------------------------------------------

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def interrupted(out: str, err: str, code: int, seconds: float) -> dict:
    doc = json.loads(out)
    assert doc["status"] == "failed" and doc["error"]["exit_code"] == code, out
    assert doc["error"]["kind"] == exits.KINDS[code]
    assert "error[MH-" in err and "panicked" not in err, err
    assert seconds < PROMPT, f"it took {seconds:.1f} s to end"
    return doc["error"]


@pytest.mark.parametrize("how", SIGNALS, ids=["int", "term"])
@pytest.mark.parametrize("place", ["plan", "receipt", "commit"])
def test_interrupt_an_export(
    tool: Tool, source: Cluster, target: Cluster, docs: data.Spec, s3_bucket: S3Bucket, tmp_path: pathlib.Path,
    how: signal.Signals, place: str,
) -> None:  # fmt: skip
    """While the bucket does not answer: it ends in time, says how to go on, and goes on."""
    code, out, err, seconds = stop_at(tool, s3_bucket, source, docs, how, False, PLACES[place])
    assert code == SIGNALS[how], (out, err)
    error = interrupted(out, err, code, seconds)
    assert "same command" in (error["hint"] or ""), error
    tool.run("verify", s3_bucket.url("snap"), env=s3_bucket.env, code=exits.NOT_FOUND)
    finish(tool, s3_bucket, source, target, docs, tmp_path, importing=False)


@pytest.mark.parametrize("how", SIGNALS, ids=["int", "term"])
def test_interrupt_while_the_server_is_silent(
    tool: Tool, source: Cluster, docs: data.Spec, folder_bucket: FolderBucket, how: signal.Signals
) -> None:
    with Proxy(source.uri) as proxy:
        args = list(export_args(folder_bucket, source, docs))
        args[args.index(source.uri)] = proxy.uri
        process = tool.start(*args, "--json", env=tokens(source=source))
        try:
            wait_for("the plan", lambda: (folder_bucket.folder / "snap/PLAN.json").exists() or process.poll() is not None, every=0.001)
            proxy.pause = 3600  # whatever the server says from now on
            time.sleep(0.5)
            assert process.poll() is None, process.communicate()
            began = time.monotonic()
            code, out, err = end(process, how)
            seconds = time.monotonic() - began
        finally:
            process.kill()
    assert code == SIGNALS[how]
    interrupted(out, err, code, seconds)
    result = tool.run(*export_args(folder_bucket, source, docs), env=tokens(source=source))
    assert result.doc["totals"]["rows"] == ROWS


@pytest.fixture(scope="module")
def snapshot(tool: Tool, source: Cluster, docs: data.Spec, tmp_path_factory: pytest.TempPathFactory) -> FolderBucket:
    bucket = FolderBucket(tmp_path_factory.mktemp("kills"))
    tool.run(*export_args(bucket, source, docs), env=tokens(source=source))
    return bucket


@pytest.mark.parametrize("how", [*SIGNALS, signal.SIGKILL], ids=["int", "term", "kill"])
def test_interrupt_an_import(
    tool: Tool, target: Cluster, docs: data.Spec, snapshot: FolderBucket, unique: str, how: signal.Signals
) -> None:
    """What was created is named, and the same command goes on with it. (test_resume.py has all the ways to die.)"""
    database, name = f"{unique}_db", f"{unique}__half"
    place = f"{database}.{name}"
    args = ("import", snapshot.url("snap"), "--rename", f"{docs.name}={place}", "-j", "1", "--target")
    with Proxy(target.uri, request_pause=0.02) as proxy:
        process: subprocess.Popen = tool.start(*args, proxy.uri, "--json")
        try:
            made = lambda: database in target.databases() and name in target.collections(database)  # noqa: E731
            wait_for("the collection", lambda: made() or process.poll() is not None, every=0.005)
            time.sleep(0.3)
            assert process.poll() is None, process.communicate()
            began = time.monotonic()
            code, out, err = end(process, how)
            seconds = time.monotonic() - began
        finally:
            process.kill()
        if how == signal.SIGKILL:
            assert code == -signal.SIGKILL
        else:
            assert code == SIGNALS[how]
            error = interrupted(out, err, code, seconds)
            said = " ".join([error["message"], *error["causes"], error["hint"] or ""])
            assert place in said and "same command" in said and "drop" in said, error
            assert place in err
        target.load(name, database)
        time.sleep(1)  # an insert that was on its way arrives
        count = target.count(docs, name, database)
        assert count < ROWS, "it was complete, so this shows nothing"
        # by another address it is another import: without its journal nothing is guessed
        result = tool.run(*args, target.uri, code=exits.EXISTS)
        assert name in result.error["message"]
        assert target.count(docs, name, database) == count, "an existing collection was touched"
        proxy.request_pause = 0
        tool.run(*args, proxy.uri)
    assert not target.loaded(name, database), "it is not left loaded"
    assert compare_rows(docs, target, name, database) == []
    target.client(database).drop_collection(name)


@pytest.mark.parametrize("how", SIGNALS, ids=["int", "term"])
def test_interrupt_an_import_before_it_touches_anything(
    tool: Tool, target: Cluster, docs: data.Spec, snapshot: FolderBucket, unique: str, how: signal.Signals
) -> None:
    """Then nothing was created, and nothing is said to have been."""
    name = f"{unique}__none"
    with Proxy(target.uri, pause=3600) as proxy:
        process = tool.start("import", snapshot.url("snap"), "--target", proxy.uri, "--rename", f"{docs.name}={name}", "--json")
        try:
            wait_for("a connection", lambda: proxy.connections or process.poll() is not None)
            time.sleep(0.2)
            assert process.poll() is None, process.communicate()
            began = time.monotonic()
            code, out, err = end(process, how)
            seconds = time.monotonic() - began
        finally:
            process.kill()
    assert code == SIGNALS[how]
    error = interrupted(out, err, code, seconds)
    assert "drop" not in str(error) and "created" not in str(error), error
    assert name not in target.collections()


def test_two_signals_end_it_at_once(tool: Tool, source: Cluster, docs: data.Spec, folder_bucket: FolderBucket) -> None:
    """The second does not wait for anything, not even for the server to release what was loaded."""
    with Proxy(source.uri) as proxy:
        args = list(export_args(folder_bucket, source, docs))
        args[args.index(source.uri)] = proxy.uri
        source.release(docs.name)
        try:
            process = tool.start(*args, "--load-source", "--json", env=tokens(source=source))
            try:
                wait_for("the plan", lambda: (folder_bucket.folder / "snap/PLAN.json").exists() or process.poll() is not None, every=0.001)
                proxy.pause = 3600  # the release that follows gets no answer
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)
                assert process.poll() is None, f"it did not wait for the release: {process.communicate()}"
                began = time.monotonic()
                code, _, _ = end(process, signal.SIGINT)
                assert code == 130 and time.monotonic() - began < 3
            finally:
                process.kill()
        finally:
            source.load(docs.name)


# --- kill -9 at random ----------------------------------------------------------------------------------------------


def test_kill_an_export_at_random(tool: Tool, source: Cluster, docs: data.Spec, tmp_path: pathlib.Path) -> None:
    """At any moment, every run going on where the one before was killed. A snapshot that is there is whole."""
    seed = int(os.environ.get("SEED", 0)) or random.randrange(1 << 32)
    print(f"SEED={seed}")
    rng = random.Random(seed)
    kills, done, finished = 300 if os.environ.get("SOAK") else 40, 0, 0

    def args(bucket: FolderBucket) -> tuple[str, ...]:
        return ("export", bucket.url("snap"), "--source", source.uri, "-c", docs.name, "-j", "2", "--page-rows", "100", "--part-size", "64KiB")

    whole = tool.run(*args(FolderBucket(tmp_path / "whole")), env=tokens(source=source)).seconds
    while done < kills:
        bucket = FolderBucket(tmp_path / f"n{finished}")
        while not (bucket.folder / "snap/COMMIT.json").exists():
            process = tool.start(*args(bucket), "--json", env=tokens(source=source))
            time.sleep(rng.uniform(0, 0.8 * whole))
            if end(process, signal.SIGKILL)[0] == -signal.SIGKILL:
                done += 1
        assert tool.run("verify", bucket.url("snap"), "--level", "full").doc["problems"] == []
        local = bucket.download("snap", tmp_path / f"local{finished}")
        layout.whole(local)
        layout.check_collection(local, docs, "default")
        finished += 1
    print(f"{done} kills, {finished} exports finished")


# --- no room --------------------------------------------------------------------------------------------------------

FULL = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99
cd "$3"; shift 3
"$@" > first.json 2> first.txt; echo $? > first.code
mount -o remount,size=64m full
"$@" > second.json 2> second.txt; echo $? > second.code
cp -a full/. kept
"""


@pytest.mark.parametrize(("place", "size"), [("snapshot", "8k"), ("snapshot", "128k"), ("snapshot", "320k"), ("spool", "4k"), ("spool", "32k")])
def test_a_disk_that_is_full(
    tool: Tool, source: Cluster, docs: data.Spec, s3_bucket: S3Bucket, tmp_path: pathlib.Path, place: str, size: str
) -> None:
    """A file system of that size, in which the snapshot is, or what is on its way into a bucket. Mounting one needs a
    kernel that lets us; where it does not, only the limit on file sizes of tests/kills.rs stands for it."""
    (tmp_path / "full").mkdir()
    (tmp_path / "kept").mkdir()
    env = tokens(source=source) | (s3_bucket.env if place == "spool" else {})
    url = s3_bucket.url("snap") if place == "spool" else f"file://{tmp_path}/full/snap"
    own = [str(tool.binary), "export", url, "--source", source.uri, "-c", docs.name, "-j", "1", "--page-rows", "100", "--part-size", "64KiB", "--json"]
    spool = {"TMPDIR": str(tmp_path / "full")} if place == "spool" else {}
    run = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", FULL, "sh", size, str(tmp_path / "full"), str(tmp_path), *own],
        env=tool.environment(env) | spool, capture_output=True, timeout=exits.TIMEOUT,
    )  # fmt: skip
    if b"Operation not permitted" in run.stderr or run.returncode == 99:
        pytest.skip(f"no file system can be mounted here: {run.stderr.decode().strip()}")
    first, second = json.loads((tmp_path / "first.json").read_text()), json.loads((tmp_path / "second.json").read_text())
    said = (tmp_path / "first.txt").read_text()
    assert (tmp_path / "first.code").read_text() == f"{exits.TEMPORARY}\n", said
    assert "No space left on device" in said and first["error"]["hint"], said
    assert (tmp_path / "second.code").read_text() == "0\n", (tmp_path / "second.txt").read_text()
    assert second["totals"]["rows"] == ROWS
    bucket = s3_bucket if place == "spool" else FolderBucket(tmp_path / "kept")
    local = bucket.download("snap", tmp_path / "local")
    layout.whole(local)
    layout.check_collection(local, docs, "default")
