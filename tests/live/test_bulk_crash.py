"""Milvus 2.3.5 crashes while it runs the jobs of a bulk import.

It forgets no job: those that ran are failed when it is up again. One that waited for its turn stands still, until the
server itself gives it up, by default after 15 minutes (`rootCoord.importTaskExpiration`; here after half a one, and it
looks every two). In a file of its own, since that takes its time.
"""

from __future__ import annotations

import os
import pathlib
import signal

import pytest

import data
import servers
import tool as exits
from buckets import FolderBucket
from conftest import Servers
from moves import tokens
from oracle import Cluster, compare_rows
from stages import Storage, journal_lines
from tool import Tool, end, wait_for

ROWS = 2400  # in four partitions, each of several parts
GIVES_UP = {"  importTaskExpiration: 900": "  importTaskExpiration: 30"}


@pytest.mark.parametrize(
    "killed",
    [
        pytest.param(False, id="waits"),
        pytest.param(True, id="killed", marks=pytest.mark.skipif("SOAK" not in os.environ, reason="for make soak")),
    ],
)
@pytest.mark.timeout(1500)
def test_the_server_crashes_during_jobs(
    tool: Tool, clusters: Servers, moto: str, folder_bucket: FolderBucket, unique: str, tmp_path: pathlib.Path, killed: bool
) -> None:
    """It is started again while the import waits for it, or after the import was killed as well. The same command goes on,
    or begins the collection anew, until every row is there once."""
    source, spec = clusters("milvus235"), data.documents(f"{unique}__crash", ROWS, 32)
    url, storage, journal = folder_bucket.url("snap"), Storage(moto), tmp_path / "journal"
    source.fill(spec)
    try:
        args = ("export", url, "--source", source.uri, "-c", spec.name, "--page-rows", "200", "--part-size", "64KiB")
        parts = tool.run(*args, env=tokens(source=source)).doc["totals"]["parts"]
    finally:
        source.client().drop_collection(spec.name)
    with servers.milvus235(moto, storage.bucket, GIVES_UP) as server:
        target = Cluster("milvus235", server.uri, server.token)
        args = ("import", url, "--target", target.uri, *storage.stage(unique), "--journal", str(journal), "--json")
        env = tokens(target=target) | storage.OWN

        def complete() -> int:
            return sum(line["event"] == "complete" for line in journal_lines(journal))

        process = tool.start(*args, "-j", "3", env=env)
        try:
            wait_for("the first part", lambda: complete() or process.poll() is not None, timeout=240, every=0.002)
            assert process.poll() is None and complete() < parts, process.communicate()
            server.crash()
            if killed:
                end(process, signal.SIGKILL)
            server.again().wait()
            process.communicate(timeout=600)
        finally:
            process.kill()
        codes = [process.returncode]
        assert killed or codes[0] in (0, exits.TEMPORARY), codes
        while codes[-1] != 0 and len(codes) < 6:
            process = tool.start(*args, env=env)
            try:
                _, err = process.communicate(timeout=600)
            finally:
                process.kill()
            codes.append(process.returncode)
            assert codes[-1] in (0, exits.TEMPORARY), err.decode()
        assert codes[-1] == 0, codes
        assert compare_rows(spec, target, spec.name) == []
        assert target.count(spec, spec.name) == ROWS
        assert storage.staged(unique) == [] and not journal.exists()
        target.close()
