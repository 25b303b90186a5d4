"""The benchmark works: it runs small, compares only what did the same work, and reports what it found. No test looks at
a duration; what the figures are is for `make bench` on a quiet machine to say."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import render  # noqa: E402
from harness import BenchError, Comparison, Result, Series, same  # noqa: E402
from tool import Tool  # noqa: E402

PAGE = "# Performance\n\nbefore\n\n<!-- bench: begin -->\nold figures\n<!-- bench: end -->\n\nafter\n"


def bench(tool: pathlib.Path, *arguments: str | pathlib.Path) -> subprocess.CompletedProcess[str]:
    binary = pathlib.Path(os.environ["MILVUS_HANDOFF_BIN"]).resolve()
    wire = binary.parent / "examples" / "bench-wire"
    command = [sys.executable, ROOT / "bench" / "run.py", "--tool", tool, "--wire", wire, "--quick", *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=400)


@pytest.mark.slow
def test_every_section_runs_and_is_reported(tool: Tool, tmp_path: pathlib.Path) -> None:
    docs, work = tmp_path / "docs", tmp_path / "work"
    docs.mkdir()
    work.mkdir()
    (docs / "performance.md").write_text(PAGE)
    done = bench(tool.binary, "--report", docs, "--work", work)
    assert done.returncode == 0, done.stderr
    assert not list(work.iterdir()), "nothing is left behind"

    page = (docs / "performance.md").read_text()
    assert page.startswith("# Performance\n\nbefore\n\n<!-- bench: begin -->\n")
    assert page.endswith("\n<!-- bench: end -->\n\nafter\n")
    assert "old figures" not in page
    titles = re.findall(r"^\| (.+?) \|", page, flags=re.MULTILINE)
    for title in [
        "export, 6,000 x 128 dims",
        "export, 2,000 x 1024 dims",
        "import, 6,000 x 128 dims",
        "bulk import, 6,000 x 768 dims: once staged",
        "float vectors, 768 dims: CPU",
        "20 scalar columns: CPU",
        "JSON documents: CPU",
        "verify --level full: wall",
        "export, 256 dims",
        "import, 256 dims",
        "export, CPU",
    ]:
        assert title in titles, page
        assert title in done.stdout
    assert "pymilvus iterator + BulkWriter" in page
    ET.fromstring((docs / "performance.svg").read_text())


def test_a_tool_that_does_nothing_is_not_fast(tmp_path: pathlib.Path) -> None:
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\n")
    idle.chmod(0o755)
    done = bench(idle, "--only", "verify", "--work", tmp_path)
    assert done.returncode == 1
    assert "does not say that it was successful" in done.stderr
    assert done.stdout == ""


def test_sections_are_chosen_by_name(tool: Tool, tmp_path: pathlib.Path) -> None:
    done = bench(tool.binary, "--only", "verify", "--work", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sha256sum" in done.stdout and "import, " not in done.stdout
    assert bench(tool.binary, "--only", "nonsense").returncode == 2


def test_different_work_is_not_compared() -> None:
    same("rows", 5, 5)
    same("bytes", 1000, 1009, within=0.01)
    with pytest.raises(BenchError, match="rows are 5 and 6"):
        same("rows", 5, 6)
    with pytest.raises(BenchError):
        same("bytes", 1000, 1011, within=0.01)


def test_ratios_are_those_of_neighbours() -> None:
    # The second round ran on a machine that was ten times slower: it says the same.
    cost = Comparison("s", "ours", "s", [1.1, 11.0], "theirs", [1.0, 10.0], limit=1.15)
    assert cost.ratios == [pytest.approx(1.1)] * 2 and cost.met
    factor = Comparison("s", "ours", "s", [1.0], "theirs", [9.0], limit=10, faster=True)
    assert factor.ratios == [9.0] and factor.met is False
    memory = Series("memory", "peak", "MiB", [("1x", [400.0]), ("10x", [430.0])], limit=1.1, ceiling=512)
    assert memory.growth == pytest.approx(1.075) and memory.met
    assert Series("memory", "peak", "MiB", [("1x", [513.0]), ("10x", [513.0])], ceiling=512).met is False


def test_the_plot_reads_in_light_and_dark() -> None:
    rows = [Comparison("export", "a < b & c", "s", [1.0, 2.0], "scan", [1.0, 1.5], limit=1.15)]
    plot = render.svg(Result(rows, [Series("memory", "peak", "MiB", [("1x", [400.0])], ceiling=512)]))
    texts = [element.text for element in ET.fromstring(plot).iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b & c" in texts
    assert "prefers-color-scheme: dark" in plot
