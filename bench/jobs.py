"""The jobs of a bulk import and nothing else: asks Milvus for one job a file, some at a time, and waits until all are
complete. A file's path is what the server reads; all go into the default partition.

    .venvs/bench/bin/python jobs.py URI COLLECTION AT_ONCE FILE...     (credentials in BENCH_TOKEN)

prints one JSON line with the rows loaded, and the seconds from the first request to the last job's end.
"""

import json
import os
import sys
import time

from pymilvus import BulkInsertState, connections, utility

LOOK = 0.05  # seconds


def main() -> None:
    uri, collection, at_once, *files = sys.argv[1:]
    connections.connect(uri=uri, token=os.environ.get("BENCH_TOKEN", ""))
    waiting, running, rows = list(reversed(files)), [], 0
    began = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < int(at_once):
            running.append(utility.do_bulk_insert(collection, [waiting.pop()]))
        time.sleep(LOOK)
        for job in list(running):
            state = utility.get_bulk_insert_state(job)
            if state.state in (BulkInsertState.ImportFailed, BulkInsertState.ImportFailedAndCleaned):
                raise SystemExit(f"job {job}: {state.failed_reason}")
            if state.state == BulkInsertState.ImportCompleted:
                running.remove(job)
                rows += state.row_count
    print(json.dumps({"rows": rows, "seconds": time.perf_counter() - began}))


main()
