"""Runs one command and says what it cost: wall time, CPU time of user and system, peak memory, as the operating
system accounts for the child (`wait4`). A small process of its own, because on Linux the peak memory of a child
begins with that of the process that started it.

    python -I -S measure.py [--since TEXT] [--until TEXT [--stop]] STDOUT STDERR COMMAND...

prints one JSON line. With `--until`, also the time until the first line on stderr that holds TEXT, counted from the
start, or from the first line that holds the TEXT of `--since`; with `--stop`, the command is then ended by SIGTERM.
"""

import json
import os
import subprocess
import sys
import time


def main() -> None:
    arguments = sys.argv[1:]
    since, text, stop = None, None, False
    if arguments[0] == "--since":
        since = arguments[1].encode()
        del arguments[:2]
    if arguments[0] == "--until":
        text = arguments[1].encode()
        stop = arguments[2] == "--stop"
        del arguments[: 3 if stop else 2]
    stdout, stderr, *command = arguments
    until = None
    with open(stdout, "wb") as out, open(stderr, "wb") as err:
        began = counted = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE if text else err
        )
        if text:
            for line in process.stderr:
                if since and since in line:
                    counted, since = time.perf_counter(), None
                if until is None and text in line:
                    until = time.perf_counter() - counted
                    if stop:
                        process.terminate()
                err.write(line)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
    print(json.dumps({
        "code": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "until": until,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        # kilobytes on Linux, bytes on macOS
        "memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }))  # fmt: skip


main()
