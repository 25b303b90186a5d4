"""What is exported and imported, under which names, and that `--plan` touches nothing."""

from __future__ import annotations

import pathlib
from typing import Iterator

import pytest

import data
import tool as exits
from buckets import FolderBucket
from conftest import Servers
from oracle import Cluster, compare_rows
from moves import nothing_changes, tokens
from tool import Tool

ALL = {("default", "docs"), ("default", "docs_old"), ("default", "logs_2025"), ("default", "logs_2026"), ("team", "docs"), ("team", "logs_2026")}


@pytest.fixture(scope="module")
def world(quiet_source: Cluster) -> Cluster:
    quiet_source.create_database("team")
    for n, (database, name) in enumerate(sorted(ALL)):
        quiet_source.fill(data.plain(name, 10 + n), database)
    return quiet_source


@pytest.fixture(scope="module")
def snapshot(tool: Tool, world: Cluster, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"file://{tmp_path_factory.mktemp('world')}/all"
    tool.run("export", url, "--source", world.uri)
    return url


@pytest.fixture
def empty_target(quiet_target: Cluster) -> Iterator[Cluster]:
    yield quiet_target
    for database, names in quiet_target.everything().items():
        for name in names:
            for alias in quiet_target.aliases(name, database):
                quiet_target.client(database).drop_alias(alias)
            quiet_target.client(database).drop_collection(name)


def test_an_alias_is_not_a_name(tool: Tool, clusters: Servers, unique: str, folder_bucket: FolderBucket) -> None:
    """Whoever names an alias is told the collection, on a server and in a snapshot."""
    for engine in ("milvus235", "lite322"):
        server = clusters(engine)
        server.fill(data.plain(f"{unique}_real", 10, aliases=[f"{unique}_live"]))
        url = folder_bucket.url(engine)
        args = ("export", url, "--source", server.uri)
        env = tokens(source=server, target=server)
        failed = tool.run(*args, "-c", f"{unique}_live", env=env, code=exits.NOT_FOUND)
        assert failed.doc["error"]["code"] == "MH-NO-COLLECTION", failed
        assert failed.doc["error"]["message"] == f"default.{unique}_live is an alias of default.{unique}_real, and no collection", failed
        assert f"`default.{unique}_real`" in failed.doc["error"]["hint"], failed
        tool.run(*args, "-c", f"{unique}_real", env=env)
        for command in (("import", url, "--target", server.uri), ("compare", url, "--target", server.uri), ("diff", url, url)):
            failed = tool.run(*command, "-c", f"{unique}_live", env=env, code=exits.NOT_FOUND)
            assert "is an alias of" in failed.doc["error"]["message"], failed


def rows_of(database: str, name: str) -> data.Spec:
    """What `world` put into a collection."""
    return data.plain(name, 10 + sorted(ALL).index((database, name)))


def exported(doc: dict) -> set[tuple[str, str]]:
    return {(c["database"], c["name"]) for c in doc["collections"]}


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], ALL),
        (["-c", "*.*"], ALL),
        (["-c", "docs"], {("default", "docs")}),
        (["-c", "default.docs"], {("default", "docs")}),
        (["-c", "*"], {c for c in ALL if c[0] == "default"}),
        (["-c", "docs*"], {("default", "docs"), ("default", "docs_old")}),
        (["-c", "logs_202?"], {("default", "logs_2025"), ("default", "logs_2026")}),
        (["-c", "logs_202[6-9]"], {("default", "logs_2026")}),
        (["-c", "team.*"], {("team", "docs"), ("team", "logs_2026")}),
        (["-c", "*.logs_2026"], {("default", "logs_2026"), ("team", "logs_2026")}),
        (["-c", "docs", "-c", "team.docs", "-c", "docs"], {("default", "docs"), ("team", "docs")}),
        (["--exclude", "team.*"], {c for c in ALL if c[0] == "default"}),
        (["--exclude", "*.logs_*"], {c for c in ALL if "docs" in c[1]}),
        (["-c", "*.docs*", "--exclude", "docs_old", "--exclude", "team.docs"], {("default", "docs")}),
    ],
)
def test_export_takes_what_is_asked_for(
    tool: Tool, world: Cluster, folder_bucket: FolderBucket, args: list[str], wanted: set
) -> None:
    """`--plan` names the same collections as the export, and neither the server nor the bucket is touched by it."""
    with nothing_changes(world, folder_bucket):
        planned = tool.run("export", folder_bucket.url("snap"), "--source", world.uri, *args, "--plan")
        tool.run("export", folder_bucket.url("snap"), "--source", world.uri, *args, "--plan", as_json=False)
    assert planned.doc["status"] == "planned"
    assert exported(planned.doc) == wanted
    with nothing_changes(world):
        done = tool.run("export", folder_bucket.url("snap"), "--source", world.uri, *args)
    assert exported(done.doc) == wanted
    kept = {tuple(key.split("/")[1:3]) for key in folder_bucket.parts("snap")}
    assert kept == wanted


def test_nothing_is_left_to_export(tool: Tool, world: Cluster, folder_bucket: FolderBucket) -> None:
    with nothing_changes(world, folder_bucket):
        tool.run("export", folder_bucket.url("snap"), "--source", world.uri, "--exclude", "*.*", code=exits.NOT_FOUND)


def test_a_name_that_is_nearly_right(tool: Tool, world: Cluster, snapshot: str, folder_bucket: FolderBucket) -> None:
    """What was probably meant is named, wherever it is: on the source, in the snapshot, or on the target."""

    def hint(*args: str) -> str:
        result = tool.run(*args, code=exits.NOT_FOUND)
        assert result.error["code"] == "MH-NO-COLLECTION", result
        return result.error["hint"]

    export = ("export", folder_bucket.url("snap"), "--source", world.uri, "-c")
    assert hint(*export, "dosc") == "did you mean default.docs?"
    assert hint(*export, "taem.docs") == "did you mean team.docs?"
    assert "did you mean" not in hint(*export, "invoices")
    assert hint("export", folder_bucket.url("snap"), "--source", f"{world.uri}/team", "-c", "docs_old") == "did you mean default.docs_old?"
    compare = ("compare", snapshot, "--target", world.uri, "-c", "logs_2026")
    assert "did you mean `--rename default.logs_2026=default.logs_2026`?" in hint(*compare, "--rename", "logs_2026=log_2026")


def test_the_database_of_the_source_uri(tool: Tool, world: Cluster, folder_bucket: FolderBucket) -> None:
    """http://host:port/db is where a name without a database is looked up, or all there is without -c."""
    planned = tool.run("export", folder_bucket.url("snap"), "--source", f"{world.uri}/team", "-c", "team.docs", "--plan")
    assert exported(planned.doc) == {("team", "docs")}
    result = tool.run("export", folder_bucket.url("snap"), "--source", f"{world.uri}/nosuch", "--plan", code=None)
    assert result.code == exits.NOT_FOUND, result


def arrived(target: Cluster) -> set[tuple[str, str]]:
    return {(database, name) for database, names in target.everything().items() for name in names}


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ([], {c: c for c in ALL}),
        (["-c", "docs"], {("default", "docs"): ("default", "docs")}),
        (["-c", "team.*"], {c: c for c in ALL if c[0] == "team"}),
        (["-c", "*.docs"], {c: c for c in ALL if c[1] == "docs"}),
        (["-c", "docs", "--rename", "docs=papers"], {("default", "docs"): ("default", "papers")}),
        (["-c", "docs", "--rename", "default.docs=archive.docs"], {("default", "docs"): ("archive", "docs")}),
        (["-c", "team.docs", "--rename", "team.docs=default.team_docs"], {("team", "docs"): ("default", "team_docs")}),
        (["-c", "team.*", "--rename", "team.*=staff.*"], {("team", "docs"): ("staff", "docs"), ("team", "logs_2026"): ("staff", "logs_2026")}),
        (
            ["-c", "*.docs", "--rename", "team.*=default.*", "--rename", "docs=old_docs"],
            {("team", "docs"): ("default", "docs"), ("default", "docs"): ("default", "old_docs")},
        ),
        (
            ["-c", "*.docs", "--rename", "docs=team.docs", "--rename", "team.docs=default.docs"],  # they change places
            {("default", "docs"): ("team", "docs"), ("team", "docs"): ("default", "docs")},
        ),
    ],
)
def test_import_puts_it_where_it_is_asked_to(
    tool: Tool, world: Cluster, snapshot: str, empty_target: Cluster, args: list[str], wanted: dict
) -> None:
    with nothing_changes(empty_target):
        planned = tool.run("import", snapshot, "--target", empty_target.uri, *args, "--plan")
        tool.run("import", snapshot, "--target", empty_target.uri, *args, "--plan", as_json=False)
    assert planned.doc["status"] == "planned"

    def places(doc: dict) -> dict:
        return {
            (c["source"]["database"], c["source"]["name"]): (c["target"]["database"], c["target"]["name"])
            for c in doc["collections"]
        }

    assert places(planned.doc) == wanted
    done = tool.run("import", snapshot, "--target", empty_target.uri, *args)
    assert places(done.doc) == wanted
    assert arrived(empty_target) == set(wanted.values())
    for source, (database, name) in wanted.items():
        assert compare_rows(rows_of(*source), empty_target, name, database) == []


def test_import_beside_what_is_there(tool: Tool, snapshot: str, empty_target: Cluster) -> None:
    """Collections of other names are none of its business."""
    mine = data.plain("mine", 5, dim=3)
    empty_target.fill(mine)
    tool.run("import", snapshot, "--target", empty_target.uri, "-c", "docs")
    assert compare_rows(mine, empty_target) == []
    assert compare_rows(rows_of("default", "docs"), empty_target) == []


def test_plan_on_a_real_milvus(tool: Tool, clusters: Servers, snapshot: str, unique: str) -> None:
    """The database of the plan does not exist yet, and is not made."""
    target = clusters("milvus235")
    args = ("import", snapshot, "--target", target.uri, "--rename", f"default.*={unique}_a.*", "--rename", f"team.*={unique}_b.*")
    planned = tool.run(*args, "--plan", env=tokens(target=target))
    assert planned.doc["totals"]["collections"] == len(ALL)
    assert not [d for d in target.databases() if d.startswith(unique)]


def test_plan_tells_what_it_needs(tool: Tool, snapshot: str, quiet_target: Cluster) -> None:
    text = tool.run("import", snapshot, "--target", quiet_target.uri, "--plan", as_json=False)
    assert "CU" in text.stdout and "memory" in text.stdout, text
    text = tool.run("inspect", snapshot, as_json=False)
    assert "CU" in text.stdout, text


def test_relative_folders_are_refused_and_spaces_work(tool: Tool, world: Cluster, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "a folder with ünïcode %41"
    folder.mkdir()
    for text in (f"file://{folder}".replace("%", "%25").replace(" ", "%20"),):
        tool.run("export", f"{text}/snap", "--source", world.uri, "-c", "docs")
        assert (folder / "snap" / "COMMIT.json").is_file(), list(tmp_path.rglob("*"))
        tool.run("verify", f"{text}/snap", "--level", "full")
