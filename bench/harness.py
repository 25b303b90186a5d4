"""What the sections of the benchmark share: running programs with their costs, servers in memory, snapshots.

Every number is taken from the operating system about one process (`measure.py`). Programs that are compared run one
after the other, never side by side, and in turns: A B A B. What is reported is the ratio of neighbours, so that a
machine that slows down meanwhile slows both.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Callable

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT = 900
TERMINATED = 143  # what the tool exits with after SIGTERM


class BenchError(RuntimeError):
    """A program failed, or two programs did not do the same work."""


@dataclass
class Cost:
    """What one run of one program cost. Seconds and bytes."""

    wall: float
    cpu: float
    memory: int
    until: float | None
    document: dict[str, Any]


@dataclass
class Comparison:
    """One row of the table: the tool against something, in one kind of cost, over several rounds."""

    section: str
    title: str
    unit: str
    ours: list[float]
    other: str
    theirs: list[float]
    limit: float | None = None  # the ratio (or, with `faster`, the factor) that DESIGN asks for
    faster: bool = False  # report how many times faster instead of how many times the cost
    notes: str = ""

    @property
    def ratios(self) -> list[float]:
        pairs = list(zip(self.ours, self.theirs))
        return [b / a for a, b in pairs] if self.faster else [a / b for a, b in pairs]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def met(self) -> bool | None:
        if self.limit is None:
            return None
        return self.ratio >= self.limit if self.faster else self.ratio <= self.limit


@dataclass
class Series:
    """A cost that is shown by itself, without a competitor: memory, cost as work grows."""

    section: str
    title: str
    unit: str
    points: list[tuple[str, list[float]]]
    limit: float | None = None  # of the last point over the first
    ceiling: float | None = None  # of every point
    notes: str = ""

    def median(self, index: int) -> float:
        return statistics.median(self.points[index][1])

    @property
    def growth(self) -> float:
        return self.median(-1) / self.median(0)

    @property
    def met(self) -> bool | None:
        if self.limit is None and self.ceiling is None:
            return None
        fits = self.ceiling is None or all(statistics.median(values) <= self.ceiling for _, values in self.points)
        return fits and (self.limit is None or self.growth <= self.limit)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def same(what: str, one: float, other: float, within: float = 0.0) -> None:
    """Fails unless two amounts of work are the same, or nearly."""
    if abs(one - other) > within * max(abs(one), abs(other)):
        raise BenchError(f"not the same work: {what} are {one:,} and {other:,}")


def alternate(rounds: int, *programs: Callable[[], Cost]) -> list[list[Cost]]:
    """A B A B: gives the costs of each program, round by round."""
    costs: list[list[Cost]] = [[] for _ in programs]
    for _ in range(rounds):
        for program, own in zip(programs, costs):
            own.append(program())
    return costs


class Harness:
    """Where programs and files are, and how much work there is to be."""

    def __init__(self, tool: pathlib.Path, wire: pathlib.Path, folder: pathlib.Path, quick: bool):
        self.tool_path = tool
        self.wire_path = wire
        self.folder = folder
        self.quick = quick
        self._runs = 0
        self._snapshots: dict[tuple[str, int, int], pathlib.Path] = {}

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def rounds(self, full: int) -> int:
        return 1 if self.quick else full

    # --- programs -------------------------------------------------------------------------------------------------

    def run(
        self,
        *command: str | pathlib.Path,
        token: str = "",
        since: str | None = None,
        until: str | None = None,
        stop: bool = False,
        cwd: pathlib.Path | None = None,
    ) -> Cost:
        """Runs a program to its end, or to the line that holds `until`, which is timed from its start or from the line
        that holds `since`; it prints a JSON document, or nothing."""
        self._runs += 1
        out, err = self.folder / f"out{self._runs}", self.folder / f"err{self._runs}"
        launcher = [sys.executable, "-I", "-S", str(HERE / "measure.py")]
        if since:
            launcher += ["--since", since]
        if until:
            launcher += ["--until", until, *(["--stop"] if stop else [])]
        process = subprocess.Popen(
            [*launcher, str(out), str(err), *map(str, command)],
            env=self.environment(token),
            cwd=cwd or self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            measured, complaint = process.communicate(timeout=TIMEOUT)
        except BaseException:
            # Whatever ends us must also end the program that the launcher has started.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise
        if process.returncode != 0:
            raise BenchError(f"{command[0]} could not be measured:\n{complaint}")
        cost = json.loads(measured)
        printed = out.read_text()
        if cost["code"] != (TERMINATED if stop else 0):
            said = err.read_text(errors="replace")[-3000:]
            raise BenchError(f"exit code {cost['code']}: {' '.join(map(str, command))}\n{printed[-1000:]}\n{said}")
        if until and cost["until"] is None:
            raise BenchError(f"{command[0]} never said {until!r}")
        document = json.loads(printed) if printed.startswith("{") else {}
        out.unlink()
        err.unlink()
        return Cost(cost["wall"], cost["user"] + cost["system"], cost["memory"], cost["until"], document)

    def environment(self, token: str) -> dict[str, str]:
        """Ours, without what could make a run depend on settings of the machine, or on an earlier run: an import that
        was stopped leaves a journal in its home, and the next one would go on from there."""
        dropped = ("AWS_", "MILVUS_HANDOFF_", "BENCH_", "XDG_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        tokens = {name: token for name in ("MILVUS_HANDOFF_SOURCE_TOKEN", "MILVUS_HANDOFF_TARGET_TOKEN", "BENCH_TOKEN")}
        home = self.folder / f"home{self._runs}"
        home.mkdir()
        return {**kept, "NO_COLOR": "1", "HOME": str(home), **(tokens if token else {})}

    def tool(self, *arguments: str | pathlib.Path, **how: Any) -> Cost:
        cost = self.run(self.tool_path, *arguments, "--json", **how)
        if not how.get("stop") and cost.document.get("status") != "successful":
            raise BenchError(f"{self.tool_path} {arguments[0]} ended well and does not say that it was successful")
        return cost

    def wire(self, *arguments: str | pathlib.Path, **how: Any) -> Cost:
        return self.run(self.wire_path, *arguments, **how)

    # --- exports --------------------------------------------------------------------------------------------------

    def export(
        self, uri: str, collection: str, rows: int, token: str = "", keep: pathlib.Path | None = None, more: tuple[str, ...] = ()
    ) -> Cost:
        """Exports one collection into a folder, which is removed again unless it is to be kept."""
        at = keep or self.folder / "export"
        cost = self.tool("export", f"file://{at}", "--source", uri, "-c", collection, *more, token=token)
        same("rows in the snapshot and in the collection", cost.document["totals"]["rows"], rows)
        if keep is None:
            shutil.rmtree(at)
        return cost

    def snapshot(self, kind: str, dim: int, rows: int, *more: str) -> pathlib.Path:
        """A snapshot of rows that the fake server makes up, exported with `more` options."""
        if (kind, dim, rows) not in self._snapshots:
            at = self.folder / f"{kind}-{dim}-{rows}"
            with Serving(self, "serve", "--kind", kind, "--dim", str(dim), "--rows", str(rows)) as fake:
                self.export(fake.uri, "source", rows, keep=at, more=more)
            self._snapshots[kind, dim, rows] = at
        return self._snapshots[kind, dim, rows]

    def recorded_inserts(self, snapshot: pathlib.Path, name: str) -> pathlib.Path:
        """The requests that the tool sends when it imports a snapshot of `source` as `name`."""
        at = self.folder / f"{name}.inserts"
        with Serving(self, "serve", "--record") as fake:
            self.tool("import", f"file://{snapshot}", "--target", fake.uri, "--rename", f"source={name}")
            fake.command(f"save {at}")
        return at


class Serving:
    """A `bench-wire serve` or `proxy`, which ends when this does, or with this process."""

    def __init__(self, harness: Harness, *arguments: str):
        self._process = subprocess.Popen(
            [harness.wire_path, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.uri = f"http://127.0.0.1:{self._line()['port']}"

    def _line(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{self._process.args} has ended by itself")
        return json.loads(line)

    def command(self, text: str) -> dict[str, Any]:
        """`reset` or `save FILE`; gives what was recorded since the last reset, in numbers."""
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return self._line()

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@dataclass
class Result:
    """All that a run of the benchmark found."""

    comparisons: list[Comparison] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    began: float = field(default_factory=time.time)

    def add(self, *items: Comparison | Series) -> None:
        for item in items:
            (self.comparisons if isinstance(item, Comparison) else self.series).append(item)
