"""Fixtures of the live tests: the tool, the servers, and the buckets.

Servers are shared by the whole run. Under pytest-xdist the controlling process starts them, side by side, and tells
its workers where they are; without it, each starts when the first test asks for it. (`--dist loadfile`, because
tests of one file share what is dear to make.) Tests share servers, so every
test puts a name of its own (fixture `unique`) into whatever it creates there. Tests that look at a server as a whole
take `quiet_source` and `quiet_target`, which only one worker uses.

A missing binary or environment fails the run with a hint; nothing is ever skipped for that.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
import uuid
from typing import Iterator

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pytest.register_assert_rewrite("layout", "moves", "oracle", "tool")

import data  # noqa: E402
import servers  # noqa: E402
from buckets import Bucket, FolderBucket, S3Bucket  # noqa: E402
from oracle import Cluster  # noqa: E402
from tool import Tool  # noqa: E402

# name in the tests -> how to start it. The second Lite 2.5.1 is another file: it holds one database only.
POOL = {
    "milvus235": servers.milvus235,
    "lite251": servers.lite251,
    "lite251b": servers.lite251,
    "lite322": servers.lite322,
    "lite322b": servers.lite322,
    "moto": servers.moto_s3,
}


class Pool:
    """The servers of this run, started when asked for."""

    def __init__(self, known: dict[str, tuple[str, str]] | None = None):
        self.known = dict(known or {})
        self.running: list[servers.Server] = []

    def start_all(self) -> None:
        started = servers.start_all(*[make() for make in POOL.values()])
        self.running += started
        self.known = {name: (server.uri, server.token) for name, server in zip(POOL, started)}

    def get(self, name: str) -> tuple[str, str]:
        if name not in self.known:
            server = POOL[name]().start()
            self.running.append(server)
            self.known[name] = (server.uri, server.token)
        return self.known[name]

    def stop(self) -> None:
        for server in self.running:
            server.stop()
        self.running.clear()


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        config.pool = Pool(config.workerinput["servers"])
    else:
        config.pool = Pool()
        if getattr(config.option, "numprocesses", None) and not config.option.collectonly:
            try:
                config.pool.start_all()
            except servers.ServerError as error:
                pytest.exit(str(error), returncode=1)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    node.workerinput["servers"] = node.config.pool.known


def pytest_unconfigure(config: pytest.Config) -> None:
    if pool := getattr(config, "pool", None):
        pool.stop()


# --- the tool -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    path = os.environ.get("MILVUS_HANDOFF_BIN")
    if not path:
        pytest.fail("MILVUS_HANDOFF_BIN is not set; run: make test, or set it to target/debug/milvus-handoff", pytrace=False)
    binary = pathlib.Path(path).resolve()
    if not os.access(binary, os.X_OK):
        pytest.fail(f"MILVUS_HANDOFF_BIN={path} is not a program; run: cargo build", pytrace=False)
    tool = Tool(binary, tmp_path_factory.mktemp("home"))
    yield tool
    shutil.rmtree(tool.spool)


# --- servers ------------------------------------------------------------------------------------------------------


class Servers:
    """Clusters by name: `servers("milvus235")`."""

    def __init__(self, pool: Pool):
        self._pool = pool
        self._clusters: dict[str, Cluster] = {}

    def __call__(self, name: str) -> Cluster:
        if name not in self._clusters:
            uri, token = self._pool.get(name)
            self._clusters[name] = Cluster(name.rstrip("b"), uri, token, shared=True)
        return self._clusters[name]


@pytest.fixture(scope="session")
def clusters(pytestconfig: pytest.Config) -> Servers:
    return Servers(pytestconfig.pool)


@pytest.fixture(scope="session")
def moto(pytestconfig: pytest.Config) -> str:
    return pytestconfig.pool.get("moto")[0]


def _quiet() -> Iterator[Cluster]:
    with servers.lite322() as server:
        cluster = Cluster("lite322", server.uri)
        yield cluster
        cluster.close()


@pytest.fixture(scope="module")
def quiet_source() -> Iterator[Cluster]:
    """A Lite 3.2.2 that only the tests of one file use."""
    yield from _quiet()


@pytest.fixture(scope="module")
def quiet_target() -> Iterator[Cluster]:
    """Another such one; tests leave it as empty as they found it."""
    yield from _quiet()


# --- names and places ---------------------------------------------------------------------------------------------


@pytest.fixture
def unique() -> str:
    """A prefix for everything that a test creates on a shared server."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def folder_bucket(tmp_path: pathlib.Path) -> Iterator[FolderBucket]:
    bucket = FolderBucket(tmp_path / "bucket")
    yield bucket
    bucket.remove()


@pytest.fixture
def s3_bucket(moto: str, unique: str) -> S3Bucket:
    return S3Bucket(moto, unique)


@pytest.fixture(params=["file", "s3"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    return request.getfixturevalue({"file": "folder_bucket", "s3": "s3_bucket"}[request.param])


@pytest.fixture(scope="session")
def small_snapshot(tool: Tool, clusters: Servers, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A small committed snapshot in a folder, made once by the tool; tests copy it before they damage it.

    It holds small.one (two partitions, an alias) and small.two.
    """
    folder = tmp_path_factory.mktemp("small")
    cluster = clusters("lite322")
    database = f"t{uuid.uuid4().hex[:10]}"
    cluster.create_database(database)
    cluster.fill(data.plain("one", 200, partitions=2), database)
    cluster.fill(data.plain("two", 50), database)
    tool.run("export", f"file://{folder}/snapshot", "--source", cluster.uri, "-c", f"{database}.*")
    (folder / "database").write_text(database)
    return folder / "snapshot"


@pytest.fixture
def small_database(small_snapshot: pathlib.Path) -> str:
    """The database whose collections the small snapshot holds."""
    return (small_snapshot.parent / "database").read_text()


@pytest.fixture
def small(small_snapshot: pathlib.Path, bucket: Bucket) -> Bucket:
    """A copy of the small snapshot in the bucket, under the name `snap`."""
    bucket.upload("snap", small_snapshot)
    return bucket


@pytest.fixture
def small_folder(small_snapshot: pathlib.Path, folder_bucket: FolderBucket) -> FolderBucket:
    shutil.copytree(small_snapshot, folder_bucket.folder / "snap")
    return folder_bucket
