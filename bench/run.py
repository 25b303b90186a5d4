"""The benchmark: what the tool costs, as ratios within one run. `make bench` builds what it needs and runs this.

    bench/run.py --tool milvus-handoff --wire bench-wire [--quick] [--only SECTION,...] [--report FOLDER]

Prints a table. With `--report`, also writes the plot `performance.svg` into the folder and puts the table between the
markers of its `performance.md`; everything else on that page is left as it is. `--quick` makes everything small: it
shows that the harness works, its figures mean nothing. Sections: export, import, client, verify, memory, growth.

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
    print(render.text(result))
    print(f"\n{before} The whole run took {seconds / 60:.0f} minutes.")
    if arguments.report:
        report(arguments.report, result, f"{before} The whole run took {seconds / 60:.0f} minutes.")
    return 0


def machine() -> str:
    """Where and when, in a sentence or two."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rustc = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=False).stdout.split()
    load = os.getloadavg()[0]
    quiet = "The machine was otherwise idle" if load < 0.5 else "The machine was busy with other work"
    return (
        f"{time.strftime('%Y-%m-%d')}, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} "
        f"cores of {model}, {memory:.0f} GiB of memory, {platform.system()} {platform.release()}, "
        f"Rust {rustc[1] if len(rustc) > 1 else 'unknown'}. {quiet} (load {load:.1f} at the start)."
    )


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
