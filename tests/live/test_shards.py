"""An export by several processes that do not know of each other: some are killed, some are started twice, several
commit at once. What comes of it is, row by row, what one process exports."""

from __future__ import annotations

import json
import pathlib
import random
import signal
import subprocess
import time
import uuid
from typing import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import data
import layout
import tool as exits
from buckets import Bucket
from conftest import Servers
from moves import tokens
from oracle import Cluster
from tool import Result, Tool

SOURCES = ["milvus235", "lite322"]
ROWS = 6000
WORKERS = 4
PAGES = ("--page-rows", "200", "--part-size", "256KiB", "-j", "1")


@pytest.fixture(scope="module", params=SOURCES)
def source(request: pytest.FixtureRequest, clusters: Servers) -> Cluster:
    return clusters(request.param)


@pytest.fixture(scope="module")
def docs(source: Cluster) -> Iterator[data.Spec]:
    spec = data.documents(f"t{uuid.uuid4().hex[:10]}__shards", ROWS, 32)
    source.fill(spec)
    yield spec
    source.client().drop_collection(spec.name)


@pytest.fixture(scope="module")
def unsharded(tool: Tool, source: Cluster, docs: data.Spec, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """What one process exports."""
    folder = tmp_path_factory.mktemp("unsharded")
    url = f"file://{folder}/snap"
    tool.run("export", url, "--source", source.uri, "-c", docs.name, *PAGES, env=tokens(source=source))
    return rows(folder / "snap")


def rows(snapshot: pathlib.Path) -> pa.Table:
    """Every row of a snapshot with its partition, by key."""
    manifest = json.loads((snapshot / "manifest.json").read_text())
    tables = []
    for part in manifest["collections"][0]["parts"]:
        table = pq.read_table(snapshot / part["key"], partitioning=None)
        tables.append(table.append_column("partition", pa.array([part.get("partition")] * table.num_rows, pa.string())))
    return pa.concat_tables(tables).combine_chunks().sort_by("id")


class Job:
    """The processes of one export, as a batch service would start them."""

    def __init__(self, tool: Tool, bucket: Bucket, source: Cluster, docs: data.Spec):
        self.tool, self.bucket, self.source, self.docs = tool, bucket, source, docs
        self.env = tokens(source=source) | bucket.env

    def args(self, shard: str) -> tuple[str, ...]:
        url = self.bucket.url("snap")
        return ("export", url, "--source", self.source.uri, "-c", self.docs.name, *PAGES, "--writes-paused", "--shard", shard)

    def plan(self, **more) -> Result:
        return self.tool.run(*self.args(f"plan/{WORKERS}"), env=self.env, **more)

    def start(self, index: int) -> subprocess.Popen:
        env = self.env | {"JOB_COMPLETION_INDEX": str(index)}
        return self.tool.start(*self.args(f"env:JOB_COMPLETION_INDEX/{WORKERS}"), "--json", env=env)

    def work(self, index: int, **more) -> Result:
        return self.tool.run(*self.args(f"{index}/{WORKERS}"), env=self.env, **more)

    def committing(self) -> tuple[str, ...]:
        return ("commit", self.bucket.url("snap"), "--source", self.source.uri)

    def commit(self, **more) -> Result:
        return self.tool.run(*self.committing(), env=self.env, **more)

    def commit_at_once(self, times: int) -> list[tuple[int, dict]]:
        running = [self.tool.start(*self.committing(), "--json", env=self.env) for _ in range(times)]
        ended = []
        for process in running:
            out, err = process.communicate(timeout=120)
            assert b"panicked" not in err, err
            ended.append((process.returncode, json.loads(out)))
        return ended

    def is_what_one_process_exports(self, folder: pathlib.Path, unsharded: pa.Table) -> None:
        verified = self.tool.run("verify", self.bucket.url("snap"), "--level", "full", env=self.bucket.env)
        assert verified.doc["problems"] == [] and verified.doc["totals"]["rows"] == ROWS
        local = self.bucket.download("snap", folder)
        layout.whole(local)
        layout.sums(local)
        layout.check_collection(local, self.docs, "default")
        assert rows(local).equals(unsharded)


@pytest.fixture
def job(tool: Tool, bucket: Bucket, source: Cluster, docs: data.Spec) -> Job:
    return Job(tool, bucket, source, docs)


def test_killed_and_doubled_workers_and_racing_commits(job: Job, unsharded: pa.Table, tmp_path: pathlib.Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    planned = job.plan()
    assert planned.doc["shard"] == "plan" and planned.doc["units"] >= WORKERS, planned
    assert job.plan().doc["was_there"]
    plan = job.bucket.read("snap", "PLAN.json")

    # Four workers, one of them twice. Each is killed now and then and started again, until all have ended well.
    running = {number: job.start(number % WORKERS) for number in range(WORKERS + 1)}
    kills = 0
    deadline = time.monotonic() + 200
    while running:
        assert time.monotonic() < deadline, f"the workers do not come to an end (seed {seed})"
        time.sleep(rng.uniform(0.02, 0.15))
        number = rng.choice(list(running))
        if kills < 12 and rng.random() < 0.7:
            running[number].send_signal(signal.SIGKILL)
            kills += 1
        for number, process in list(running.items()):
            if process.poll() is None:
                continue
            out, err = process.communicate()
            del running[number]
            if process.returncode == -signal.SIGKILL:
                running[number] = job.start(number % WORKERS)
            else:
                assert process.returncode == 0, (out, err)
        if rng.random() < 0.2:
            # Too early, most of the time; then it changes nothing and says so.
            code, doc = job.commit_at_once(1)[0]
            assert code in (0, exits.TEMPORARY), doc
    assert kills >= 3, f"the workers were too fast to be killed (seed {seed})"

    ended = job.commit_at_once(3)
    assert [code for code, _ in ended] == [0, 0, 0], ended
    digests = {doc["snapshot"]["commit_sha256"] for _, doc in ended}
    assert len(digests) == 1
    assert job.bucket.read("snap", "PLAN.json") == plan
    job.is_what_one_process_exports(tmp_path, unsharded)

    # Late ones change nothing.
    before = job.bucket.stamps()
    assert job.work(1).doc["reused_units"] == job.work(1).doc["units"]
    assert {job.commit().doc["snapshot"]["commit_sha256"]} == digests
    assert job.bucket.stamps() == before
    assert job.plan(code=exits.EXISTS).error["kind"] == "exists"


def test_a_missing_shard_is_named_and_waited_for(job: Job, unsharded: pa.Table, tmp_path: pathlib.Path) -> None:
    for result in (job.work(0, code=exits.TEMPORARY), job.commit(code=exits.TEMPORARY)):
        assert "there is no plan" in result.error["message"], result
    units = job.plan().doc["units"]
    done = sum(job.work(index).doc["units"] for index in (0, 1, 3))
    failed = job.commit(code=exits.TEMPORARY)
    assert f"{units - done} of {units} units have not been exported yet: u" in failed.error["message"], failed
    assert "manifest.json" not in job.bucket.keys("snap")
    job.tool.run("verify", job.bucket.url("snap"), env=job.bucket.env, code=exits.NOT_FOUND)
    # Shares of another number cover the rest, too.
    for index in range(2):
        job.tool.run(*job.args(f"{index}/2"), env=job.env)
    committed = job.commit(as_json=False)
    assert f"Successful: committed 1 collection, {ROWS:,} rows" in committed.stdout, committed
    job.is_what_one_process_exports(tmp_path, unsharded)


def test_another_plan_is_not_taken_up(job: Job) -> None:
    job.plan()
    before = job.bucket.stamps()
    for shard in (f"plan/{WORKERS}", f"0/{WORKERS}"):
        args = [arg if arg != "256KiB" else "512KiB" for arg in job.args(shard)]
        assert "not this one" in job.tool.run(*args, env=job.env, code=exits.EXISTS).error["message"]
    assert job.bucket.stamps() == before


def test_the_user_must_say_that_writes_are_paused(job: Job) -> None:
    for shard in (f"plan/{WORKERS}", f"0/{WORKERS}"):
        if shard.startswith("0"):
            job.plan()
        args = [arg for arg in job.args(shard) if arg != "--writes-paused"]
        refused = job.tool.run(*args, env=job.env, code=exits.USAGE)
        assert "--writes-paused" in refused.error["hint"], refused


def test_a_row_that_comes_during_the_work_is_found_out(tool: Tool, clusters: Servers, folder_bucket: Bucket, unique: str) -> None:
    source = clusters("milvus235")
    spec = data.documents(f"{unique}__late", 800, 16)
    source.fill(spec)
    job = Job(tool, folder_bucket, source, spec)
    try:
        job.plan()
        for index in range(WORKERS):
            job.work(index)
        key = max(row["id"] for row in spec.all_rows)
        late = dict(max(spec.all_rows, key=lambda row: row["id"]), id=key + 1)
        source.client().insert(spec.name, [late])
        assert job.commit(code=exits.CHANGED).error["kind"] == "source-changed"
        assert "COMMIT.json" not in folder_bucket.keys("snap")
    finally:
        source.client().drop_collection(spec.name)
