"""The whole way of some collections: export, checks without the tool, import, comparison; and what must not change."""

from __future__ import annotations

import contextlib
import pathlib
from dataclasses import dataclass
from typing import Iterator

from pymilvus import DataType as T

import data
import layout
from buckets import Bucket
from oracle import Cluster, Part, compare_rows, compare_shape
from tool import Result, Tool


@dataclass
class Placed:
    """A collection, where it is on the source and where it should be on the target."""

    spec: data.Spec
    source: tuple[str, str]
    target: tuple[str, str]


def tokens(source: Cluster | None = None, target: Cluster | None = None) -> dict[str, str]:
    env = {}
    if source and source.token:
        env["MILVUS_HANDOFF_SOURCE_TOKEN"] = source.token
    if target and target.token:
        env["MILVUS_HANDOFF_TARGET_TOKEN"] = target.token
    return env


def collections(pair: data.Engine, unique: str, with_array_text: bool = True) -> list[tuple[str, data.Spec]]:
    """(database, collection) for one pair of servers."""
    other = f"{unique}_db" if pair.databases else "default"
    alias = [f"{unique}_alias", f"{unique}_other_alias"] if pair.aliases else []
    found = []
    vectors = list(pair.vectors)
    first = vectors if pair.many_vectors else vectors[:1]
    more = dict(array_text=with_array_text)
    found.append(("default", data.wide(f"{unique}__int", pair, vectors=first, aliases=alias, **more)))
    found.append((other, data.wide(f"{unique}__text", pair, key=T.VARCHAR, vectors=vectors[-1:], **more)))
    found.append((other, data.wide(f"{unique}__nothing", pair, rows=0, vectors=vectors[:1], dynamic=False, **more)))
    if not pair.many_vectors:
        for kind in vectors[1:]:
            name = f"{unique}__{kind.name.lower()}"
            found.append((other, data.wide(name, pair, rows=60, vectors=[kind], partitions=1, **more)))
    return found


def move(
    tool: Tool,
    bucket: Bucket,
    source: Cluster,
    target: Cluster,
    placed: list[Placed],
    tmp_path: pathlib.Path,
    export: tuple[str, ...] = (),
    importing: tuple[str, ...] = (),
    target_env: dict[str, str] | None = None,
) -> tuple[Result, Result]:
    """Export, check, import, and compare everything."""
    url = bucket.url("snap")
    patterns = [arg for p in placed for arg in ("-c", ".".join(p.source))]
    exported = tool.run("export", url, "--source", source.uri, *patterns, *export, env=tokens(source=source) | bucket.env)
    check_export(exported, placed, source)

    verified = tool.run("verify", url, "--level", "full", env=bucket.env)
    assert verified.doc["problems"] == [] and verified.doc["level"] == "full", verified
    folder = bucket.download("snap", tmp_path / "downloaded")
    layout.whole(folder)
    layout.sums(folder)
    for p in placed:
        parts = layout.check_collection(folder, p.spec, *p.source)
        described = next(c for c in exported.doc["collections"] if (c["database"], c["name"]) == p.source)
        assert described["parts"] == parts

    digest = exported.doc["snapshot"]["commit_sha256"]
    imported = tool.run(
        "import", url, "--target", target.uri, "--expect", digest, *importing,
        env=tokens(target=target) | bucket.env | (target_env or {}),
    )  # fmt: skip
    check_import(imported, placed, target)
    for p in placed:
        database, name = p.target
        wrong = compare_shape(p.spec, source, target, name, (p.source[0], database))
        if "--load" not in importing:
            assert not target.loaded(name, database), f"{name} is loaded, and nobody asked for it"
        wrong += compare_rows(p.spec, target, name, database)
        wrong += compare_rows(p.spec, source, p.source[1], p.source[0])
        assert not wrong, "\n".join(wrong)
        check_indexes(p, target)
    return exported, imported


def check_export(result: Result, placed: list[Placed], source: Cluster) -> None:
    doc = result.doc
    assert doc["status"] == "successful"
    assert doc["snapshot"]["commit_sha256"].startswith("sha256:")
    assert {(c["database"], c["name"]) for c in doc["collections"]} == {p.source for p in placed}
    for p in placed:
        described = next(c for c in doc["collections"] if (c["database"], c["name"]) == p.source)
        rows = {partition: len(rows) for partition, rows in p.spec.rows.items()}
        assert described["rows"] == described["server_count"] == sum(rows.values()), result
        # none on a server that has no partitions
        wanted = rows if source.engine.partitions else {}
        assert {x["name"]: x["rows"] for x in described["partitions"]} == wanted, result
        assert described["consistency"] == "checked", "none of these servers can pin"
        assert described["duplicate_keys"] == 0
    totals = doc["totals"]
    assert totals["collections"] == len(placed)
    for what in ("rows", "parts", "bytes"):
        assert totals[what] == sum(c[what] for c in doc["collections"]), what


def check_import(result: Result, placed: list[Placed], target: Cluster) -> None:
    doc = result.doc
    assert doc["status"] == "successful"
    found = {(c["target"]["database"], c["target"]["name"]): c for c in doc["collections"]}
    assert set(found) == {p.target for p in placed}
    for p in placed:
        described = found[p.target]
        assert (described["source"]["database"], described["source"]["name"]) == p.source
        assert described["rows"] == described["server_count"] == len(p.spec.all_rows), result
        assert described["loaded"] == target.loaded(p.target[1], p.target[0]), result
        metrics = {i["field"]: i["metric_type"] for i in described["indexes"]}
        assert metrics == {column: metric for column, (metric, _) in p.spec.indexes.items()}, result


def check_indexes(p: Placed, target: Cluster) -> None:
    """AUTOINDEX on every vector field, or what the server wants instead; built."""
    for column, index in target.indexes(p.target[1], p.target[0]).items():
        kind = next(f.dtype for f in p.spec.schema.fields if f.name == column)
        wanted = target.engine.vectors[kind][1]
        if kind == T.SPARSE_FLOAT_VECTOR:
            assert index["index_type"] in ("AUTOINDEX", "SPARSE_INVERTED_INDEX", "SPARSE_WAND"), (column, index)
        else:
            assert index["index_type"] == wanted, (column, index)
        assert index["state"] == "Finished" and index["pending_index_rows"] == 0, (column, index)


def same_place(found: list[tuple[str, data.Spec]]) -> list[Placed]:
    return [Placed(spec, (database, spec.name), (database, spec.name)) for database, spec in found]


def fill(source: Cluster, found: list[tuple[str, data.Spec]]) -> None:
    for database, spec in found:
        if database != "default":
            source.create_database(database)
        source.fill(spec, database)


@contextlib.contextmanager
def nothing_changes(*things: Bucket | Cluster | Part) -> Iterator[None]:
    """Every object of the buckets and every collection of the servers is the same after as before. Of a server that
    other tests use meanwhile, only a part can be looked at: `cluster.only(...)`."""
    assert not any(isinstance(t, Cluster) and t.shared for t in things), "other tests make things there meanwhile"

    def look() -> list:
        return [t.stamps() if isinstance(t, Bucket) else t.everything() for t in things]

    before = look()
    yield
    assert look() == before


def says(result: Result, *words: str) -> None:
    """The message names what it is about: a name, a URL, a file."""
    text = " ".join([result.error["message"], *result.error["causes"], result.error["hint"] or ""])
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
