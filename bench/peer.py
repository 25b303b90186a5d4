"""What people use today to get a collection out of Milvus as Parquet: pymilvus' query iterator, and its BulkWriter
(`LocalBulkWriter`). Written as their documentation shows it; batches are larger than the 1,000 rows that are the default,
which helps it.

    .venvs/bench/bin/python peer.py URI COLLECTION FOLDER     (credentials in BENCH_TOKEN)

prints one JSON line with the rows written and the bytes of the files.
"""

import json
import os
import pathlib
import sys

from pymilvus import MilvusClient
from pymilvus.bulk_writer import BulkFileType, LocalBulkWriter
from pymilvus.orm.schema import CollectionSchema

BATCH = 5000


def main() -> None:
    uri, collection, folder = sys.argv[1:]
    client = MilvusClient(uri=uri, token=os.environ.get("BENCH_TOKEN", ""))
    description = client.describe_collection(collection)
    schema = CollectionSchema.construct_from_dict(description)
    writer = LocalBulkWriter(schema=schema, local_path=folder, file_type=BulkFileType.PARQUET)
    fields = [field["name"] for field in description["fields"]]
    iterator = client.query_iterator(collection, batch_size=BATCH, output_fields=fields)
    rows = 0
    while batch := iterator.next():
        for row in batch:
            writer.append_row({name: row[name] for name in fields})
        rows += len(batch)
    iterator.close()
    writer.commit()
    size = sum(pathlib.Path(file).stat().st_size for files in writer.batch_files for file in files)
    print(json.dumps({"rows": rows, "bytes": size}))


main()
