"""Imports that end in the middle: killed at every request and at any moment, they go on when the same command is run
again, and in the end the target holds exactly the snapshot's rows. Nothing is lost, nothing is there twice.

`SOAK=1` (`make soak`) stops at every request on every engine and kills many more times."""

from __future__ import annotations

import itertools
import os
import pathlib
import random
import re
import signal
import subprocess
import time
import uuid
from dataclasses import dataclass
from typing import Iterator

import pytest
from pymilvus import CollectionSchema, DataType as T, FieldSchema

import data
import tool as exits
from attributes import remove
from buckets import FolderBucket
from conftest import Servers
from moves import nothing_changes, says, tokens
from oracle import Cluster, compare_rows
from proxy import Proxy
from tool import Result, Tool, text_now, wait_for

SOAK = bool(os.environ.get("SOAK"))
ROWS = 2400


@dataclass
class Snapshot:
    """A snapshot with many parts, and what is in it. `extra`: what an import of it must be told."""

    spec: data.Spec
    url: str
    parts: int
    extra: tuple[str, ...] = ()


def auto_id(name: str) -> data.Spec:
    schema = CollectionSchema(
        [FieldSchema("id", T.INT64, is_primary=True, auto_id=True), FieldSchema("n", T.INT64), FieldSchema("v", T.FLOAT_VECTOR, dim=64)]
    )
    return data.Spec(name, schema, {"_default": [{"n": n, "v": [float(n), 0.5, -1.0, 0.25] * 16} for n in range(ROWS)]}, {"v": ("L2", "AUTOINDEX")})


@pytest.fixture(scope="module")
def snapshots(tool: Tool, clusters: Servers, tmp_path_factory: pytest.TempPathFactory):
    """By the kind of key; each is exported once from Milvus 2.3.5, into parts as small as pages."""
    source = clusters("milvus235")
    made: dict[str, Snapshot] = {}

    def get(kind: str) -> Snapshot:
        if kind in made:
            return made[kind]
        name = f"t{uuid.uuid4().hex[:10]}__{kind.replace('-', '_')}"
        if kind == "small":
            spec = data.plain(name, 60, partitions=2, aliases=[f"{name}_alias"])
            source.fill(spec)
        elif kind == "flat":  # for servers without partitions and aliases
            spec = data.plain(name, 60)
            source.fill(spec)
        elif kind in ("int", "text"):
            spec = data.documents(name, ROWS, 128, T.INT64 if kind == "int" else T.VARCHAR)
            source.fill(spec)
        else:  # auto-id: the keys are the server's, so they are taken from what it answers
            spec = auto_id(name)
            client = source.client()
            client.create_collection(name, schema=spec.schema)
            (rows,) = spec.rows.values()
            keys = client.insert(name, rows)["ids"]
            spec = data.Spec(name, spec.schema, {"_default": [{"id": k, **row} for k, row in zip(keys, rows)]}, spec.indexes)
            source.index(name, spec.indexes)
            client.load_collection(name)
        url = f"file://{tmp_path_factory.mktemp('resume')}/snap"
        # parts as small as they can be, so that there are several
        args = ("export", url, "--source", source.uri, "-c", name, "--page-rows", "60", "--part-size", "64KiB", "-j", "4")
        result = tool.run(*args, env=tokens(source=source))
        for alias in spec.aliases:  # so that it is free on the same server
            source.client().drop_alias(alias)
        extra = {"auto-id": ("--auto-id", "as-field"), "new-ids": ("--auto-id", "regenerate")}.get(kind, ())
        made[kind] = Snapshot(spec, url, result.doc["totals"]["parts"], extra)
        return made[kind]

    yield get
    for snapshot in made.values():
        source.client().drop_collection(snapshot.spec.name)


@pytest.fixture(autouse=True)
def leave_nothing(clusters: Servers, unique: str) -> Iterator[None]:
    yield
    for name in ("milvus235", "lite251b", "lite322b"):
        remove(clusters(name), unique)


class Import:
    """The import of one snapshot under a name of its own, run as often as it takes."""

    def __init__(self, tool: Tool, target: Cluster, uri: str, snapshot: Snapshot, name: str, journal: pathlib.Path, *extra: str):
        self.tool, self.target, self.snapshot, self.name, self.journal = tool, target, snapshot, name, journal
        self.env = tokens(target=target)
        self.args = (
            "import", snapshot.url, "--target", uri, "--rename", f"{snapshot.spec.name}={name}", "--journal", str(journal),
            *snapshot.extra, *extra,
        )  # fmt: skip

    def start(self) -> subprocess.Popen:
        return self.tool.start(*self.args, "--json", env=self.env)

    def run(self, *more: str, code: int | None = 0) -> Result:
        return self.tool.run(*self.args, *more, code=code, env=self.env)

    def lines(self, event: str) -> int:
        text = text_now(self.journal)
        return len(re.findall(f'"event":"{event}"', text))

    def whole(self) -> None:
        """The target has every row once, with every value; and the journal is gone."""
        assert not self.journal.exists(), "a finished import leaves no journal"
        snapshot, target = self.snapshot, self.target
        if "regenerate" in snapshot.extra:  # the keys are new
            target.load(self.name)
            rows = target.client().query(self.name, filter="id >= 0 or id < 0", output_fields=["n"], limit=16000, consistency_level="Strong")
            assert sorted(row["n"] for row in rows) == list(range(ROWS))
            assert target.count(snapshot.spec, self.name) == ROWS
        else:
            assert compare_rows(snapshot.spec, target, self.name) == []

    def refuses_to_drop(self, code: int) -> bool:
        """On an engine without collection ids it drops no rows with keys of the engine's own: it asks us to. We do."""
        if code != exits.EXISTS or "regenerate" not in self.snapshot.extra or self.target.engine.name == "milvus235":
            return False
        says(self.run(code=exits.EXISTS), self.name, "drop it", "same command again")
        assert self.journal.exists()
        self.target.client().drop_collection(self.name)
        return True

    def drop(self) -> None:
        for alias in self.target.aliases(self.name):
            self.target.client().drop_alias(alias)
        self.target.client().drop_collection(self.name)
        self.journal.unlink(missing_ok=True)


def killed(process: subprocess.Popen) -> bool:
    """Whether it was still running; it is gone afterwards."""
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


# --- at every request -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arrives", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("engine", "kind"), [("lite322b", "small"), ("milvus235", "small"), ("lite251b", "flat")])
def test_killed_at_every_request(
    tool: Tool, clusters: Servers, snapshots, unique: str, tmp_path: pathlib.Path, engine: str, kind: str, arrives: bool
) -> None:
    """The n-th request does not reach the server, or its answer does not come back, for every n; there the process is
    killed. The same command then finishes. (On Milvus 2.3.5, where an import takes seconds: every fourth n.)"""
    target, snapshot = clusters(engine), snapshots(kind)
    step = 1 if SOAK or engine != "milvus235" else 4
    with Proxy(target.uri) as proxy:
        for n in range(1, 1000, step):
            case = Import(tool, target, proxy.uri, snapshot, f"{unique}__at_{n}", tmp_path / "journal", "-j", "2")
            proxy.let_go()
            if arrives:
                proxy.swallow_at = n
            else:
                proxy.hold_at = n
            process = case.start()
            ended = lambda: process.poll() is not None  # noqa: E731
            wait_for(f"request {n}", lambda: (proxy.answered if arrives else proxy.stopped).is_set() or ended())
            if not killed(process):
                assert process.returncode == 0
                break
            there = case.name in target.collections()
            proxy.let_go()
            case.run()
            case.whole()
            assert target.aliases(case.name) == snapshot.spec.aliases
            case.drop()
            assert n > 1 or not there
        case.whole()
        case.drop()
        assert n > 12, "there were hardly any requests, so this showed nothing"


# --- at any moment ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "kind", "kills"),
    [("milvus235", "int", 100), ("milvus235", "auto-id", 20), ("milvus235", "new-ids", 10), ("lite322b", "text", 20), ("lite322b", "new-ids", 10)],
)
def test_killed_again_and_again(
    tool: Tool, clusters: Servers, snapshots, unique: str, tmp_path: pathlib.Path, engine: str, kind: str, kills: int
) -> None:
    """At random moments, every run going on where the one before was killed; each import that gets through is compared
    value by value."""
    target, snapshot = clusters(engine), snapshots(kind)
    seed = int(os.environ.get("SEED", 0)) or random.randrange(1 << 32)
    print(f"SEED={seed}")
    rng = random.Random(seed)
    kills *= 10 if SOAK else 1
    done, finished, gone_on = 0, 0, 0
    # how long it takes when nothing happens: kills are spread over that, most of them over the time before the flush
    case = Import(tool, target, target.uri, snapshot, f"{unique}__whole", tmp_path / "journal", "-j", "2")
    whole = case.run().seconds
    case.drop()
    while done < kills:
        case = Import(tool, target, target.uri, snapshot, f"{unique}__n{finished}", tmp_path / "journal", "-j", "2")
        for runs in itertools.count():
            gone_on += case.lines("loaded") > 0
            complete = runs > 0 and not case.journal.exists() and case.name in target.collections()
            if complete:  # killed between its last step and its last word
                break
            process = case.start()
            time.sleep(rng.uniform(0, whole if rng.random() < 0.1 else min(whole, 0.5)))
            if not killed(process):
                if not case.refuses_to_drop(process.returncode):
                    assert process.returncode == 0, process.returncode
                    break
                continue
            done += 1
            if done >= kills and case.journal.exists():
                if case.refuses_to_drop(case.run(code=None).code):
                    case.run()
                break
        case.whole()
        case.drop()
        finished += 1
    print(f"{done} kills, {finished} imports finished, {gone_on} runs went on with parts that were in")


# --- the journal --------------------------------------------------------------------------------------------------


@pytest.fixture
def half(tool: Tool, clusters: Servers, snapshots, unique: str, tmp_path: pathlib.Path) -> Iterator[Import]:
    """An import that was killed when some of its parts were in."""
    target = clusters("lite322b")
    snapshot = snapshots("int")
    with Proxy(target.uri, request_pause=0.01) as proxy:
        case = Import(tool, target, proxy.uri, snapshot, f"{unique}__half", tmp_path / "journal", "-j", "1")
        process = case.start()
        wait_for("some parts", lambda: case.lines("loaded") >= 3 or process.poll() is not None, every=0.001)
        assert killed(process), process.communicate()
        proxy.request_pause = 0
        assert case.lines("loaded") < snapshot.parts, "all were in, so this shows nothing"
        yield case


def test_it_goes_on(half: Import) -> None:
    """It says how many parts were in, and does not send them again."""
    were_in, there = half.lines("loaded"), half.target.everything()
    before = half.journal.read_bytes()
    planned = half.run("--plan")
    assert planned.doc["resumed_parts"] == were_in
    assert half.journal.read_bytes() == before and half.target.everything() == there, "a plan touches nothing"
    result = half.run()
    assert result.doc["resumed_parts"] == were_in >= 3
    assert result.doc["totals"]["rows"] == ROWS
    half.whole()
    says(half.run(code=exits.EXISTS), half.name)  # and it is finished: now the collection is in the way


@pytest.mark.parametrize("cut", [1, 10, -1], ids=["the line break", "half a line", "all but one byte"])
def test_a_torn_last_line(half: Import, cut: int) -> None:
    """What it announced had not begun."""
    lines = half.journal.read_bytes().splitlines(keepends=True)
    torn = lines[-1][:-cut] if cut > 0 else lines[-1][:1]
    half.journal.write_bytes(b"".join(lines[:-1]) + torn)
    half.run()
    half.whole()


def test_a_journal_that_is_damaged_or_of_another_import(half: Import, clusters: Servers, tmp_path: pathlib.Path) -> None:
    """Nothing is guessed: exit 6 or 5, and the target stays as it is."""
    good = half.journal.read_bytes()
    lines = good.splitlines(keepends=True)
    count = half.target.client().get_collection_stats(half.name)["row_count"]
    with nothing_changes(half.target.only(half.name)):
        for n in range(len(lines) - 1):
            half.journal.write_bytes(b"".join(lines[:n] + [lines[n].replace(b"e", b"f", 1)] + lines[n + 1 :]))
            says(half.run(code=exits.INTEGRITY), str(half.journal))
        half.journal.write_bytes(good)
        other = half.args[: half.args.index("--rename") + 1] + (f"{half.snapshot.spec.name}={half.name}_b", "--journal", str(half.journal))
        says(half.tool.run(*other, code=exits.EXISTS), str(half.journal), "puts them elsewhere")
        half.journal.unlink()
        says(half.run(code=exits.EXISTS), half.name, "--journal")
        assert not half.journal.exists()
    assert half.target.client().get_collection_stats(half.name)["row_count"] == count
    half.journal.write_bytes(good)
    half.run()
    half.whole()


def test_a_collection_that_somebody_made_anew(half: Import) -> None:
    """The same name is not the same collection: it is not touched. Lite tells no ids, so there the number of rows says
    so: fewer than were in, or more than were sent."""
    for rows in (50, ROWS + 50):
        other = data.documents(half.snapshot.spec.name, rows, 128)
        half.target.client().drop_collection(half.name)
        half.target.fill(other, name=half.name, load=False)
        says(half.run(code=exits.EXISTS), half.name, "somebody else")
        assert compare_rows(other, half.target, half.name) == []


def test_a_collection_that_somebody_made_anew_on_milvus(
    tool: Tool, clusters: Servers, snapshots, unique: str, tmp_path: pathlib.Path
) -> None:
    """There it has another id, so even the same rows are not taken for ours."""
    target, snapshot = clusters("milvus235"), snapshots("int")
    with Proxy(target.uri, request_pause=0.01) as proxy:
        case = Import(tool, target, proxy.uri, snapshot, f"{unique}__half", tmp_path / "journal", "-j", "1")
        process = case.start()
        wait_for("a part", lambda: case.lines("loaded") >= 1 or process.poll() is not None, every=0.001)
        assert killed(process), process.communicate()
        target.client().drop_collection(case.name)
        target.fill(snapshot.spec, name=case.name, load=False)
        says(case.run(code=exits.EXISTS), case.name, "somebody else")
    assert compare_rows(snapshot.spec, target, case.name) == []


def test_a_collection_that_somebody_dropped(half: Import) -> None:
    """It is made again, with all its rows."""
    half.target.client().drop_collection(half.name)
    result = half.run()
    assert result.doc["resumed_parts"] == 0
    half.whole()


def test_two_at_a_time(half: Import) -> None:
    """One of them works, the other one says so and changes nothing."""
    with Proxy(half.target.uri, pause=3600) as silent:
        args = [silent.uri if arg == half.args[3] else arg for arg in half.args]
        journal = half.journal.with_name("other")
        args[args.index(str(half.journal))] = str(journal)
        # the address is part of what an import is, so this one begins with a journal of its own
        first = half.tool.start(*args, "--json")
        wait_for("a connection", lambda: silent.connections or first.poll() is not None)
        first.kill()
        first.communicate()
    with open(half.journal) as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        says(half.run(code=exits.EXISTS), str(half.journal), "running")
    half.run()
    half.whole()


def test_the_usual_place(
    tool: Tool, clusters: Servers, small_folder: FolderBucket, small_database: str, unique: str, tmp_path: pathlib.Path
) -> None:
    """Without --journal it lies in the user's folder for state, readable by the user alone."""
    target = clusters("lite322b")
    env = {"XDG_STATE_HOME": str(tmp_path)}
    args = ("import", small_folder.url("snap"), "--rename", f"{small_database}.one=default.{unique}_one", "-c", f"{small_database}.one", "--target")
    with Proxy(target.uri, request_pause=0.02) as proxy:
        process = tool.start(*args, proxy.uri, "--json", env=env)
        wait_for("the journal", lambda: list(tmp_path.glob("milvus-handoff/*.journal")) or process.poll() is not None, every=0.001)
        assert killed(process)
        (journal,) = tmp_path.glob("milvus-handoff/*.journal")
        assert journal.stat().st_mode & 0o777 == 0o600
        tool.run(*args, proxy.uri, env=env)
        assert not journal.exists()
    tool.run(*args, target.uri, code=exits.USAGE, env={"HOME": "", "XDG_STATE_HOME": ""})
