"""The parts of a snapshot as a dataset for other engines: the very lines of docs/datasets.md, and every value that they
give against what the source hands out."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from pymilvus import DataType as T

import data
import layout
from conftest import Servers
from moves import tokens
from oracle import differences
from tool import Tool

ROOT = pathlib.Path(__file__).resolve().parents[2]
# engine -> its heading in the page, the interpreter that has it, and how its result becomes a file
ENGINES = {
    "pyarrow": ("pyarrow", sys.executable, "import pyarrow.feather; pyarrow.feather.write_feather(rows, OUT)"),
    "duckdb": ("DuckDB", sys.executable, "import pyarrow.feather; pyarrow.feather.write_feather(rows, OUT)"),
    "polars": ("Polars", str(ROOT / ".venvs/polars/bin/python"), "rows.write_ipc(OUT, compat_level=polars.CompatLevel.oldest())"),
}  # fmt: skip


def block(heading: str) -> str:
    """The first lines of Python below a heading of the page."""
    page = (ROOT / "docs/datasets.md").read_text()
    return re.search(rf"^## {heading}\n.*?```python\n(.*?)```", page, re.DOTALL | re.MULTILINE)[1]


@pytest.fixture(scope="module", params=["milvus235", "lite322"])
def moved(request: pytest.FixtureRequest, tool: Tool, clusters: Servers, tmp_path_factory: pytest.TempPathFactory):
    """Every type that the source has, in several partitions and parts, and its snapshot."""
    source = clusters(request.param)
    engine = source.engine
    name = f"t{tmp_path_factory.getbasetemp().name.replace('-', '_')}_{request.param}__articles"
    vectors = list(engine.vectors) if engine.many_vectors else [T.FLOAT_VECTOR]
    spec = data.wide(name, engine, vectors=vectors)
    source.fill(spec)
    folder = tmp_path_factory.mktemp("datasets")
    tool.run("export", f"file://{folder}/snap", "--source", source.uri, "-c", name, "--part-size", "64KiB", "--page-rows", "50", env=tokens(source=source))
    yield source, spec, folder / "snap"
    source.client().drop_collection(name)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_reads_what_the_source_has(engine: str, moved, tmp_path: pathlib.Path) -> None:
    source, spec, snapshot = moved
    heading, python, store = ENGINES[engine]
    lines = block("Which files").replace('"2026-11-23"', repr(str(snapshot))).replace('"articles"', repr(spec.name))
    program = f"{lines}\n{block(heading)}\nOUT = {str(tmp_path / 'rows')!r}\n{store}\n"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table = pa.ipc.open_file(tmp_path / "rows").read_all()
    assert table.num_rows == len(spec.all_rows) > 0
    rows = layout.decode(table, list(spec.schema.fields))
    assert not (wrong := differences(source.rows(spec), rows, engine)), "\n".join(wrong)


def test_sql_alone_names_the_partition(moved) -> None:
    import duckdb

    source, spec, snapshot = moved
    page = (ROOT / "docs/datasets.md").read_text()
    sql = re.search(r"```sql\n(.*?)```", page, re.DOTALL)[1]
    folder = next((snapshot / "data/default").iterdir())
    sql = sql.replace("2026-11-23/data/default/articles", str(folder)).replace(" id,", f" {spec.key},")
    if not spec.schema.enable_dynamic_field:
        pytest.fail("the statement is about a collection with a dynamic field")
    found: dict[str, int] = {}
    for partition, *_ in duckdb.sql(sql).fetchall():
        found[partition] = found.get(partition, 0) + 1
    wanted = {partition: len(rows) for partition, rows in spec.rows.items() if rows}
    assert found in (wanted, {"-": sum(wanted.values())})
