"""Object lock: what is exported cannot be deleted, and its versions are told."""

from __future__ import annotations

import datetime

import pytest
from botocore.exceptions import ClientError

import data
import tool as exits
from buckets import FolderBucket, S3Bucket
from conftest import Servers
from tool import Tool


@pytest.fixture
def locked(moto: str, unique: str) -> S3Bucket:
    bucket = S3Bucket(moto, unique, create=False)
    bucket.client.create_bucket(Bucket=unique, ObjectLockEnabledForBucket=True)
    return bucket


def test_a_locked_snapshot(tool: Tool, clusters: Servers, unique: str, locked: S3Bucket) -> None:
    source = clusters("lite322")
    source.fill(data.plain(unique, 40))
    lock = ("--object-lock", "governance", "--retain-until", "2131-12-31")
    args = ("export", locked.url("snap"), "--source", source.uri, "-c", unique, *lock)
    result = tool.run(*args, "--expected-bucket-owner", "123456789012", "--requester-pays", env=locked.env)
    told = result.doc["versions"]
    listed = locked.client.list_object_versions(Bucket=locked.bucket)["Versions"]
    found = {item["Key"].removeprefix("exports/snap/"): item["VersionId"] for item in listed}
    assert told == found and "COMMIT.json" in told, result
    until = datetime.datetime(2131, 12, 31, tzinfo=datetime.timezone.utc)
    for key, version in told.items():
        about = locked.client.head_object(Bucket=locked.bucket, Key=f"exports/snap/{key}", VersionId=version)
        assert (about["ObjectLockMode"], about["ObjectLockRetainUntilDate"]) == ("GOVERNANCE", until), key
        with pytest.raises(ClientError, match="AccessDenied"):
            locked.client.delete_object(Bucket=locked.bucket, Key=f"exports/snap/{key}", VersionId=version)
    tool.run("verify", locked.url("snap"), "--requester-pays", env=locked.env)
    text = tool.run("export", locked.url("again"), *args[2:], env=locked.env, as_json=False)
    assert "version of COMMIT.json in the bucket: " in text.stdout, text


def test_what_a_lock_needs(tool: Tool, small_folder: FolderBucket) -> None:
    url = small_folder.url("snap")
    for args in (
        ("export", url, "--source", "http://127.0.0.1:1", "--object-lock", "governance"),
        ("export", url, "--source", "http://127.0.0.1:1", "--object-lock", "compliance", "--retain-until", "2001-01-01"),
        ("export", url, "--source", "http://127.0.0.1:1", "--sse-kms-key", "alias/k"),
        ("verify", url, "--expected-bucket-owner", "123456789012"),
    ):
        tool.run(*args, code=exits.USAGE)
