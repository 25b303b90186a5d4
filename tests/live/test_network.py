"""Networks and servers that go away: connections that are cut, ports that refuse, servers that are killed and start again.

What passes within two minutes is waited for; what does not ends with exit code 75, and the same command goes on. In the
end the rows are compared value by value.
"""

from __future__ import annotations

import os
import pathlib
import random
import threading
import time
import uuid
from typing import Iterator

import pytest

import data
import layout
import servers
import tool as exits
from attributes import remove
from buckets import FolderBucket, S3Bucket
from conftest import Servers
from moves import tokens
from oracle import Cluster, compare_rows
from proxy import Proxy
from tool import Result, Tool, text_now, wait_for

ROWS = 2400
CUTS = 12 if not os.environ.get("SOAK") else 200
SMALL = ("--page-rows", "60", "--part-size", "64KiB", "-j", "2")


@pytest.fixture(scope="module")
def source(clusters: Servers) -> Cluster:
    return clusters("milvus235")


@pytest.fixture(scope="module")
def docs(source: Cluster) -> Iterator[data.Spec]:
    spec = data.documents(f"t{uuid.uuid4().hex[:10]}__network", ROWS, 32)
    source.fill(spec)
    yield spec
    source.client().drop_collection(spec.name)


@pytest.fixture(scope="module")
def snapshot(tool: Tool, source: Cluster, docs: data.Spec, tmp_path_factory: pytest.TempPathFactory) -> FolderBucket:
    bucket = FolderBucket(tmp_path_factory.mktemp("network"))
    tool.run("export", bucket.url("snap"), "--source", source.uri, "-c", docs.name, *SMALL, env=tokens(source=source))
    return bucket


@pytest.fixture(autouse=True)
def leave_nothing(clusters: Servers, unique: str) -> Iterator[None]:
    yield
    for name in ("milvus235", "lite322b"):
        remove(clusters(name), unique)


def seeded() -> random.Random:
    seed = int(os.environ.get("SEED", 0)) or random.randrange(1 << 32)
    print(f"SEED={seed}")
    return random.Random(seed)


def until_done(tool: Tool, args: tuple[str, ...], env: dict[str, str]) -> tuple[Result, int]:
    """Runs a command until it succeeds; every failure must be one that passes. Gives the number of runs, too."""
    for runs in range(1, 30):
        result = tool.run(*args, env=env, code=None)
        if result.code == 0:
            return result, runs
        assert result.code == exits.TEMPORARY, result
        assert "same command" in (result.error["hint"] or ""), result
    raise AssertionError("it never ends")


class Trouble:
    """Cuts the connections of proxies at random moments while its block runs."""

    def __init__(self, rng: random.Random, *proxies: Proxy):
        self.rng, self.proxies, self.cuts, self.over = rng, proxies, 0, threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        while self.cuts < CUTS and not self.over.wait(self.rng.uniform(0.02, 0.4)):
            self.rng.choice(self.proxies).cut()
            self.cuts += 1

    def __enter__(self) -> "Trouble":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()


# --- connections that are cut -------------------------------------------------------------------------------------


def test_connections_that_are_cut_during_an_export(
    tool: Tool, source: Cluster, docs: data.Spec, s3_bucket: S3Bucket, tmp_path: pathlib.Path
) -> None:
    """Those to the server and those to the bucket."""
    with Proxy(source.uri, request_pause=0.005) as server, Proxy(s3_bucket.env["AWS_ENDPOINT_URL_S3"]) as bucket:
        env = tokens(source=source) | s3_bucket.env | {"AWS_ENDPOINT_URL_S3": bucket.uri}
        with Trouble(seeded(), server, bucket) as trouble:
            result, _ = until_done(tool, ("export", s3_bucket.url("snap"), "--source", server.uri, "-c", docs.name, *SMALL), env)
    assert trouble.cuts >= 3, "there was no trouble, so this shows nothing"
    assert result.doc["totals"]["rows"] == ROWS
    local = s3_bucket.download("snap", tmp_path)
    layout.whole(local)
    layout.check_collection(local, docs, "default")
    assert tool.run("verify", s3_bucket.url("snap"), "--level", "full", env=s3_bucket.env).doc["problems"] == []


@pytest.mark.parametrize("engine", ["milvus235", "lite322b"])
def test_connections_that_are_cut_during_an_import(
    tool: Tool, clusters: Servers, docs: data.Spec, snapshot: FolderBucket, unique: str, tmp_path: pathlib.Path, engine: str
) -> None:
    """Every insert whose reply is lost may or may not be in."""
    target, name = clusters(engine), f"{unique}__cut"
    with Proxy(target.uri, request_pause=0.02) as proxy:
        args = ("import", snapshot.url("snap"), "--target", proxy.uri, "--rename", f"{docs.name}={name}", "--journal", str(tmp_path / "journal"))
        with Trouble(seeded(), proxy) as trouble:
            until_done(tool, args, tokens(target=target))
    assert trouble.cuts >= 3, "there was no trouble, so this shows nothing"
    assert compare_rows(docs, target, name) == []
    assert target.count(docs, name) == ROWS


# --- ports that refuse ----------------------------------------------------------------------------------------------


def goes_away(proxy: Proxy, process, reached, seconds: float) -> None:
    wait_for("the middle", lambda: reached() or process.poll() is not None, every=0.001)
    assert process.poll() is None, process.communicate()
    proxy.go_away()
    time.sleep(seconds)
    assert process.poll() is None, process.communicate()
    proxy.come_back()


def test_a_source_that_refuses_connections_for_a_while(
    tool: Tool, source: Cluster, docs: data.Spec, folder_bucket: FolderBucket, tmp_path: pathlib.Path
) -> None:
    with Proxy(source.uri, request_pause=0.01) as proxy:
        args = ("export", folder_bucket.url("snap"), "--source", proxy.uri, "-c", docs.name, *SMALL, "--json")
        process = tool.start(*args, env=tokens(source=source))
        try:
            goes_away(proxy, process, lambda: any((folder_bucket.folder / "snap").glob("units/*.json")), 4)
            out, err = process.communicate(timeout=exits.TIMEOUT)
        finally:
            process.kill()
    assert process.returncode == 0, err.decode()
    local = folder_bucket.download("snap", tmp_path)
    layout.whole(local)
    layout.check_collection(local, docs, "default")


@pytest.mark.parametrize("engine", ["milvus235", "lite322b"])
def test_a_target_that_refuses_connections_for_a_while(
    tool: Tool, clusters: Servers, docs: data.Spec, snapshot: FolderBucket, unique: str, tmp_path: pathlib.Path, engine: str
) -> None:
    target, name, journal = clusters(engine), f"{unique}__away", tmp_path / "journal"
    with Proxy(target.uri, request_pause=0.02) as proxy:
        args = ("import", snapshot.url("snap"), "--target", proxy.uri, "--rename", f"{docs.name}={name}", "--journal", str(journal), "-j", "1", "--json")
        process = tool.start(*args, env=tokens(target=target))
        try:
            goes_away(proxy, process, lambda: "loaded" in text_now(journal), 4)
            out, err = process.communicate(timeout=exits.TIMEOUT)
        finally:
            process.kill()
    assert process.returncode == 0, err.decode()
    assert compare_rows(docs, target, name) == []
    assert target.count(docs, name) == ROWS


# --- servers that are killed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["milvus235", "lite322"])
def test_a_source_that_is_killed_and_starts_again(tool: Tool, engine: str, folder_bucket: FolderBucket, tmp_path: pathlib.Path) -> None:
    with servers.__dict__[engine]() as server:
        source = Cluster(engine, server.uri, server.token)
        spec = data.documents("docs", ROWS, 32)
        source.fill(spec)
        source.client().flush("docs")
        with Proxy(server.uri, request_pause=0.01) as proxy:
            args = ("export", folder_bucket.url("snap"), "--source", proxy.uri, *SMALL)
            process = tool.start(*args, "--json", env=tokens(source=source))
            try:
                wait_for("a unit", lambda: any((folder_bucket.folder / "snap").glob("units/*.json")) or process.poll() is not None, every=0.001)
                assert process.poll() is None, process.communicate()
                server.crash()
                time.sleep(1)
                server.again()
                out, err = process.communicate(timeout=exits.TIMEOUT)
            finally:
                process.kill()
            server.wait()
            if engine == "lite322":  # comes back with everything released, which it may say of the last page
                assert process.returncode == exits.TEMPORARY and "load it, then run the same command again" in err.decode(), err.decode()
                source.client().load_collection("docs")
                result = tool.run(*args)
                assert result.doc["reused_units"] > 0
            else:  # loads again by itself what was loaded
                assert process.returncode == 0, err.decode()
    local = folder_bucket.download("snap", tmp_path)
    layout.whole(local)
    layout.check_collection(local, spec, "default")


@pytest.mark.parametrize("engine", ["milvus235", "lite322"])
def test_a_target_that_is_killed_and_starts_again(
    tool: Tool, docs: data.Spec, snapshot: FolderBucket, tmp_path: pathlib.Path, engine: str
) -> None:
    """Rows that it had acknowledged may be gone with it. Either they are all there, or the import does not succeed."""
    journal = tmp_path / "journal"
    with servers.__dict__[engine]() as server:
        target = Cluster(engine, server.uri, server.token)
        with Proxy(server.uri, request_pause=0.02) as proxy:
            args = ("import", snapshot.url("snap"), "--target", proxy.uri, "--journal", str(journal), "-j", "1")
            process = tool.start(*args, "--json", env=tokens(target=target))
            try:
                wait_for("some parts", lambda: text_now(journal).count('"loaded"') > 3 or process.poll() is not None, every=0.001)
                assert process.poll() is None, process.communicate()
                server.crash()
                time.sleep(1)
                server.again()
                out, err = process.communicate(timeout=exits.TIMEOUT)
            finally:
                process.kill()
            server.wait()
            print(process.returncode, err.decode())
            if process.returncode == exits.TEMPORARY:
                until_done(tool, args, tokens(target=target))
            else:
                assert process.returncode == 0
        assert compare_rows(docs, target, docs.name) == []
        assert target.count(docs, docs.name) == ROWS
        target.close()
