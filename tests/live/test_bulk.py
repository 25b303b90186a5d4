"""Imports by the server's own bulk import: Milvus 2.3.5 that keeps its data on the S3 server reads the parts itself.

The target of this file is a Milvus of its own, and the bucket that it keeps its data in is the stage's.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import uuid
from typing import Iterator

import pytest
from pymilvus import CollectionSchema, DataType as T, FieldSchema

import data
import servers
import tool as exits
from buckets import FolderBucket, S3Bucket
from conftest import Servers
from moves import Placed, fill, move, says, tokens
from oracle import Cluster, compare_rows
from stages import Storage, journal_lines
from tool import Tool, end, wait_for

pytestmark = pytest.mark.timeout(600)

ROWS = 2400  # in four partitions


@pytest.fixture(scope="module")
def storage(moto: str) -> Storage:
    return Storage(moto)


@pytest.fixture(scope="module")
def target(moto: str, storage: Storage) -> Iterator[Cluster]:
    with servers.milvus235(moto, storage.bucket) as server:
        cluster = Cluster("milvus235", server.uri, server.token)
        yield cluster
        cluster.close()


@pytest.fixture(scope="module")
def source(clusters: Servers) -> Cluster:
    return clusters("milvus235")


@pytest.fixture(scope="module")
def docs(source: Cluster) -> Iterator[data.Spec]:
    spec = data.documents(f"t{uuid.uuid4().hex[:10]}__bulk", ROWS, 32)
    source.fill(spec)
    yield spec
    source.client().drop_collection(spec.name)


@pytest.fixture(scope="module")
def snapshot(tool: Tool, source: Cluster, docs: data.Spec, tmp_path_factory: pytest.TempPathFactory) -> FolderBucket:
    """Several parts in each of four partitions."""
    bucket = FolderBucket(tmp_path_factory.mktemp("bulk"))
    args = ("export", bucket.url("snap"), "--source", source.uri, "-c", docs.name, "--page-rows", "200", "--part-size", "64KiB")
    result = tool.run(*args, env=tokens(source=source))
    assert result.doc["totals"]["parts"] >= 8, result
    return bucket


# --- what 2.3.5 takes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [T.INT64, T.VARCHAR], ids=["int", "text"])
@pytest.mark.parametrize("kind", [T.FLOAT_VECTOR, T.BINARY_VECTOR], ids=["float", "binary"])
def test_every_type(
    tool: Tool, source: Cluster, target: Cluster, storage: Storage, s3_bucket: S3Bucket, unique: str, tmp_path: pathlib.Path,
    kind: T, key: T,
) -> None:  # fmt: skip
    """From a bucket, with every scalar type, arrays, JSON and dynamic fields; every value is compared."""
    name = f"{unique}__{kind.name.lower()}"
    spec = data.wide(name, data.ENGINES["milvus235"], key=key, vectors=[kind])
    found = [("default", spec)]
    fill(source, found)
    try:
        placed = [Placed(spec, ("default", name), ("default", name))]
        _, imported = move(
            tool, s3_bucket, source, target, placed, tmp_path, importing=storage.stage(unique), target_env=storage.OWN
        )
        assert imported.doc["via"] == "bulk"
        assert storage.staged(unique) == []
        url = s3_bucket.url("snap")
        env = tokens(target=target) | s3_bucket.env
        compared = tool.run("compare", url, "--target", target.uri, "--level", "full", "--load", env=env)
        assert compared.doc["status"] == "successful"
    finally:
        source.client().drop_collection(name)
        target.client().drop_collection(name)


def test_float16_is_for_inserts(
    tool: Tool, source: Cluster, target: Cluster, storage: Storage, folder_bucket: FolderBucket, unique: str
) -> None:
    """2.3.5 refuses it in Parquet; that is said before anything is made or staged."""
    name = f"{unique}__half"
    spec = data.wide(name, data.ENGINES["milvus235"], rows=20, vectors=[T.FLOAT16_VECTOR])
    source.fill(spec)
    try:
        url = folder_bucket.url("snap")
        tool.run("export", url, "--source", source.uri, "-c", name, env=tokens(source=source))
        env = tokens(target=target) | storage.OWN
        args = ("import", url, "--target", target.uri, *storage.stage(unique))
        for more in ([], ["--plan"]):
            refused = tool.run(*args, *more, env=env, code=exits.UNSUPPORTED)
            says(refused, "Float16Vector", "v_float16", "--via insert", name)
        assert name not in target.collections() and storage.staged(unique) == []
    finally:
        source.client().drop_collection(name)


def test_a_server_without_bulk_import(
    tool: Tool, clusters: Servers, storage: Storage, snapshot: FolderBucket, docs: data.Spec, unique: str
) -> None:
    lite = clusters("lite322b")
    args = ("import", snapshot.url("snap"), "--target", lite.uri, *storage.stage(unique), "--rename", f"{docs.name}={unique}")
    refused = tool.run(*args, env=storage.OWN, code=exits.UNSUPPORTED)
    says(refused, "no bulk import", "--via insert")
    assert storage.staged(unique) == []


# --- the whole way ------------------------------------------------------------------------------------------------


def test_auto_chooses_and_says_why(
    tool: Tool, clusters: Servers, target: Cluster, storage: Storage, snapshot: FolderBucket, docs: data.Spec, unique: str,
    tmp_path: pathlib.Path,
) -> None:  # fmt: skip
    """Without a stage, for little data and on servers that cannot: inserts. What was begun goes on the same way."""
    name, journal = f"{unique}__auto", tmp_path / "journal"
    stage = storage.stage(unique)[2:]
    args = ("import", snapshot.url("snap"), "--rename", f"{docs.name}={name}", "--via", "auto", "--plan", "--target")
    env = tokens(target=target) | storage.OWN
    for target_uri, more, why in [
        (target.uri, (), "neither `--stage` nor"),
        (target.uri, stage, "less than 4"),
        (clusters("lite322b").uri, stage, "no bulk import"),
    ]:
        doc = tool.run(*args, target_uri, *more, env=env).doc
        assert doc["via"] == "insert" and why in doc["via_reason"], doc
    text = tool.run(*args, target.uri, *stage, env=env, as_json=False).stdout
    assert "by insert: " in text and "less than 4" in text
    assert storage.staged(unique) == []

    begun = ("import", snapshot.url("snap"), "--target", target.uri, "--rename", f"{docs.name}={name}", "--journal", str(journal))
    begun += ("-j", "1")  # nothing else is being asked for when it is killed
    process = tool.start(*begun, *storage.stage(unique), env=env)
    try:
        asked = lambda: any(line["event"] == "asked" for line in journal_lines(journal))  # noqa: E731
        wait_for("a job", lambda: asked() or process.poll() is not None, timeout=120, every=0.002)
        end(process, signal.SIGKILL)
    finally:
        process.kill()
    refused = tool.run(*begun, "--via", "insert", env=env, code=exits.EXISTS)
    says(refused, "another route", "--via")
    result = tool.run(*begun, *stage, "--via", "auto", env=env)
    assert result.doc["via"] == "bulk" and "earlier run" in result.doc["via_reason"], result
    assert compare_rows(docs, target, name) == [] and storage.staged(unique) == []
    target.client().drop_collection(name)


def test_another_database_and_a_partition_key(
    tool: Tool, source: Cluster, target: Cluster, storage: Storage, folder_bucket: FolderBucket, unique: str
) -> None:
    """Rows arrive in the database that is meant, and where the server chooses the partitions."""
    database, name = f"{unique}_db", f"{unique}__keyed"
    rows = [{"id": n, "tenant": f"tenant {n % 7}", "v": [n / 8.0] * 8} for n in range(300)]
    schema = CollectionSchema(
        [
            FieldSchema("id", T.INT64, is_primary=True),
            FieldSchema("tenant", T.VARCHAR, max_length=50, is_partition_key=True),
            FieldSchema("v", T.FLOAT_VECTOR, dim=8),
        ]
    )
    keyed = data.Spec(name, schema, {"_default": rows}, {"v": ("L2", "AUTOINDEX")})
    plain = data.plain(f"{unique}__plain", 100, partitions=2)
    source.create_database(database)
    source.fill(keyed, database)
    source.fill(plain, database)
    # another collection of this name, which must stay empty
    target.client().create_collection(plain.name, schema=plain.schema)
    try:
        url = folder_bucket.url("snap")
        tool.run("export", url, "--source", source.uri, "-c", f"{database}.*", env=tokens(source=source))
        env = tokens(target=target) | storage.OWN
        tool.run("import", url, "--target", target.uri, *storage.stage(unique), "--load", env=env)
        assert compare_rows(plain, target, database=database) == []
        assert target.count(keyed, keyed.name, database) == len(rows)
        env = tokens(target=target)
        compared = tool.run("compare", url, "--target", target.uri, "--level", "full", env=env)
        assert compared.doc["status"] == "successful"
        assert target.client().get_collection_stats(plain.name)["row_count"] == 0
    finally:
        target.client().drop_collection(plain.name)
        for cluster in (source, target):
            for spec in (keyed, plain):
                cluster.client(database).drop_collection(spec.name)
            cluster.client().drop_database(database)


def test_a_server_with_local_folders(
    tool: Tool, source: Cluster, snapshot: FolderBucket, docs: data.Spec, unique: str, tmp_path: pathlib.Path
) -> None:
    """It takes paths, and a folder is the stage."""
    name, stage = f"{unique}__local", tmp_path / "stage"
    stage.mkdir()
    args = ("import", snapshot.url("snap"), "--target", source.uri, "--rename", f"{docs.name}={name}")
    tool.run(*args, "--via", "bulk", "--stage", f"file://{stage}", env=tokens(target=source))
    assert compare_rows(docs, source, name) == []
    assert [path for path in stage.rglob("*") if path.is_file()] == []
    source.client().drop_collection(name)


def test_the_server_copies(
    tool: Tool, source: Cluster, target: Cluster, storage: Storage, s3_bucket: S3Bucket, docs: data.Spec, unique: str
) -> None:
    """With one server and one set of credentials no part goes through this machine twice."""
    url = s3_bucket.url("snap")
    tool.run("export", url, "--source", source.uri, "-c", docs.name, env=tokens(source=source) | s3_bucket.env)
    name = f"{unique}__copied"
    args = ("import", url, "--target", target.uri, "--rename", f"{docs.name}={name}")
    args += ("--via", "bulk", "--stage", f"s3://{storage.bucket}/{unique}", "-vv")
    result = tool.run(*args, env=tokens(target=target) | s3_bucket.env)
    assert "sending the object instead" not in result.stderr
    assert compare_rows(docs, target, name) == [] and storage.staged(unique) == []
    target.client().drop_collection(name)


def test_a_damaged_part_is_found_before_the_first_job(
    tool: Tool, target: Cluster, storage: Storage, snapshot: FolderBucket, docs: data.Spec, unique: str
) -> None:
    """Of the same size, so that only its bytes tell; nothing is made on the target."""
    name = f"{unique}__damaged"
    key = snapshot.parts("snap")[-1]
    whole = snapshot.read("snap", key)
    snapshot.write("snap", key, whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    try:
        args = ("import", snapshot.url("snap"), "--target", target.uri, *storage.stage(unique), "--rename", f"{docs.name}={name}")
        result = tool.run(*args, env=tokens(target=target) | storage.OWN, code=exits.INTEGRITY)
        says(result, key)
        assert name not in target.collections()
    finally:
        snapshot.write("snap", key, whole)
    tool.run(*args, env=tokens(target=target) | storage.OWN)
    assert compare_rows(docs, target, name) == [] and storage.staged(unique) == []
    target.client().drop_collection(name)


# --- jobs that fail -----------------------------------------------------------------------------------------------


def test_another_bucket_than_the_server_s(
    tool: Tool, target: Cluster, storage: Storage, moto: str, snapshot: FolderBucket, docs: data.Spec, unique: str
) -> None:
    """The likeliest mistake: it is named, and after it is corrected the import goes on."""
    name = f"{unique}__elsewhere"
    other = Storage(moto)
    args = ("import", snapshot.url("snap"), "--target", target.uri, "--rename", f"{docs.name}={name}")
    env = tokens(target=target) | storage.OWN
    result = tool.run(*args, *other.stage(unique), env=env, code=exits.USAGE)
    says(result, "does not find", "--stage", "keeps its data in", other.bucket)
    assert len(other.staged(unique)) == len(snapshot.parts("snap")), "the copies are kept"
    tool.run(*args, *storage.stage(unique), env=env)
    assert compare_rows(docs, target, name) == [] and storage.staged(unique) == []
    target.client().drop_collection(name)


def test_a_bad_file_in_the_stage(
    tool: Tool, target: Cluster, storage: Storage, snapshot: FolderBucket, docs: data.Spec, unique: str, tmp_path: pathlib.Path
) -> None:
    """Somebody alters a copy after it was put there: its job fails, no row of it is in, and the same command again
    stages it anew and loads what is missing."""
    name, journal = f"{unique}__bad", tmp_path / "journal"
    args = ("import", snapshot.url("snap"), "--target", target.uri, *storage.stage(unique), "--rename", f"{docs.name}={name}")
    args += ("-j", "1", "--journal", str(journal), "--json")
    env = tokens(target=target) | storage.OWN
    process = tool.start(*args, env=env)
    try:
        asked = lambda: any(line["event"] == "asking" for line in journal_lines(journal))  # noqa: E731
        wait_for("the first job", lambda: asked() or process.poll() is not None, timeout=120, every=0.01)
        last = [line for line in journal_lines(journal) if line["event"] == "staged"][-1]
        key = next(key for key in storage.staged(unique) if key.endswith(last["file"]))
        whole = storage.read(key)
        storage.write(key, whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == exits.TEMPORARY, err.decode()
    error = json.loads(out)["error"]
    assert "was altered" in error["message"] and last["file"] in error["message"], error
    assert "same command" in error["hint"] and f"s3://{storage.bucket}/{unique}" in error["hint"], error
    kept = storage.staged(unique)
    assert kept and key not in kept, "the others are kept"
    result = tool.run(*args[:-1], env=env)
    assert result.doc["resumed_parts"] == len(snapshot.parts("snap")) - 1, result
    assert compare_rows(docs, target, name) == []
    assert storage.staged(unique) == [] and not journal.exists()
    target.client().drop_collection(name)


# --- kills --------------------------------------------------------------------------------------------------------


def jobs_of(target: Cluster, name: str) -> list[tuple[str, str]]:
    """What the server remembers of its jobs of a collection: state and file."""
    from pymilvus import connections, utility

    alias = f"bulk-{uuid.uuid4().hex}"
    connections.connect(alias, uri=target.uri, token=target.token)
    try:
        return [(task.state_name, str(task.files)) for task in utility.list_bulk_insert_tasks(collection_name=name, using=alias)]
    finally:
        connections.disconnect(alias)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "how, jobs",
    [
        # A kill at the wrong moment ends this server as a whole, so that these many are for `make soak`.
        pytest.param(signal.SIGKILL, "1", id="kill", marks=pytest.mark.skipif("SOAK" not in os.environ, reason="for make soak")),
        pytest.param(signal.SIGTERM, "4", id="term"),
    ],
)
@pytest.mark.timeout(900)
def test_ended_after_every_line(
    tool: Tool, target: Cluster, storage: Storage, snapshot: FolderBucket, docs: data.Spec, unique: str, tmp_path: pathlib.Path,
    how: signal.Signals, jobs: str,
) -> None:  # fmt: skip
    """Ended as soon as the journal has grown, again and again, until it is through: every part is loaded once.

    Killed only with one job at a time: Milvus 2.3.5 ends as a whole when a client vanishes while it asks how a job is,
    and with one job nothing is asked in the moment in which the journal grows. And killed only three times while a job
    is asked for: this server may run such a job twice, so the collection is then begun anew.
    """
    name, journal = f"{unique}__killed", tmp_path / "journal"
    args = ("import", snapshot.url("snap"), "--target", target.uri, *storage.stage(unique), "--rename", f"{docs.name}={name}")
    args += ("-j", jobs, "--journal", str(journal), "--json")
    env = tokens(target=target) | storage.OWN
    lines, kills, while_asking = 0, 0, 0

    def grown() -> bool:
        found = journal_lines(journal)
        spared = how == signal.SIGKILL and while_asking == 3
        return len(found) > lines and not (spared and found[-1]["event"] == "asking")

    while True:
        process = tool.start(*args, env=env)
        try:
            wait_for("a line", lambda: grown() or process.poll() is not None, timeout=240, every=0.001)
            if process.poll() is not None:
                break
            end(process, how)
        finally:
            process.kill()
        kills += 1
        found = journal_lines(journal)
        lines, while_asking = len(found), while_asking + (found[-1]["event"] == "asking")
    out, err = process.communicate()
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["status"] == "successful"
    assert kills > 10, f"ended only {kills} times"
    parts = len(snapshot.parts("snap"))
    complete = [file for state, file in jobs_of(target, name) if state == "Completed"]
    assert len(complete) == parts, f"{len(complete)} jobs loaded {parts} parts"
    assert len({file.rsplit("-", 1)[0] for file in complete}) == parts
    assert compare_rows(docs, target, name) == []
    assert storage.staged(unique) == [] and not journal.exists()
    target.client().drop_collection(name)


def test_a_resume_of_everything(
    tool: Tool, target: Cluster, storage: Storage, snapshot: FolderBucket, docs: data.Spec, unique: str, tmp_path: pathlib.Path
) -> None:
    """Killed when the last part is in: nothing is staged or loaded again."""
    name, journal = f"{unique}__resumed", tmp_path / "journal"
    args = ("import", snapshot.url("snap"), "--target", target.uri, *storage.stage(unique), "--rename", f"{docs.name}={name}")
    args += ("--journal", str(journal))
    env = tokens(target=target) | storage.OWN
    parts = len(snapshot.parts("snap"))
    process = tool.start(*args, env=env)
    try:
        loaded = lambda: sum(line["event"] == "complete" for line in journal_lines(journal))  # noqa: E731
        wait_for("the last part", lambda: loaded() == parts or process.poll() is not None, timeout=240, every=0.002)
        end(process, signal.SIGKILL)
    finally:
        process.kill()
    assert journal.exists()
    before = storage.staged(unique)
    assert len(before) == parts
    result = tool.run(*args, env=env)
    assert result.doc["resumed_parts"] == parts
    assert len(jobs_of(target, name)) == parts
    assert compare_rows(docs, target, name) == [] and storage.staged(unique) == []
    target.client().drop_collection(name)
