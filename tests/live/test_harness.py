"""The harness itself: the servers hold what the oracle puts in, and the oracle notices when they do not."""

from __future__ import annotations

import copy
import os
import pathlib
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from pymilvus import DataType as T

import data
import servers
from conftest import Servers
from oracle import compare_rows, compare_shape, differences, expected_rows

ENGINES = ["milvus235", "lite251", "lite322"]


def spoil(value):
    """The smallest change of a value that must be noticed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, float):
        for form, bits in (("<f", "<I"), ("<d", "<Q")):  # the last bit, of whichever width holds the value exactly
            if abs(value) <= data.F32_MAX and struct.unpack(form, struct.pack(form, value))[0] == value or form == "<d":
                return struct.unpack(form, struct.pack(bits, struct.unpack(bits, struct.pack(form, value))[0] ^ 1))[0]
    if isinstance(value, str):
        return value + " "
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, np.ndarray):
        return np.frombuffer(spoil(value.tobytes()), dtype=value.dtype)
    if isinstance(value, list):
        return [spoil(value[0])] + value[1:]
    if isinstance(value, dict):
        first = next(iter(value))
        return {**value, first: value[first] * 2 if isinstance(first, int) else "changed"}
    raise TypeError(type(value))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("key", [T.INT64, T.VARCHAR], ids=["int64", "varchar"])
def test_what_is_put_in_comes_out(clusters: Servers, unique: str, engine: str, key: T) -> None:
    cluster = clusters(engine)
    spec = data.wide(f"{unique}__wide", cluster.engine, rows=200, key=key)
    cluster.fill(spec)
    assert compare_rows(spec, cluster) == []
    assert compare_shape(spec, cluster, cluster) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_every_changed_value_is_noticed(clusters: Servers, unique: str, engine: str) -> None:
    """A copy with one value changed in every column, in rows of their own; each must be reported, and only those."""
    cluster = clusters(engine)
    spec = data.wide(f"{unique}__wide", cluster.engine, rows=200)
    copied = copy.deepcopy(spec)
    wanted = set()
    table = [row for rows in copied.rows.values() for row in rows]
    columns = [f.name for f in spec.schema.fields if f.name != spec.key]
    for n, column in enumerate(columns):
        # a row of its own for every column, past those that hold the extremes
        row = next(r for r in table[100 + 2 * n :] if isinstance(r[column], np.ndarray) or r[column] not in ([], {}))
        row[column] = spoil(row[column])
        wanted.add((row[spec.key], column))
    table[199]["a key outside the schema"] = 1
    wanted.add((table[199][spec.key], "$meta"))
    cluster.fill(copied)

    assert len(columns) < 45
    found = differences(expected_rows(spec), cluster.rows(copied), "copy", most=1000)
    assert len(found) == len(wanted), "\n".join(found)
    for key, column in wanted:
        assert any(f"key {key!r}, {column}:" in line for line in found), (key, column, found)


@pytest.mark.parametrize("engine", ENGINES)
def test_missing_and_surplus_rows_are_noticed(clusters: Servers, unique: str, engine: str) -> None:
    cluster = clusters(engine)
    spec = data.plain(f"{unique}__rows", 50)
    copied = copy.deepcopy(spec)
    gone = copied.rows["_default"].pop(7)
    copied.rows["_default"].append({**gone, "id": 5000})
    cluster.fill(copied)
    found = compare_rows(spec, cluster)
    assert any("1 rows are missing, such as [7]" in line for line in found), found
    spec.rows["_default"].pop(7)
    assert any("count(*) is 50, wanted 49" in line for line in compare_rows(spec, cluster))


def test_a_changed_shape_is_noticed(clusters: Servers, unique: str) -> None:
    cluster = clusters("milvus235")
    spec = data.plain(f"{unique}__a", 10, partitions=2, aliases=[f"{unique}_alias"])
    other = data.plain(f"{unique}__b", 10, metric="IP")
    other.schema.fields[1].params["max_length"] = 101
    cluster.fill(spec), cluster.fill(other)
    found = "\n".join(compare_shape(spec, cluster, cluster, name=other.name))
    for what in ("field differs", "partitions differ", "metrics differ", "aliases differ"):
        assert what in found, found


def test_servers_end_with_the_process_that_started_them(tmp_path: pathlib.Path) -> None:
    """Also when it is killed, so that an aborted run leaves nothing behind."""
    script = (
        f"import sys, time; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); import servers\n"
        "s = servers.lite251().start(); print(s.pid, s.folder, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    pid, folder = process.stdout.readline().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")
    servers.shutil.rmtree(folder, ignore_errors=True)


def test_a_server_that_cannot_start_says_why(tmp_path: pathlib.Path) -> None:
    def prepare(data: pathlib.Path) -> servers.Launch:
        argv = ["/bin/sh", "-c", "echo no room for me >&2; exit 3"]
        return servers.Launch(argv, data, "http://127.0.0.1:1", lambda: servers.socket.create_connection(("127.0.0.1", 1)))

    with pytest.raises(servers.ServerError, match="(?s)ended by itself with code 3.*no room for me"):
        servers.Server("broken", prepare).start()
