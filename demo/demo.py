"""The demo: organization A hands collections over to organization B.

Two real Milvus servers (Milvus Lite 3.2.2) run on loopback. They never talk to each other: all they share is a
folder that stands for a bucket. A is filled with three collections, exported, the snapshot is checked with and
without the tool, B imports it, and an independent client (pymilvus) compares the two.

Everything it starts it stops, also when it fails or is interrupted. Exit code 0 means that B equals A.
"""

from __future__ import annotations

import os
import pathlib
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "live"))

import numpy as np  # noqa: E402
import servers  # noqa: E402
from pymilvus import DataType, MilvusClient  # noqa: E402

FOLDER = ROOT / ".demo"
SNAPSHOT_NAME = "handover-2026"
COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ
SAMPLE = 200


class Failed(Exception):
    """The demo's verdict is no."""


def paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if COLOR else text


def title(text: str) -> None:
    print(f"\n{paint('1', '== ' + text)}", flush=True)


def note(text: str) -> None:
    print(f"   {text}", flush=True)


def run(argv: list[str], shown: list[str] | None = None, cwd: pathlib.Path = ROOT, keep: int | None = None) -> None:
    """Prints a command, runs it, prints what it says. `keep` shortens a long listing in the middle."""
    print(f"\n{paint('36', '$ ' + shlex.join(shown or argv))}", flush=True)
    done = subprocess.run(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = done.stdout.rstrip().splitlines()
    if keep and len(lines) > keep:
        lines = lines[: keep - 1] + [f"... {len(lines) - keep} more ...", lines[-1]]
    for line in lines:
        print(f"   {line}", flush=True)
    if done.returncode != 0:
        raise Failed(f"`{shown[0] if shown else argv[0]}` ended with exit code {done.returncode}")


def tool() -> pathlib.Path:
    candidates = [os.environ.get("MILVUS_HANDOFF_BIN"), ROOT / "target/release/milvus-handoff", ROOT / "target/debug/milvus-handoff"]
    for candidate in candidates:
        if candidate and pathlib.Path(candidate).is_file():
            return pathlib.Path(candidate).resolve()
    raise Failed("no milvus-handoff binary; run: make demo (it builds first), or set MILVUS_HANDOFF_BIN")


# --- what A holds -------------------------------------------------------------------------------------------------


def vectors(seed: int, rows: int, dim: int) -> list[list[float]]:
    return np.random.default_rng(seed).standard_normal((rows, dim), dtype=np.float32).tolist()


def fill_a(uri: str) -> list[tuple[str, str]]:
    """Three collections in two databases; the same in every run. Returns (database, collection)."""
    rng = random.Random(2026)
    client = MilvusClient(uri=uri)

    schema = MilvusClient.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("name", DataType.VARCHAR, max_length=200)
    schema.add_field("price", DataType.DOUBLE)
    schema.add_field("in_stock", DataType.BOOL)
    schema.add_field("details", DataType.JSON)
    schema.add_field("embedding", DataType.FLOAT_VECTOR, dim=64)
    client.create_collection("products", schema=schema)
    data = vectors(1, 4000, 64)
    rows = []
    for n in range(4000):
        row = {
            "id": 10_000 + n,
            "name": f"{rng.choice(['Lampe', 'chair', '桌子', 'étagère'])} \"{n}\"",
            "price": round(rng.uniform(1, 900), 2),
            "in_stock": rng.random() < 0.7,
            "details": {"sku": 2**62 + n, "sizes": [rng.randint(1, 9) for _ in range(n % 4)], "origin": {"country": "CH"}},
            "embedding": data[n],
        }
        if n % 3 == 0:
            row["campaign"] = rng.choice(["spring", "summer"])  # goes into the dynamic field
        rows.append(row)
    for n, partition in enumerate(["_default", "europe", "asia"]):
        if partition != "_default":
            client.create_partition("products", partition)
        client.insert("products", rows[n::3], partition_name=partition)
    finish(client, "products", "embedding", "COSINE")
    client.create_alias("products", "catalog")

    schema = MilvusClient.create_schema()
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=80)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.VARCHAR, max_capacity=8, max_length=40)
    schema.add_field("scores", DataType.ARRAY, element_type=DataType.FLOAT, max_capacity=8)
    schema.add_field("body", DataType.FLOAT_VECTOR, dim=128)
    client.create_collection("articles", schema=schema)
    data = vectors(2, 2500, 128)
    client.insert(
        "articles",
        [
            {
                "key": f"2026/{n:05d} – \"{rng.choice(['nota', 'Bericht', '记录'])}\"",
                "tags": rng.sample(["law", "finance", "medizin", "科学"], k=n % 4),
                "scores": np.float32([rng.random() for _ in range(n % 5)]).tolist(),
                "body": data[n],
            }
            for n in range(2500)
        ],
    )
    finish(client, "articles", "body", "IP")

    client.create_database("research")
    research = MilvusClient(uri=uri, db_name="research")
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("day", DataType.INT32)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=32)
    research.create_collection("signals", schema=schema)
    data = vectors(3, 3000, 32)
    research.insert("signals", [{"id": n * 7 - 9000, "day": n % 365, "v": data[n]} for n in range(3000)])
    finish(research, "signals", "v", "L2")

    client.close(), research.close()
    return [("default", "articles"), ("default", "products"), ("research", "signals")]


def finish(client: MilvusClient, name: str, vector: str, metric: str) -> None:
    params = client.prepare_index_params()
    params.add_index(vector, index_type="AUTOINDEX", metric_type=metric)
    client.create_index(name, params)
    client.load_collection(name)


# --- what pymilvus says of both -----------------------------------------------------------------------------------


def compare(a_uri: str, b_uri: str, collections: list[tuple[str, str]]) -> None:
    """Counts of every partition, and sampled entities (the newest among them), read from both servers."""
    rng = random.Random(7)
    wrong = 0
    print(f"   {'collection':<22}{'partition':<12}{'rows in A':>10}{'rows in B':>10}  {'entities compared':<20}verdict")
    for database, name in collections:
        a, b = MilvusClient(uri=a_uri, db_name=database), MilvusClient(uri=b_uri, db_name=database)
        b.load_collection(name)  # an import leaves collections unloaded: loading costs memory, so B decides
        key = next(f["name"] for f in a.describe_collection(name)["fields"] if f.get("is_primary"))
        for partition in sorted(set(a.list_partitions(name)) | set(b.list_partitions(name))):
            keys = [keys_of(c, name, key, partition) for c in (a, b)]
            newest = keys[0][-SAMPLE // 4 :]
            sample = sorted(set(newest) | set(rng.sample(keys[0], min(len(keys[0]), SAMPLE - len(newest)))))
            rows = [rows_of(c, name, key, sample, partition) for c in (a, b)]
            same = keys[0] == keys[1] and rows[0] == rows[1] and len(rows[0]) == len(sample)
            wrong += not same
            verdict = paint("32", "equal") if same else paint("31", "DIFFERENT")
            print(f"   {database + '.' + name:<22}{partition:<12}{len(keys[0]):>10}{len(keys[1]):>10}  {len(sample):<20}{verdict}")
        aliases = [sorted(c.list_aliases(name).get("aliases", [])) for c in (a, b)]
        if aliases[0] != aliases[1]:
            wrong += 1
            note(f"aliases of {name}: {aliases[0]} in A, {aliases[1]} in B")
        a.close(), b.close()
    if wrong:
        raise Failed(f"{wrong} comparisons found a difference")


def keys_of(client: MilvusClient, name: str, key: str, partition: str) -> list:
    reply = client.query(name, filter="", output_fields=[key], partition_names=[partition], limit=16000)
    return sorted(row[key] for row in reply)


def rows_of(client: MilvusClient, name: str, key: str, keys: list, partition: str) -> dict:
    if not keys:
        return {}
    literals = ", ".join(str(k) if isinstance(k, int) else '"' + k.replace('"', '\\"') + '"' for k in keys)
    reply = client.query(name, filter=f"{key} in [{literals}]", output_fields=["*"], partition_names=[partition], limit=16000)
    return {row[key]: dict(row) for row in reply}


# --- the story ----------------------------------------------------------------------------------------------------


def demo() -> None:
    binary = tool()
    command = [binary.name]
    shutil.rmtree(FOLDER, ignore_errors=True)
    bucket = FOLDER / "bucket"
    bucket.mkdir(parents=True)
    url = f"file://{bucket}/{SNAPSHOT_NAME}"

    title("Two organizations, each with its own Milvus, and one bucket between them")
    with servers.lite322() as a, servers.lite322() as b:
        note(f"organization A  {a.uri}   (Milvus Lite 3.2.2)")
        note(f"organization B  {b.uri}   (Milvus Lite 3.2.2)")
        note(f"the bucket      {bucket}")
        collections = fill_a(a.uri)
        note("A now holds three collections in two databases: vectors, JSON, arrays, a dynamic field, partitions, an alias.")

        def handoff(*args: str) -> None:
            run([str(binary), *args], shown=[*command, *args])

        title("A exports everything into the bucket")
        handoff("export", url, "--source", a.uri)

        title("Anyone can check the snapshot: with the tool, or without it")
        handoff("verify", url, "--level", "full")
        if not (bucket / SNAPSHOT_NAME / "SHA256SUMS").is_file():
            raise Failed("the export said it worked, but there is no snapshot in the bucket")
        sums = ["sha256sum"] if shutil.which("sha256sum") else ["shasum", "-a", "256"]
        run([*sums, "-c", "SHA256SUMS"], cwd=bucket / SNAPSHOT_NAME, keep=8)
        handoff("inspect", url, "--rows", "2")

        title("B imports it; nothing but the bucket is needed")
        a_uri = a.uri
        handoff("import", url, "--target", b.uri)

        title("An independent client (pymilvus) compares A and B")
        compare(a_uri, b.uri, collections)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    try:
        demo()
    except KeyboardInterrupt:
        print(f"\n{paint('31', 'INTERRUPTED')}: everything that was started has been stopped", flush=True)
        return 130
    except (Failed, servers.ServerError) as error:
        print(f"\n{paint('31;1', 'DEMO FAILED')}: {error}", flush=True)
        return 1
    took = time.monotonic() - started
    print(f"\n{paint('32;1', 'DEMO SUCCESSFUL')}: B equals A, in {took:.0f} s; the snapshot stays in {FOLDER}/bucket", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
