"""What people and programs see of a transfer besides its result: progress, and the commands to run next."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import subprocess
import threading

import pytest

import data
from buckets import FolderBucket
from conftest import Servers
from moves import tokens
from oracle import Cluster
from tool import TIMEOUT, Tool


@pytest.fixture(scope="module")
def source(clusters: Servers) -> Cluster:
    return clusters("lite322")


@pytest.fixture
def database(source: Cluster, unique: str) -> str:
    """Two collections, 900 rows."""
    source.create_database(unique)
    source.fill(data.plain("one", 600, partitions=2), unique)
    source.fill(data.plain("two", 300), unique)
    return unique


def on_a_terminal(tool: Tool, *args: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, stdout, and what a terminal 80 columns wide gets to see on stderr."""
    terminal, theirs = pty.openpty()
    environment = tool.environment({"TERM": "xterm", **(env or {})})
    process = subprocess.Popen([str(tool.binary), *args], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = bytearray()

    def read() -> None:
        try:
            while piece := os.read(terminal, 4096):
                shown.extend(piece)
        except OSError:
            pass  # the last one closed it

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=TIMEOUT)
    reader.join(timeout=60)
    os.close(terminal)
    return process.returncode, out.decode(), shown.decode().replace("\r\n", "\n")


def steps(shown: str) -> list[str]:
    """The lines below `next:`."""
    assert "next:\n" in shown, shown
    return [line.strip() for line in shown.split("next:\n", 1)[1].strip().splitlines()]


def commands(lines: list[str]) -> dict[str, str]:
    found = [re.search(r"  (milvus-handoff (\S+) .*)$", line) for line in lines]
    return {match[2]: match[1] for match in found if match}


def typed(tool: Tool, command: str, cwd: pathlib.Path) -> subprocess.CompletedProcess:
    """Runs a line in a shell, as somebody who copies it would."""
    path = tool.home / "bin"
    path.mkdir(exist_ok=True)
    if not (path / "milvus-handoff").exists():
        (path / "milvus-handoff").symlink_to(tool.binary)
    environment = tool.environment({"PATH": f"{path}:{os.environ['PATH']}"})
    return subprocess.run(["sh", "-c", command], env=environment, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT)


def test_the_next_commands_lead_to_the_end(
    tool: Tool, source: Cluster, database: str, folder_bucket: FolderBucket, tmp_path: pathlib.Path
) -> None:
    """Every command that is printed is run as it stands; only the target's address is filled in."""
    tool.run("keygen", str(tmp_path / "our key"), "--no-password")
    url = folder_bucket.url("it's a snapshot").replace(" ", "%20").replace("'", "%27")
    args = ("-c", f"{database}.*", "--sign-key", str(tmp_path / "our key"))
    code, out, shown = on_a_terminal(tool, "export", url, "--source", source.uri, *args)
    assert code == 0 and out.rstrip().splitlines()[-1].startswith("Successful"), shown
    following = steps(shown)
    assert "send the digest" in following[0] and "docs/cutover.md" in following[-1], following
    found = commands(following)
    verified = typed(tool, found["verify"], tmp_path)
    assert verified.returncode == 0 and "signed by the trusted key" in verified.stdout, verified

    rename = f"{database}.*={database}_copy.*"
    into = found["import"].replace("http://HOST:19530", source.uri) + f" -c '{database}.on?' --rename '{rename}'"
    journal = ["--journal", str(tmp_path / "journal")]
    words = subprocess.run(["sh", "-c", f'for word in {into.removeprefix("milvus-handoff ")}; do printf "%s\\0" "$word"; done'], capture_output=True, check=True)
    code, out, shown = on_a_terminal(tool, *words.stdout.decode().split("\0")[:-1], *journal)
    assert code == 0, out + shown
    following = steps(shown)
    found = commands(following)
    assert set(found) == {"compare"} and found["compare"].endswith(" --level full --load"), following
    compared = typed(tool, found["compare"], tmp_path)
    assert compared.returncode == 0 and "Successful: no difference in 1 collection" in compared.stdout, compared


def test_nothing_comes_next_for_programs_and_plans(tool: Tool, source: Cluster, database: str, folder_bucket: FolderBucket) -> None:
    export = ("export", folder_bucket.url("snap"), "--source", source.uri, "-c", f"{database}.*")
    for more in (["--plan"], ["-q"]):
        code, _, shown = on_a_terminal(tool, *export, *more)
        assert code == 0 and "next:" not in shown, shown
        folder_bucket.remove()
        folder_bucket.folder.mkdir()
    code, _, shown = on_a_terminal(tool, *export, "--json")
    assert code == 0 and "next:" not in shown, shown
    plain = tool.run("verify", folder_bucket.url("snap"), as_json=False)
    assert "next:" not in plain.stderr, plain


def events(stderr: str) -> list[dict]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


def documented_fields(event: str) -> set[str]:
    page = (pathlib.Path(__file__).parents[2] / "docs/progress.md").read_text()
    section = page.split(f"### `{event}`\n", 1)[1].split("\n##", 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def test_events_for_programs(tool: Tool, clusters: Servers, unique: str, folder_bucket: FolderBucket) -> None:
    """They add up, have the documented fields, and the last of each phase has the whole."""
    source = clusters("milvus235")
    specs = [data.plain(f"{unique}_a", 3_000), data.plain(f"{unique}_b", 500)]
    for spec in specs:
        source.fill(spec)
    env, url = tokens(source=source, target=source), folder_bucket.url("snap")
    runs = [
        tool.run("export", url, "--source", source.uri, "-c", f"{unique}_*", "--page-rows", "100", "-j", "2", "--progress", "json", env=env),
        tool.run("import", url, "--target", source.uri, "--rename", f"default.*={unique}.*", "--progress", "json", env=env),
        tool.run("compare", url, "--target", f"{source.uri}", "--level", "full", "--progress", "json", env=env),
    ]
    for result, phase in zip(runs, ("export", "import", "compare")):
        seen = [e for e in events(result.stderr) if e["phase"] == phase]
        assert seen and all(e["version"] == 1 for e in seen), result
        for event in ("progress", "collection"):
            assert {f for e in seen if e["event"] == event for f in e} == documented_fields(event), event
        last = [e for e in seen if e["event"] == "progress"][-1]
        assert (last["rows"], last["rows_total"], last["bytes"] > 0) == (3_500, 3_500, True), last
        assert (last["collections_finished"], last["collections"], last["seconds_left"]) == (2, 2, None), last
        finished = {e["collection"].rsplit(".", 1)[1]: e["rows"] for e in seen if e["event"] == "collection" and e["finished"]}
        assert finished == {f"{unique}_a": 3_000, f"{unique}_b": 500}, finished
        counts = [e["rows"] for e in seen if e["event"] == "progress"]
        assert counts == sorted(counts)
    verified = tool.run("verify", url, "--progress", "json", "-q")
    last = events(verified.stderr)[-1]
    assert last["phase"] == "verify" and last["bytes"] == last["bytes_total"] > 0, verified
    assert all(line.startswith("{") for line in verified.stderr.splitlines()), "-q leaves only the events"


def test_a_terminal_is_left_clean(tool: Tool, clusters: Servers, unique: str, folder_bucket: FolderBucket) -> None:
    """Live lines fit the terminal, take back what they drew, and use no colour with NO_COLOR."""
    source = clusters("milvus235")
    source.fill(data.plain(unique, 20_000))
    args = ("export", folder_bucket.url("snap"), "--source", source.uri, "-c", unique, "--page-rows", "50", "-j", "1")
    code, _, shown = on_a_terminal(tool, *args, env=tokens(source=source))
    assert code == 0, shown
    drawn = shown.split("next:\n")[0]
    live = [line for line in re.split(r"\n|\x1b\[\d+A\r\x1b\[J", drawn) if line.startswith("export: ")]
    assert live and all(len(line) < 80 for line in live), shown
    assert f"  default.{unique}: " in drawn, "the collection has a line"
    assert len(re.findall(r"\x1b\[\d+A\r\x1b\[J", drawn)) >= len(live), "each drawing is taken back"
    assert set(re.findall(r"\x1b\[[0-9;]*(\w)", shown)) <= {"A", "J"}, "no colours"
    for quiet in (["-q"], ["--progress", "off"], ["--progress", "plain"]):
        folder_bucket.remove()
        folder_bucket.folder.mkdir()
        code, _, shown = on_a_terminal(tool, *args, *quiet, env=tokens(source=source))
        assert code == 0 and "export: " not in shown and "\x1b" not in shown, shown
