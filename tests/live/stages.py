"""What the tests of bulk imports share: the bucket that a Milvus keeps its data in, and the journal of an import."""

from __future__ import annotations

import json
import pathlib
import uuid
from typing import Any

import boto3
from botocore.config import Config


class Storage:
    """The bucket that the target keeps its data in."""

    # moto takes any credentials; these are told apart from the snapshot's all the same
    OWN = {
        "MILVUS_HANDOFF_STAGE_ACCESS_KEY_ID": "milvus-own",
        "MILVUS_HANDOFF_STAGE_SECRET_ACCESS_KEY": "milvus-own-secret",
    }

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        self.bucket = f"milvus-{uuid.uuid4().hex[:10]}"
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
            config=Config(s3={"addressing_style": "path"}),
        )
        self.client.create_bucket(Bucket=self.bucket)

    def stage(self, prefix: str) -> tuple[str, ...]:
        return ("--via", "bulk", "--stage", f"s3://{self.bucket}/{prefix}", "--stage-endpoint", self.endpoint)

    def staged(self, prefix: str) -> list[str]:
        found = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{prefix}/"):
            found += [item["Key"] for item in page.get("Contents", [])]
        return found

    def write(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()


def journal_lines(path: pathlib.Path) -> list[dict[str, Any]]:
    """The whole lines of a journal but the first."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:  # not begun, or finished
        return []
    return [json.loads(line.split(b" ", 1)[1]) for line in lines[1:]]
