"""Collections whose server makes the primary keys: what becomes of the keys on the target is chosen, never silent."""

from __future__ import annotations

import collections
import pathlib
import uuid
from typing import Any, Iterator

import pytest
from pymilvus import CollectionSchema, DataType as T, FieldSchema
from pymilvus.exceptions import MilvusException

import data
import tool as exits
from attributes import described, differences, read, remove, row_differences
from buckets import FolderBucket
from conftest import Servers
from moves import nothing_changes, says, tokens
from oracle import Cluster
from tool import Tool

# the engine and the type of key that it makes; Lite 3.2.2: "auto_id primary key 'id' must be INT64, got VARCHAR"
SOURCES = [("milvus235", T.INT64), ("milvus235", T.VARCHAR), ("lite322", T.INT64)]
IDS = [f"{engine}-{kind.name.lower()}" for engine, kind in SOURCES]
TARGETS = ["milvus235", "lite322b"]
PAIRS = [
    ("milvus235", T.INT64, "milvus235"), ("milvus235", T.VARCHAR, "milvus235"), ("milvus235", T.INT64, "lite322b"),
    ("milvus235", T.VARCHAR, "lite322b"), ("lite322", T.INT64, "lite322b"), ("lite322", T.INT64, "milvus235"),
]  # fmt: skip
PAIR_IDS = [f"{engine}-{kind.name.lower()}-{to}" for engine, kind, to in PAIRS]

ROWS = 120


def make(cluster: Cluster, name: str, kind: T, rows: int = ROWS) -> data.Spec:
    """A filled and loaded collection; the rows of the result have the keys that the server made."""
    key = FieldSchema("id", kind, is_primary=True, auto_id=True, **({"max_length": 64} if kind == T.VARCHAR else {}))
    schema = CollectionSchema(
        [key, FieldSchema("text", T.VARCHAR, max_length=100), FieldSchema("n", T.INT64), FieldSchema("v", T.FLOAT_VECTOR, dim=4)],
        enable_dynamic_field=True,
    )
    client = cluster.client()
    client.create_collection(name, schema=schema)
    # every third row occurs twice, so that a multiset is not a set
    table: list[dict[str, Any]] = [
        {"text": f"row {n - n % 3 // 2} 世界", "n": n - n % 3 // 2, "v": [float(n - n % 3 // 2), 0.5, -1.0, 0.25], "color": "red"} for n in range(rows)
    ]
    keys = client.insert(name, table)["ids"]
    assert len(set(keys)) == rows
    cluster.index(name, {"v": ("L2", "AUTOINDEX")})
    client.load_collection(name)
    return data.Spec(name, schema, {"_default": [{"id": key, **row} for key, row in zip(keys, table)]}, {"v": ("L2", "AUTOINDEX")})


def keys_of(spec: data.Spec) -> list:
    return [row["id"] for row in spec.all_rows]


@pytest.fixture(scope="module")
def exported(tool: Tool, clusters: Servers, tmp_path_factory: pytest.TempPathFactory):
    """The three sources, each exported once: (engine, kind of key) -> what was inserted, and the snapshot."""
    found: dict[tuple, tuple[data.Spec, str]] = {}

    def get(engine: str, kind: T) -> tuple[data.Spec, str]:
        if (engine, kind) not in found:
            source = clusters(engine)
            spec = make(source, f"t{uuid.uuid4().hex[:10]}__auto", kind)
            folder: pathlib.Path = tmp_path_factory.mktemp("auto")
            url = f"file://{folder}/snap"
            result = tool.run("export", url, "--source", source.uri, "-c", spec.name, env=tokens(source=source))
            assert result.doc["totals"]["rows"] == ROWS
            tool.run("verify", url, "--level", "full")
            found[engine, kind] = (spec, url)
        return found[engine, kind]

    yield get
    for (engine, _), (spec, _) in found.items():
        clusters(engine).client().drop_collection(spec.name)


def every_row(cluster: Cluster, name: str) -> list[dict]:
    """Without the keys: they are not known beforehand."""
    cluster.load(name)
    text = next(f for f in cluster.describe(name)["fields"] if f["primary"])["type"] == "VARCHAR"
    everything = 'id >= ""' if text else "id >= 0 or id < 0"
    reply = cluster.client().query(name, filter=everything, output_fields=["*"], limit=16000, consistency_level="Strong")
    return [dict(row) for row in reply]


def multiset(rows: list[dict]) -> collections.Counter:
    return collections.Counter(repr(sorted((k, repr(v)) for k, v in row.items() if k != "id")) for row in rows)


@pytest.fixture(autouse=True)
def leave_nothing(clusters: Servers, unique: str) -> Iterator[None]:
    yield
    for name in ("lite322", "lite322b"):
        remove(clusters(name), unique)


@pytest.mark.parametrize(("engine", "kind"), SOURCES, ids=IDS)
@pytest.mark.parametrize("to", TARGETS)
def test_preserve_is_refused_where_it_cannot_be_kept(
    tool: Tool, clusters: Servers, exported: Any, unique: str, engine: str, kind: T, to: str
) -> None:
    """It is the default, and none of these targets takes keys for such collections reliably: exit 7 names what to
    choose from, in the plan and in the import, and nothing is made."""
    target = clusters(to)
    spec, url = exported(engine, kind)
    rename = ("--rename", f"default.*={unique}_db.*")
    for extra in ((), ("--auto-id", "preserve"), ("--plan",)):
        with nothing_changes(target.only(unique)):
            args = ("import", url, "--target", target.uri, *rename, *extra)
            result = tool.run(*args, env=tokens(target=target), code=exits.UNSUPPORTED)
        says(result, spec.name, "--auto-id as-field", "--auto-id regenerate")


@pytest.mark.parametrize(("engine", "kind", "to"), PAIRS, ids=PAIR_IDS)
def test_as_field_keeps_every_key(
    tool: Tool, clusters: Servers, exported: Any, unique: str, engine: str, kind: T, to: str
) -> None:
    source, target = clusters(engine), clusters(to)
    (spec, url), name = exported(engine, kind), f"{unique}__kept"
    tool.run("import", url, "--target", target.uri, "--auto-id", "as-field", "--rename", f"{spec.name}={name}", env=tokens(target=target))
    # everything but the one attribute stays
    expected = {"auto_id", "field id: auto_id", "consistency_level", "consistency_level_name"}
    if engine == "milvus235" and to == "milvus235":
        expected -= {"consistency_level", "consistency_level_name"}  # Lite always says Strong
    assert differences(source, target, spec.name, name, besides=tuple(expected)) == []
    assert not described(target, name)["auto_id"] and not described(target, name).get("field id: auto_id")
    target.load(name)
    assert row_differences(read(source, spec, keys_of(spec)), read(target, spec, keys_of(spec), name), "rows") == []
    assert target.count(spec, name) == ROWS
    comparing = ("compare", url, "--target", target.uri, "--rename", f"{spec.name}={name}", "--level", "full")
    result = tool.run(*comparing, "--auto-id", "as-field", env=tokens(target=target))
    assert [c["rows_compared"] for c in result.doc["collections"]] == [ROWS]
    assert "auto-id" in str(tool.run(*comparing, env=tokens(target=target), code=exits.INTEGRITY).doc)
    # new rows must bring their key, and may
    row = {"text": "new", "n": 1, "v": [0.0] * 4}
    with pytest.raises(MilvusException):
        target.client().insert(name, [row])
    key: Any = 77 if kind == T.INT64 else "my own"
    target.client().insert(name, [{"id": key, **row}])
    assert read(target, spec, [key], name)[key]["text"] == ("str", "new")
    target.client().drop_collection(name)


@pytest.mark.parametrize(("engine", "kind", "to"), [pair for pair in PAIRS if pair[1:] != (T.VARCHAR, "lite322b")], ids=str)
def test_regenerate_makes_other_keys(
    tool: Tool, clusters: Servers, exported: Any, unique: str, engine: str, kind: T, to: str
) -> None:
    """The same rows, the doubled ones included, with keys of the target's own; a warning says that the old are lost."""
    source, target = clusters(engine), clusters(to)
    (spec, url), name = exported(engine, kind), f"{unique}__new"
    args = ("import", url, "--target", target.uri, "--auto-id", "regenerate", "--rename", f"{spec.name}={name}")
    planned = tool.run(*args, "--plan", env=tokens(target=target))
    result = tool.run(*args, env=tokens(target=target))
    for doc in (planned.doc, result.doc):
        assert any(name in w and "keys" in w and "lost" in w for w in doc["warnings"]), doc
    assert result.doc["totals"]["rows"] == ROWS
    about = described(target, name)
    assert about["auto_id"] and about["field id: auto_id"] is True
    rows = every_row(target, name)
    assert len(rows) == ROWS == target.count(spec, name)
    assert multiset(rows) == multiset([dict(row) for row in spec.all_rows]) == multiset(every_row(source, spec.name))
    if engine != "lite322" or to != "lite322b":  # both Lites count from 1
        assert not {row["id"] for row in rows} & set(keys_of(spec)), "the keys are the old ones"
    assert len({row["id"] for row in rows}) == ROWS
    compared = tool.run("compare", url, *args[2:], "--level", "full", "--load", env=tokens(target=target)).doc
    assert [(c["rows_compared"], c["server_rows"]) for c in compared["collections"]] == [(0, ROWS)]
    assert any(name in w and "only schema and counts" in w for w in compared["warnings"]), compared
    # the target goes on making keys
    (key,) = target.client().insert(name, [{"text": "new", "n": 1, "v": [0.0] * 4}])["ids"]
    assert key not in {row["id"] for row in rows}
    target.client().drop_collection(name)


def test_the_choice_does_not_touch_other_collections(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> None:
    """Given keys stay as they are, whatever is chosen for the keys that a server makes."""
    source, target = clusters("lite322"), clusters("lite322b")
    spec = data.plain(f"{unique}__given", 50)
    source.fill(spec)
    tool.run("export", folder_bucket.url("snap"), "--source", source.uri, "-c", spec.name)
    keys = keys_of(spec)
    for choice in ("preserve", "regenerate", "as-field"):
        name = f"{unique}_{choice.replace('-', '_')}"
        result = tool.run("import", folder_bucket.url("snap"), "--target", target.uri, "--auto-id", choice, "--rename", f"{spec.name}={name}")
        assert not result.doc["warnings"], result
        assert differences(source, target, spec.name, name) == []
        target.load(name)
        assert row_differences(read(source, spec, keys), read(target, spec, keys, name), choice) == []
