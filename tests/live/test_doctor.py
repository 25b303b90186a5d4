"""`doctor` before an export and before an import, on servers and buckets that are in order and on some that are not."""

from __future__ import annotations

import pathlib
import re
import socket
from typing import Iterator

import grpc
import pytest
from pymilvus import MilvusClient, MilvusException

import data
import tool as exits
from buckets import Bucket, FolderBucket, S3Bucket
from conftest import Servers
from moves import nothing_changes, tokens
from oracle import Cluster
from servers import GRPC_OPTIONS
from tool import Result, Tool, wait_for


@pytest.fixture
def source(clusters: Servers, unique: str) -> Cluster:
    """A Milvus 2.3.5 with a database of its own, in which one collection is loaded."""
    cluster = clusters("milvus235")
    cluster.create_database(unique)
    cluster.fill(data.plain("docs", 30, partitions=2), unique)
    return cluster


def verdicts(result: Result, about: str) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in result.doc["checks"] if check["about"] == about}


def red(result: Result, about: str, check: str, code: str) -> dict:
    """The one check that is red; it has a fix."""
    found = [c for c in result.doc["checks"] if c["verdict"] == "red"]
    assert [(c["about"], c["check"], c["code"]) for c in found] == [(about, check, code)], result
    assert found[0]["fix"] and result.doc["code"] == code, result
    return found[0]


def test_all_is_well_before_an_export(tool: Tool, source: Cluster, unique: str, bucket: Bucket) -> None:
    env = tokens(source=source) | bucket.env
    before = bucket.stamps()
    result = tool.run("doctor", bucket.url("snap"), "--source", f"{source.uri}/{unique}", env=env)
    found = verdicts(result, "source")
    assert "red" not in found.values(), result
    assert {"name", "network", "encryption", "version", "credentials", "privileges", "load states", "quotas"} <= set(found), result
    place = verdicts(result, "snapshot")
    assert {name: place[name] for name in ("put", "create-only", "get", "list", "delete", "place")} == dict.fromkeys(
        ("put", "create-only", "get", "list", "delete", "place"), "good"
    ), result
    assert ("clock" in place) == (bucket.kind == "s3"), result
    assert bucket.stamps() == before
    text = tool.run("doctor", bucket.url("snap"), "--source", f"{source.uri}/{unique}", env=env, as_json=False)
    assert text.stdout.startswith("source\n  ok    name") and "\n\nsnapshot\n" in text.stdout, text
    # What it said is so: the export goes through.
    tool.run("export", bucket.url("snap"), "--source", f"{source.uri}/{unique}", env=env)
    again = tool.run("doctor", bucket.url("snap"), "--source", f"{source.uri}/{unique}", env=env, code=exits.EXISTS)
    red(again, "snapshot", "place", "MH-PREFIX-TAKEN")


def test_all_is_well_before_an_import(tool: Tool, quiet_target: Cluster, small: Bucket) -> None:
    with nothing_changes(quiet_target, small):
        result = tool.run("doctor", small.url("snap"), "--target", quiet_target.uri, env=small.env)
    assert {"get", "digest", "list"} <= set(verdicts(result, "snapshot")), result


def test_names_that_are_taken(tool: Tool, clusters: Servers, unique: str, folder_bucket: FolderBucket) -> None:
    server = clusters("lite322")
    spec = data.plain(unique, 20, aliases=[f"{unique}_live"])
    server.fill(spec)
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", server.uri, "-c", unique)

    def names(code: int) -> dict:
        result = tool.run("doctor", url, "--target", server.uri, code=code)
        return next(c for c in result.doc["checks"] if (c["about"], c["check"]) == ("target", "names"))

    taken = names(exits.EXISTS)
    assert (taken["verdict"], taken["code"]) == ("red", "MH-TARGET-TAKEN") and "`--rename`" in taken["fix"], taken
    assert taken["says"] == f"taken already: default.{unique}, alias default.{unique}_live", taken
    server.client().drop_alias(f"{unique}_live")
    server.client().drop_collection(unique)
    free = names(0)
    assert (free["verdict"], free["says"]) == ("good", "free for what the snapshot has: 1 collection"), free


def test_a_wrong_password(tool: Tool, source: Cluster) -> None:
    env = {"MILVUS_HANDOFF_SOURCE_TOKEN": "root:not-the-password"}
    result = tool.run("doctor", "--source", source.uri, env=env, code=exits.DENIED)
    assert "the source refuses the token in MILVUS_HANDOFF_SOURCE_TOKEN" in red(result, "source", "credentials", "MH-DENIED")["fix"]
    result = tool.run("doctor", "--target", source.uri, env={"MILVUS_HANDOFF_TARGET_TOKEN": ""}, code=exits.DENIED)
    assert "no token was given for the target" in red(result, "target", "credentials", "MH-DENIED")["fix"], result


def test_nobody_listens(tool: Tool) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        result = tool.run("doctor", "--target", f"http://127.0.0.1:{held.getsockname()[1]}", code=exits.TEMPORARY)
    red(result, "target", "network", "MH-UNREACHABLE")


def test_a_name_that_does_not_exist(tool: Tool) -> None:
    result = tool.run("doctor", "--source", "http://milvus.invalid:19530", code=exits.TEMPORARY)
    red(result, "source", "name", "MH-UNREACHABLE")


def test_something_else_listens(tool: Tool, moto: str) -> None:
    result = tool.run("doctor", "--source", moto, code=None)
    assert result.code in (exits.USAGE, exits.TEMPORARY), result
    assert verdicts(result, "source")["network"] == "good", result
    tls = tool.run("doctor", "--source", moto.replace("http://", "https://"), code=exits.USAGE)
    red(tls, "source", "encryption", "MH-TLS")


def test_what_is_not_loaded(tool: Tool, source: Cluster, unique: str) -> None:
    source.client(unique).release_collection("docs")
    result = tool.run("doctor", "--source", f"{source.uri}/{unique}", env=tokens(source=source), code=exits.EXISTS)
    assert f"{unique}.docs" in red(result, "source", "load states", "MH-NOT-LOADED")["says"], result


def test_no_such_bucket(tool: Tool, moto: str, unique: str) -> None:
    nowhere = S3Bucket(moto, unique, create=False)
    result = tool.run("doctor", nowhere.url("snap"), env=nowhere.env, code=exits.NOT_FOUND)
    red(result, "snapshot", "bucket", "MH-NO-BUCKET")
    result = tool.run("doctor", f"file:///does-not-exist/{unique}/snap", code=exits.NOT_FOUND)
    red(result, "snapshot", "bucket", "MH-NO-BUCKET")


@pytest.fixture
def somebody(source: Cluster, unique: str) -> Iterator[str]:
    """A user who may look for databases and collections, and nothing else."""
    root = MilvusClient(uri=source.uri, token=source.token, grpc_options=GRPC_OPTIONS)
    name = f"u{unique}"[:30]
    root.create_user(name, "some-secret-1")
    root.create_role(name)
    root.grant_privilege(name, "Global", "ListDatabases", "*")
    root.grant_privilege(name, "Global", "DescribeCollection", "*", db_name=unique)
    root.grant_privilege(name, "Global", "ShowCollections", "*", db_name=unique)
    root.grant_role(name, name)
    theirs = MilvusClient(uri=source.uri, token=f"{name}:some-secret-1", grpc_options=GRPC_OPTIONS)

    def may() -> bool:
        try:
            return bool(theirs.list_databases())
        except (MilvusException, grpc.RpcError):  # pymilvus passes a denial on as it is
            return False

    wait_for("what was granted to be known everywhere", may)
    theirs.close()
    yield f"{name}:some-secret-1"
    root.drop_user(name)
    root.close()


def test_privileges_that_are_missing(tool: Tool, source: Cluster, unique: str, somebody: str) -> None:
    """Nothing is changed by asking, whoever asks."""
    uri = f"{source.uri}/{unique}"
    before = source.everything()[unique]
    result = tool.run("doctor", "--target", uri, env={"MILVUS_HANDOFF_TARGET_TOKEN": somebody}, code=exits.DENIED)
    says = red(result, "target", "privileges", "MH-DENIED")["says"]
    listed = says.removeprefix("missing: ").split(", ")
    for privilege in ("CreateCollection (Global)", "CreateIndex (Collection)", "Insert (Collection)", "Flush (Collection)",
                      "GetFlushState (Collection)", "Load (Collection)", "Release (Collection)"):
        assert privilege in listed, result
    result = tool.run("doctor", "--target", uri, env=tokens(target=source))
    assert verdicts(result, "target")["privileges"] == "good", result
    result = tool.run("doctor", "--source", uri, env={"MILVUS_HANDOFF_SOURCE_TOKEN": somebody}, code=exits.DENIED)
    listed = red(result, "source", "privileges", "MH-DENIED")["says"].removeprefix("missing: ").split(", ")
    assert {"Query (Collection)", "ListAliases (Global)"} <= set(listed), result
    assert next(c["verdict"] for c in result.doc["checks"] if c["check"] == "load states") == "note", result
    assert source.everything()[unique] == before


def grant(root: MilvusClient, role: str, database: str, privilege: str, kind: str) -> None:
    root.grant_privilege(role, kind, privilege, "*", db_name=database)


def test_what_is_listed_as_missing_is_all_that_is_missing(tool: Tool, source: Cluster, unique: str, somebody: str, folder_bucket: FolderBucket) -> None:
    """Granted by the very names that are listed, until nothing is: then the export and the import go through."""
    uri = f"{source.uri}/{unique}"
    role = somebody.split(":")[0]
    root = MilvusClient(uri=source.uri, token=source.token, grpc_options=GRPC_OPTIONS)
    env = {"MILVUS_HANDOFF_SOURCE_TOKEN": somebody, "MILVUS_HANDOFF_TARGET_TOKEN": somebody}

    def missing(side: str) -> list[str]:
        result = tool.run("doctor", f"--{side}", uri, env=env, code=None)
        reds = [c for c in result.doc["checks"] if c["verdict"] == "red"]
        assert all(c["check"] == "privileges" and c["says"].startswith("missing: ") for c in reds), result
        return [name for c in reds for name in c["says"].removeprefix("missing: ").split(", ")]

    granted: set[str] = set()

    def nothing_is_missing(side: str) -> bool:
        listed = missing(side)
        for one in set(listed) - granted:
            privilege, kind = re.fullmatch(r"([A-Za-z]+) \((Global|Collection)\)", one).groups()
            grant(root, role, unique, privilege, kind)
            granted.add(one)
        return not listed

    for side in ("source", "target"):
        wait_for("what was granted to be known everywhere", lambda: nothing_is_missing(side), timeout=120)
    root.close()
    url = folder_bucket.url("snap")
    tool.run("export", url, "--source", uri, env=env)
    tool.run("import", url, "--target", uri, "--rename", f"{unique}.docs={unique}.copy", "--journal", str(folder_bucket.folder / "journal"), env=env)
