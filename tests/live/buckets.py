"""The places where snapshots go: a folder, or a bucket of the S3 server. One interface for both.

The tests look at what is there, download it, and damage it, always with a client of their own (boto3, or the
file system), never with the tool.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil

import boto3
from botocore.config import Config


class Bucket:
    """Names are snapshots; keys are objects below a snapshot."""

    kind = ""
    env: dict[str, str] = {}

    def url(self, name: str) -> str:
        raise NotImplementedError

    def read(self, name: str, key: str) -> bytes:
        raise NotImplementedError

    def write(self, name: str, key: str, data: bytes) -> None:
        raise NotImplementedError

    def delete(self, name: str, key: str) -> None:
        raise NotImplementedError

    def stamps(self) -> dict[str, tuple]:
        """Every object of the whole bucket with its size, content and time of writing: equal means untouched."""
        raise NotImplementedError

    def keys(self, name: str) -> list[str]:
        prefix = f"{name}/"
        return sorted(key[len(prefix) :] for key in self.stamps() if key.startswith(prefix))

    def download(self, name: str, folder: pathlib.Path) -> pathlib.Path:
        for key in self.keys(name):
            file = folder / name / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.read(name, key))
        return folder / name

    def upload(self, name: str, folder: pathlib.Path) -> None:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.write(name, file.relative_to(folder).as_posix(), file.read_bytes())

    def parts(self, name: str) -> list[str]:
        return [key for key in self.keys(name) if key.startswith("data/") and key.endswith(".parquet")]


class FolderBucket(Bucket):
    kind = "file"

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def url(self, name: str) -> str:
        return f"file://{self.folder}/{name}"

    def read(self, name: str, key: str) -> bytes:
        return (self.folder / name / key).read_bytes()

    def write(self, name: str, key: str, data: bytes) -> None:
        file = self.folder / name / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def delete(self, name: str, key: str) -> None:
        (self.folder / name / key).unlink()

    def stamps(self) -> dict[str, tuple]:
        found = {}
        for base, _, files in os.walk(self.folder):
            for file in files:
                path = pathlib.Path(base) / file
                stat = path.stat()
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                found[path.relative_to(self.folder).as_posix()] = (stat.st_size, digest, stat.st_mtime_ns)
        return found

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class S3Bucket(Bucket):
    kind = "s3"

    def __init__(self, endpoint: str, bucket: str, create: bool = True):
        self.bucket = bucket
        self.env = {
            "AWS_ACCESS_KEY_ID": "handoff-test",
            "AWS_SECRET_ACCESS_KEY": "handoff-test-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": endpoint,
        }
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.env["AWS_SECRET_ACCESS_KEY"],
            config=Config(s3={"addressing_style": "path"}),
        )
        if create:
            self.client.create_bucket(Bucket=bucket)

    def url(self, name: str) -> str:
        return f"s3://{self.bucket}/exports/{name}"

    def read(self, name: str, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=f"exports/{name}/{key}")["Body"].read()

    def write(self, name: str, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"exports/{name}/{key}", Body=data, ChecksumAlgorithm="SHA256")

    def delete(self, name: str, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=f"exports/{name}/{key}")

    def stamps(self) -> dict[str, tuple]:
        found = {}
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for item in page.get("Contents", []):
                assert item["Key"].startswith("exports/"), f"an object outside the prefix: {item['Key']}"
                found[item["Key"][len("exports/") :]] = (item["Size"], item["ETag"], item["LastModified"])
        return found
