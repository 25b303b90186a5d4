"""The benchmark: what the tool costs, as ratios within one run. `make bench` builds what it needs and runs this.

    bench/run.py --tool milvus-handoff --wire bench-wire [--quick] [--only SECTION,...] [--report FOLDER]

Prints a table. With `--report`, also writes the plot `performance.svg` into the folder and puts the table between the
markers of its `performance.md`; everything else on that page is left as it is. `--quick` makes everything small: it
shows that the harness works, its figures mean nothing. Sections: export, import, bulk, client, verify, memory, growth.

Exit code 1 when something failed or two programs did not do the same work. A missed target is a result, not an error.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import render
from harness import BenchError, Harness, Result, say
from sections import SECTIONS

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure milvus-handoff; see the first lines of this file.")
    parser.add_argument("--tool", type=pathlib.Path, required=True)
    parser.add_argument("--wire", type=pathlib.Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="sections, separated by commas")
    parser.add_argument("--report", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, help="folder for some 6 GB of temporary files")
    arguments = parser.parse_args()
    names = [name for name in arguments.only.split(",") if name] or list(SECTIONS)
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    for program in (arguments.tool, arguments.wire):
        if not os.access(program, os.X_OK):
            parser.error(f"{program} is not a program; run: make bench")

    # So that Ctrl-C and a kill both leave through `finally`, with every server stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    before = machine()
    result = Result()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="handoff-bench-", dir=arguments.work))
    harness = Harness(arguments.tool.resolve(), arguments.wire.resolve(), folder, arguments.quick)
    try:
        for name in names:
            SECTIONS[name](harness, result)
    except BenchError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    seconds = time.time() - result.began
    where = f"{before} The run took {max(1, round(seconds / 60))} min."
    print(render.text(result))
    print(f"\n{where}")
    if arguments.report:
        report(arguments.report, result, where)
    return 0


def machine() -> str:
    """Where and when, in a sentence or two."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return (
        f"{time.strftime('%Y-%m-%d')}, {cores} cores of {model}, {memory:.0f} GiB of memory, {system}, "
        f"Rust {rustc[1] if len(rustc) > 1 else 'unknown'}.{others()}"
    )


def others() -> str:
    """How busy other programs keep the machine, on Linux: what is measured beside them is not worth much."""
    if not os.path.exists("/proc/stat"):
        return ""

    def ticks() -> tuple[int, int]:
        with open("/proc/stat") as lines:
            spent = [int(word) for word in lines.readline().split()[1:9]]
        return sum(spent), spent[3] + spent[4]  # all; idle and waiting for the disk

    all_before, idle_before = ticks()
    time.sleep(2)
    all_after, idle_after = ticks()
    busy = 1 - (idle_after - idle_before) / (all_after - all_before)
    return f" Before the start, other programs used {busy:.0%} of its processor time."


def report(folder: pathlib.Path, result: Result, where: str) -> None:
    """Puts table and plot into the documentation."""
    page = folder / "performance.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    (folder / "performance.svg").write_text(render.svg(result))
    plot = "![Ratios, peak memory and cost per row](performance.svg)"
    page.write_text(f"{before}{BEGIN}\n{where}\n\n{render.markdown(result)}\n\n{plot}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
