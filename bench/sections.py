"""The sections of the benchmark, one function each. Each says what is compared with what, sees to it that both did the
same work, and adds its rows to the result. What is measured and why stands in docs/performance.md.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from typing import Any

from harness import HERE, BenchError, Comparison, Cost, Harness, Result, Series, Serving, alternate, same, say

sys.path.insert(0, str(HERE.parent / "tests" / "live"))

import servers  # noqa: E402

MB = 1 << 20
COLLECTION = "bench"
SETTLE = 20  # seconds that a server may take to come to rest

# Competitors have as many requests at once as the tool was seen to have, and at least this many: a tool that waits for
# one reply after another must not be compared with a competitor that does the same.
AT_ONCE = 4


def as_the_tool(recorded: dict[str, Any]) -> tuple[str, ...]:
    """How many requests a competitor has at once, and over how many connections."""
    return ("-j", str(max(AT_ONCE, recorded["most_in_flight"])), "--connections", str(recorded["connections"]))


def walls(costs: list[Cost]) -> list[float]:
    return [cost.wall for cost in costs]


def cpus(costs: list[Cost]) -> list[float]:
    return [cost.cpu for cost in costs]


# --- 1. export, 2. import, also by bulk: a real server ------------------------------------------------------------------------------


class Milvus:
    """A Milvus 2.3.5 of our own, seen by pymilvus."""

    def __init__(self) -> None:
        from pymilvus import MilvusClient

        self.server = servers.milvus235().start()
        self.uri, self.token = self.server.uri, self.server.token
        self.client = MilvusClient(uri=self.uri, token=self.token, timeout=300, grpc_options=servers.GRPC_OPTIONS)

    def __enter__(self) -> "Milvus":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.stop()

    def index_and_load(self, rows: int) -> None:
        """FLAT, because what is read back is the same and nothing is built for minutes."""
        self.client.flush(COLLECTION)
        self.index("FLAT")
        self.client.load_collection(COLLECTION)
        counted = self.client.query(COLLECTION, output_fields=["count(*)"], consistency_level="Strong")
        same("rows sent and rows counted", rows, counted[0]["count(*)"])
        self.settle()

    def index(self, kind: str) -> None:
        params = self.client.prepare_index_params()
        params.add_index("vector", index_type=kind, metric_type="L2")
        self.client.create_index(COLLECTION, params)

    def create_like(self, description: dict[str, Any]) -> None:
        """An empty collection with the fields and partitions of one that was described."""
        from pymilvus.orm.schema import CollectionSchema

        self.client.create_collection(COLLECTION, schema=CollectionSchema.construct_from_dict(description))

    def drop(self) -> None:
        self.client.drop_collection(COLLECTION)
        self.settle()

    def settle(self) -> None:
        """Waits until the server has done what it does in the background, so that it does not fall to the next run."""
        deadline = time.monotonic() + SETTLE
        while time.monotonic() < deadline:
            before = self.server.cpu_seconds()
            time.sleep(0.5)
            if self.server.cpu_seconds() - before < 0.15:
                return


def export(harness: Harness, result: Result) -> None:
    """A real collection: the tool, a bare scan of the same pages, and what people use today."""
    with Milvus() as milvus:
        for rows, dim in [(harness.size(300_000, 6_000), 128), (harness.size(50_000, 2_000), 1024)]:
            export_one(harness, result, milvus, rows, dim)
            milvus.drop()


def export_one(harness: Harness, result: Result, milvus: Milvus, rows: int, dim: int) -> None:
    title = f"export, {rows:,} x {dim} dims"
    say(f"{title}: filling the server")
    inserts = harness.recorded_inserts(harness.snapshot("plain", dim, rows), COLLECTION)
    to = ("--server", milvus.uri, "--requests")
    harness.wire("send", *to, inserts, "-j", "2", token=milvus.token)
    milvus.index_and_load(rows)

    # Untimed, through a proxy: which pages the tool asks for, and how many at once.
    with Serving(harness, "proxy", "--upstream", milvus.uri) as proxy:
        exported = harness.export(proxy.uri, COLLECTION, rows, milvus.token)
        pages = harness.folder / "pages"
        recorded = proxy.command(f"save {pages}")
    scan = ("scan", *to, pages, *as_the_tool(recorded))
    checked = harness.wire(*scan, "--decode", token=milvus.token).document
    same("rows of export and scan", exported.document["totals"]["rows"], checked["rows"])
    same("bytes of export and scan", recorded["reply_bytes"], checked["bytes"], within=0.01)

    def ours() -> Cost:
        return harness.export(milvus.uri, COLLECTION, rows, milvus.token)

    def bare() -> Cost:
        cost = harness.wire(*scan, token=milvus.token)
        same("bytes of export and scan", recorded["reply_bytes"], cost.document["bytes"], within=0.01)
        return cost

    def peer() -> Cost:
        at = harness.folder / "peer"
        at.mkdir()
        python = servers.venv("bench") / "bin" / "python"
        cost = harness.run(python, HERE / "peer.py", milvus.uri, COLLECTION, at, token=milvus.token)
        same("rows of pymilvus and of the collection", cost.document["rows"], rows)
        shutil.rmtree(at)
        return cost

    say(f"{title}: measuring")
    mine, scanned = alternate(harness.rounds(5), ours, bare)
    notes = (
        f"{recorded['requests']} pages, {recorded['reply_bytes'] / MB:,.0f} MiB, "
        f"at most {recorded['most_in_flight']} requests at once"
    )
    result.add(
        Comparison("export", title, "s", walls(mine), "bare scan of the same pages", walls(scanned), 1.15, notes=notes),
        Comparison("export", f"{title}: CPU", "s", cpus(mine), "bare scan of the same pages", cpus(scanned)),
    )
    say(f"{title}: measuring pymilvus")
    mine, peers = alternate(harness.rounds(2), ours, peer)
    today = "pymilvus iterator + BulkWriter"
    result.add(Comparison("export", title, "s", walls(mine), today, walls(peers), 10, faster=True))


def import_(harness: Harness, result: Result) -> None:
    """Rows into a real server: the tool, and the same insert requests prepared beforehand.

    Both from the start of the process to the last row that is in. The tool then goes on with indexes and a flush, which
    is the server's work and takes it minutes; so it is stopped there, and only the first run goes to the end.
    """
    rows, dim = harness.size(300_000, 6_000), 128
    title = f"import, {rows:,} x {dim} dims"
    snapshot = harness.snapshot("plain", dim, rows)
    arguments = ("import", f"file://{snapshot}", "--rename", f"source={COLLECTION}", "--target")
    with Milvus() as milvus:

        def ours() -> Cost:
            # The first request after the last insert.
            until = 'rpc="CreateIndex"'
            cost = harness.tool(*arguments, milvus.uri, "-vv", token=milvus.token, until=until, stop=True)
            milvus.drop()
            assert cost.until is not None
            return Cost(cost.until, cost.cpu, cost.memory, None, cost.document)

        def prepared() -> Cost:
            cost = harness.wire("send", "--server", milvus.uri, *prepared_inserts, token=milvus.token)
            same("rows sent and rows in the snapshot", cost.document["rows"], rows)
            milvus.drop()
            return cost

        say(f"{title}: importing once, to the end")
        with Serving(harness, "proxy", "--upstream", milvus.uri) as proxy:
            whole = harness.tool(*arguments, proxy.uri, token=milvus.token)
            inserts = harness.folder / "inserts"
            recorded = proxy.command(f"save {inserts}")
        prepared_inserts = ("--requests", inserts, *as_the_tool(recorded))
        same("rows imported and rows in the snapshot", whole.document["totals"]["rows"], rows)
        same("rows on the server and in the snapshot", whole.document["collections"][0]["server_count"], rows)
        milvus.drop()
        say(f"{title}: measuring")
        prepared()
        mine, sent = alternate(harness.rounds(6), ours, prepared)
    notes = (
        f"{recorded['requests'] - 1} inserts, {recorded['request_bytes'] / MB:,.0f} MiB, "
        f"at most {recorded['most_in_flight']} requests at once; until the last row is in. With flush, AUTOINDEX and "
        f"counts, an import takes {whole.wall:.0f} s"
    )
    result.add(
        Comparison("import", title, "s", walls(mine), "the same inserts, prepared", walls(sent), 1.15, notes=notes)
    )


def bulk(harness: Harness, result: Result) -> None:
    """Rows into a real server by its own jobs: against inserts, both whole, and against the same jobs and nothing else.

    The server keeps its data in a local folder, and the stage is one beside it. The route is for snapshots of 4 GiB and
    more, of which most parts have 256 MiB. So that these have as well, the export has one worker.
    """
    rows, dim = harness.size(370_000, 6_000), 768
    title = f"bulk import, {rows:,} x {dim} dims"
    snapshot = harness.snapshot("plain", dim, rows, "-j", "1")
    stage = harness.folder / "stage"
    stage.mkdir()
    files = sorted((snapshot / "data").rglob("*.parquet"))
    parts, size = list(map(str, files)), sum(path.stat().st_size for path in files)
    arguments = ("import", f"file://{snapshot}", "--rename", f"source={COLLECTION}", "--target")
    by_jobs = ("--via", "bulk", "--stage", f"file://{stage}", "-j", str(AT_ONCE))
    with Milvus() as milvus:
        spent: dict[str, list[float]] = {"bulk": [], "insert": []}
        schema: dict[str, Any] = {}

        def whole(how: str, *more: str) -> Cost:
            before = milvus.server.cpu_seconds()
            cost = harness.tool(*arguments, milvus.uri, *more, token=milvus.token)
            spent[how].append(milvus.server.cpu_seconds() - before + cost.cpu)
            same("rows imported and rows in the snapshot", cost.document["totals"]["rows"], rows)
            same("rows on the server and in the snapshot", cost.document["collections"][0]["server_count"], rows)
            return cost

        def by_bulk() -> Cost:
            nonlocal schema
            cost = whole("bulk", *by_jobs)
            schema = milvus.client.describe_collection(COLLECTION)
            milvus.drop()
            return cost

        def by_insert() -> Cost:
            cost = whole("insert")
            milvus.drop()
            return cost

        def ours() -> Cost:
            # From the first request for a job to the first request after the last is complete.
            since, until = 'rpc="Import"', 'rpc="Flush"'
            cost = harness.tool(*arguments, milvus.uri, *by_jobs, "-vv", token=milvus.token, since=since, until=until, stop=True)
            milvus.drop()
            shutil.rmtree(stage)
            stage.mkdir()
            assert cost.until is not None
            return Cost(cost.until, cost.cpu, cost.memory, None, cost.document)

        def theirs() -> Cost:
            milvus.create_like(schema)
            milvus.index("AUTOINDEX")
            python = servers.venv("bench") / "bin" / "python"
            jobs = (HERE / "jobs.py", milvus.uri, COLLECTION, str(AT_ONCE), *parts)
            cost = harness.run(python, *jobs, token=milvus.token)
            same("rows of the jobs and rows in the snapshot", cost.document["rows"], rows)
            milvus.drop()
            return Cost(cost.document["seconds"], cost.cpu, cost.memory, None, cost.document)

        say(f"{title}: measuring both routes")
        bulks, inserts = alternate(1, by_bulk, by_insert)
        say(f"{title}: measuring the jobs")
        mine, jobs = alternate(harness.rounds(2), ours, theirs)
    notes = (
        f"{len(parts)} parts of {size / len(parts) / MB:.0f} MiB, at most {AT_ONCE} jobs at once, in a server of one data node; the whole import with AUTOINDEX and counts"
    )
    result.add(
        Comparison("bulk", title, "s", walls(bulks), "import by insert", walls(inserts), 1, faster=True, notes=notes),
        Comparison("bulk", f"{title}: CPU, the server's too", "s", spent["bulk"], "import by insert", spent["insert"]),
        Comparison("bulk", f"{title}: CPU", "s", cpus(bulks), "import by insert", cpus(inserts)),
        Comparison("bulk", f"{title}: once staged", "s", walls(mine), "the same jobs, by pymilvus", walls(jobs), 1.1),
    )


# --- 3. the client alone ----------------------------------------------------------------------------------------------


def client(harness: Harness, result: Result) -> None:
    """What the client costs, with a server in memory: the tool, and receiving, decoding and hashing only."""
    kinds = [
        ("vectors", 768, harness.size(200_000, 4_000), "float vectors, 768 dims"),
        ("scalars", 8, harness.size(1_000_000, 20_000), "20 scalar columns"),
        ("json", 8, harness.size(300_000, 6_000), "JSON documents"),
    ]
    for kind, dim, rows, title in kinds:
        say(f"client, {title}: preparing {rows:,} rows")
        arguments = ("--kind", kind, "--dim", str(dim), "--rows", str(rows), "--keep", "--record")
        with Serving(harness, "serve", *arguments) as fake:
            client_one(harness, result, fake, rows, title)


def client_one(harness: Harness, result: Result, fake: Serving, rows: int, title: str) -> None:
    first = harness.export(fake.uri, "source", rows)
    pages = harness.folder / "pages"
    recorded = fake.command(f"save {pages}")
    moved, written = recorded["reply_bytes"], first.document["totals"]["bytes"]
    scan = ("scan", "--server", fake.uri, "--requests", pages, *as_the_tool(recorded))
    scan += ("--decode", "--hash-share", f"{min(1, written / moved):.4f}")
    fresh = 0

    def ours() -> Cost:
        nonlocal fresh
        fake.command("reset")
        cost = harness.export(fake.uri, "source", rows)
        # Pages that nobody had asked for before are encoded while the client waits.
        fresh += fake.command("save /dev/null")["prepared"]
        return cost

    def floor() -> Cost:
        cost = harness.wire(*scan)
        same("rows of export and scan", rows, cost.document["rows"])
        same("bytes of export and scan", moved, cost.document["bytes"], within=0.01)
        return cost

    say(f"client, {title}: measuring")
    mine, theirs = alternate(harness.rounds(5), ours, floor)
    gb = moved / 1e9
    cpu, wall = statistics.median(cpus(mine)) / gb, statistics.median(walls(mine))
    notes = f"{moved / MB:,.0f} MiB of messages, {written / MB:,.0f} MiB of Parquet"
    other = "receive, decode, hash"
    result.add(
        Comparison("client", f"{title}: CPU", "s/GB", [c / gb for c in cpus(mine)], other, [c / gb for c in cpus(theirs)], 1.6, notes=notes),
        Comparison("client", f"{title}: wall", "s", walls(mine), other, walls(theirs), notes=f"{gb / wall:.2f} GB/s, {cpu:.2f} CPU seconds per GB"),
    )  # fmt: skip
    if fresh:
        say(f"client, {title}: {fresh} pages were not prepared, because the exports asked for different ones")


# --- 4. verify --------------------------------------------------------------------------------------------------------


def verify(harness: Harness, result: Result) -> None:
    """Every byte of a snapshot: the tool, and coreutils over the same files, both from the page cache."""
    say("verify: making a snapshot")
    snapshot = harness.snapshot("vectors", 256, harness.size(4_000_000, 40_000))
    listed = (snapshot / "SHA256SUMS").read_text().splitlines()
    size = sum((snapshot / line.split(None, 1)[1]).stat().st_size for line in listed)
    sha256sum = shutil.which("sha256sum")
    if sha256sum is None:
        raise BenchError("there is no sha256sum to compare with; install coreutils")

    def ours() -> Cost:
        cost = harness.tool("verify", f"file://{snapshot}", "--level", "full")
        same("bytes verified and bytes listed", cost.document["totals"]["bytes"], size, within=0.01)
        return cost

    def coreutils() -> Cost:
        return harness.run(sha256sum, "--quiet", "--check", "SHA256SUMS", cwd=snapshot)

    def openssl() -> Cost:
        return harness.run(sys.executable, "-I", "-S", "-c", HASH_ALL, cwd=snapshot)

    coreutils()
    say("verify: measuring")
    mine, theirs, fast = alternate(harness.rounds(4), ours, coreutils, openssl)
    notes = f"{size / 1e9:.1f} GB in {len(listed)} files, {size / 1e9 / statistics.median(walls(mine)):.2f} GB/s"
    title = "verify --level full"
    result.add(
        Comparison("verify", f"{title}: wall", "s", walls(mine), "sha256sum", walls(theirs), 1.3, notes=notes),
        Comparison("verify", f"{title}: CPU", "s", cpus(mine), "sha256sum", cpus(theirs), 1.3),
        Comparison("verify", f"{title}: wall", "s", walls(mine), "OpenSSL's SHA-256", walls(fast)),
        Comparison("verify", f"{title}: CPU", "s", cpus(mine), "OpenSSL's SHA-256", cpus(fast), 1.3),
    )


# Some builds of sha256sum do without the processor's SHA instructions; Python's hashlib is OpenSSL, which has them.
HASH_ALL = """
import hashlib
for line in open("SHA256SUMS"):
    digest, name = line.split(None, 1)
    with open(name.strip(), "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise SystemExit(name)
"""


# --- 5. memory --------------------------------------------------------------------------------------------------------


def memory(harness: Harness, result: Result) -> None:
    """Peak memory at default settings, for rows and for ten times as many; a server in memory on the other side.

    The fewer are enough that each of the sixteen ranges fills a row group of 32 MiB.
    """
    kind, dim, small = "vectors", 256, harness.size(1_000_000, 4_000)
    exports: list[tuple[str, list[float]]] = []
    imports: list[tuple[str, list[float]]] = []
    for rows in (small, 10 * small):
        say(f"memory: {rows:,} rows x {dim} dims")
        label = f"{rows:,} rows"
        at = harness.folder / "memory"
        with Serving(harness, "serve", "--kind", kind, "--dim", str(dim), "--rows", str(rows)) as fake:
            exports.append((label, [harness.export(fake.uri, "source", rows, keep=at).memory / MB]))
        with Serving(harness, "serve") as fake:
            cost = harness.tool("import", f"file://{at}", "--target", fake.uri)
            same("rows imported", cost.document["totals"]["rows"], rows)
            imports.append((label, [cost.memory / MB]))
        shutil.rmtree(at)
    documents: list[tuple[str, list[float]]] = []
    small = harness.size(3_500_000, 3_000)
    for rows in (small, 10 * small):
        say(f"memory: {rows:,} JSON documents")
        with Serving(harness, "serve", "--kind", "json", "--dim", "8", "--rows", str(rows)) as fake:
            documents.append((f"{rows:,} rows", [harness.export(fake.uri, "source", rows).memory / MB]))
    for title, points in [
        (f"export, {dim} dims", exports),
        (f"import, {dim} dims", imports),
        ("export, JSON documents", documents),
    ]:
        result.add(Series("memory", title, "MiB", points, limit=1.1, ceiling=512))


# --- 6. growth --------------------------------------------------------------------------------------------------------


def growth(harness: Harness, result: Result) -> None:
    """Cost per row as the rows become more, with a server in memory that has its answers ready."""
    base, dim, times = harness.size(200_000, 5_000), 128, (1, 2, 4, 8)
    fakes: list[tuple[int, Serving]] = []
    costs: dict[int, list[Cost]] = {}
    try:
        for factor in times:
            rows = base * factor
            say(f"growth: preparing {rows:,} rows x {dim} dims")
            arguments = ("--kind", "plain", "--dim", str(dim), "--rows", str(rows), "--keep")
            fakes.append((rows, Serving(harness, "serve", *arguments)))
            harness.export(fakes[-1][1].uri, "source", rows)
        say("growth: measuring")
        for _ in range(harness.rounds(4)):
            for rows, fake in fakes:
                costs.setdefault(rows, []).append(harness.export(fake.uri, "source", rows))
    finally:
        for _, fake in fakes:
            fake.__exit__()

    def points(of: Any) -> list[tuple[str, list[float]]]:
        return [(f"x{rows // base}", [of(cost) * 1e6 / rows for cost in own]) for rows, own in costs.items()]

    notes = f"{dim} dims with scalars; x1 is {base:,} rows"
    result.add(
        Series("growth", "export, wall", "µs/row", points(lambda cost: cost.wall), limit=1.1, notes=notes),
        Series("growth", "export, CPU", "µs/row", points(lambda cost: cost.cpu), limit=1.1),
    )


SECTIONS = {
    "export": export,
    "import": import_,
    "bulk": bulk,
    "client": client,
    "verify": verify,
    "memory": memory,
    "growth": growth,
}

