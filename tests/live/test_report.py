"""`report` of real exports: its commands are run as they stand on the page, with the stock programs."""

from __future__ import annotations

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import duckdb
import pytest

import data
from buckets import FolderBucket
from conftest import Servers
from test_signatures import flip, minisign  # noqa: F401, a fixture
from tool import INTEGRITY, USAGE, Tool


@pytest.fixture
def signed(tool: Tool, clusters: Servers, folder_bucket: FolderBucket, unique: str) -> tuple[str, list[data.Spec]]:
    """A signed snapshot of two collections with several parts, in a folder with a blank in its name."""
    cluster = clusters("lite322")
    specs = [data.plain(f"{unique}_one", 300, partitions=3), data.plain(f"{unique}_two", 50)]
    for spec in specs:
        cluster.fill(spec)
    url = folder_bucket.url("a snap")
    patterns = [arg for spec in specs for arg in ("-c", spec.name)]
    tool.run("keygen", str(tool.home / f"{unique}.key"), "--no-password")
    tool.run("export", url, "--source", cluster.uri, *patterns, "--part-size", "64KiB", "--page-rows", "50",
             "--sign-key", str(tool.home / f"{unique}.key"))  # fmt: skip
    return url, specs


def test_the_commands_of_a_report_check_the_snapshot(
    tool: Tool, signed: tuple[str, list[data.Spec]], folder_bucket: FolderBucket, unique: str, minisign: pathlib.Path, tmp_path: pathlib.Path  # noqa: F811
) -> None:
    url, specs = signed
    key = str(tool.home / f"{unique}.key.pub")
    doc = tool.run("report", url, "--trusted-key", key).doc
    assert [s["state"] for s in doc["signatures"]] == ["valid"]
    commands = [command for check in doc["checks"] for command in check["commands"]]
    assert [c.split()[0] for c in commands] == ["cd", "echo", "echo", "sha256sum", "sed", "!", "!", "minisign", "milvus-handoff"], commands
    # The page has no key: what stands for it is the file that the signer gave.
    assert all("SIGNER.pub" in c for c in commands[-2:])
    commands[-2:] = [c.replace("SIGNER.pub", shlex.quote(key)) for c in commands[-2:]]
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "milvus-handoff").symlink_to(tool.binary)
    (programs / "minisign").symlink_to(minisign)
    env = {**tool.environment(None), "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(*lines: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-c", "\n".join(lines)], env=env, capture_output=True, text=True, timeout=120)

    for command in commands[1:]:
        done = run("set -e", commands[0], command)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    # DuckDB reads the parts by the statement that stands beside each collection.
    folder = pathlib.Path(shlex.split(commands[0])[1])
    for collection, spec in zip(doc["collections"], sorted(specs, key=lambda spec: spec.name)):
        program, flag, statement = shlex.split(collection["check"])
        assert (program, flag) == ("duckdb", "-c")
        here = statement.replace("'data/", f"'{folder}/data/")
        assert duckdb.sql(here).fetchall() == [(len(spec.all_rows),)], statement

    # What the manifest does not name is seen, and so is what is missing of the bookkeeping.
    plan, surplus = folder / "PLAN.json", folder / "data/surplus.parquet"
    surplus.write_text("x")
    done = run(commands[0], commands[6])
    assert (done.returncode, done.stdout) == (1, "data/surplus.parquet\n"), done
    surplus.unlink()
    kept = plan.read_bytes()
    plan.unlink()
    done = run(commands[0], commands[6])
    assert (done.returncode, done.stdout) == (1, "PLAN.json\n"), done
    assert run(commands[0], commands[4]).returncode != 0
    plan.write_bytes(kept)
    for bookkept in (plan, folder / "units/u00001.json"):
        flip(bookkept)
        assert run(commands[0], commands[4]).returncode != 0
        flip(bookkept)
    assert all(run(commands[0], command).returncode == 0 for command in commands[1:])

    # After a change of one byte they refuse.
    part = folder / folder_bucket.parts("a snap")[0]
    flip(part)
    assert run(commands[0], commands[3]).returncode != 0
    page = tmp_path / "audit.html"
    failed = tool.run("report", url, "-o", str(page), "--level", "full", code=INTEGRITY)
    assert failed.doc["file"] == str(page) and len(failed.doc["problems"]) == 1
    assert "What is wrong" in page.read_text()
    flip(part)
    flip(folder / "COMMIT.json")
    assert run(commands[0], commands[1]).returncode != 0
    assert run(commands[0], commands[7]).returncode != 0


def test_a_report_says_what_the_target_has(tool: Tool, clusters: Servers, signed: tuple[str, list[data.Spec]], tmp_path: pathlib.Path) -> None:
    url, specs = signed
    target = clusters("lite322b")
    tool.run("import", url, "--target", target.uri, "--load")
    result, page = tmp_path / "result.json", tmp_path / "audit.html"

    def report(code: int) -> tuple[dict, str]:
        compared = tool.run("compare", url, "--target", target.uri, "--level", "full", code=code)
        result.write_text(compared.stdout)
        done = tool.run("report", url, "--compare", str(result), "-o", str(page), code=code)
        return done.doc, page.read_text()

    doc, text = report(0)
    assert doc["target"]["differences"] == 0 and {v["about"]: v["mark"] for v in doc["verdicts"]}["Target"] == "good"
    assert re.search(r"Target</div><div class=\"big\">350 rows", text)
    target.client().delete(specs[0].name, ids=[0, 1])
    doc, text = report(INTEGRITY)
    assert {v["about"]: v["mark"] for v in doc["verdicts"]}["Target"] == "bad"
    assert re.search(r"Target</div><div class=\"big\">348 rows", text) and text.count("<td>missing row</td>") == 2

    # The result of a comparison with another snapshot is refused.
    other = json.loads(result.read_text())
    other["snapshot"]["commit_sha256"] = "sha256:" + "0" * 64
    result.write_text(json.dumps(other))
    tool.run("report", url, "--compare", str(result), "-o", str(page), code=USAGE)
    shutil.rmtree(tmp_path, ignore_errors=True)
