"""The files in deploy/: each is held to the schema of the service that it is for, and says what the tool's exit codes need."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator

from tool import Tool

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHECKERS = ROOT / ".venvs/deploy/bin"
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
BATCH = sorted((DEPLOY / "aws-batch").glob("*.json"))
POLICIES = sorted((DEPLOY / "iam").glob("*.json"))
# Exit codes after which the same command ends in the same way.
FINAL = set(range(1, 10))
TEMPORARY = 75


def ids(path: pathlib.Path) -> str:
    return path.stem


def run(*command: str | pathlib.Path) -> subprocess.CompletedProcess:
    # parliament takes a policy from a pipe, even an empty one, rather than from its file
    program = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    return subprocess.run(["python3", "-c", program, *map(str, command)], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def documents(path: pathlib.Path) -> list[dict]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def jobs(path: pathlib.Path) -> dict[str, dict]:
    return {d["metadata"]["name"]: d["spec"] for d in documents(path) if d["kind"] == "Job"}


def parses(tool: Tool, args: list[str], env: dict[str, str] | None = None) -> None:
    """The command line is one that the tool takes: it fails at the address of the source, or later."""
    result = tool.run(*args, env=env, code=None)
    assert result.code != 2, result


# --- Kubernetes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", KUBERNETES, ids=ids)
def test_kubernetes_takes_it(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    command = [CHECKERS / "kubernetes-validate", "--strict"]
    done = subprocess.run([*command, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # The checker does see what is wrong.
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(path.read_text().replace("onExitCodes:", "onExitCode:"))
    assert subprocess.run([*command, wrong], capture_output=True).returncode != 0


@pytest.mark.parametrize("path", KUBERNETES, ids=ids)
def test_kubernetes_repeats_what_helps(path: pathlib.Path) -> None:
    assert jobs(path)
    for name, job in jobs(path).items():
        pod = job["template"]["spec"]
        assert pod["restartPolicy"] == "Never", "a policy for failures needs that"
        assert len(pod["containers"]) == 1
        container = pod["containers"][0]
        ends = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
        assert [rule["onExitCodes"]["operator"] for rule in ends] == ["In"]
        assert ends[0]["onExitCodes"]["containerName"] == container["name"]
        assert set(ends[0]["onExitCodes"]["values"]) == FINAL, name
        assert job.get("backoffLimit", 0) >= 10 or job.get("backoffLimitPerIndex", 0) >= 10, name
        # Nothing is run as root, and nothing is written but the spool.
        assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
        assert {"name": "TMPDIR", "value": "/spool"} in container["env"]
        accounts = {d["metadata"]["name"] for d in documents(path) if d["kind"] == "ServiceAccount"}
        assert pod["serviceAccountName"] in accounts


@pytest.mark.parametrize("path", KUBERNETES, ids=ids)
def test_kubernetes_starts_what_the_tool_takes(path: pathlib.Path, tool: Tool, tmp_path: pathlib.Path) -> None:
    settings = {d["metadata"]["name"]: d["data"] for d in documents(path) if d["kind"] == "ConfigMap"}
    shards = set()
    for name, job in jobs(path).items():
        container = job["template"]["spec"]["containers"][0]
        own = dict(settings[container["envFrom"][0]["configMapRef"]["name"]])
        workers = own.get("WORKERS")
        own |= {"SNAPSHOT": f"file://{tmp_path}/snap", "SOURCE": "http://127.0.0.1:1", "TARGET": "http://127.0.0.1:1"}
        args = [re.sub(r"\$\((\w+)\)", lambda found: own[found[1]], arg) for arg in container["args"]]
        args = [arg.replace("/journal/", f"{tmp_path}/") for arg in args]
        parses(tool, args, {"JOB_COMPLETION_INDEX": "0"})
        if job.get("completionMode") == "Indexed":
            assert str(job["completions"]) == workers
        shards |= {arg for arg in args if "/" in arg and workers and arg.endswith(f"/{workers}")}
    if path.stem == "export":
        assert shards == {f"plan/{workers}", f"env:JOB_COMPLETION_INDEX/{workers}"}


# --- AWS Batch --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BATCH, ids=ids)
def test_aws_batch_takes_it(path: pathlib.Path) -> None:
    definition = json.loads(path.read_text())
    shape = botocore.session.get_session().get_service_model("batch").operation_model("RegisterJobDefinition").input_shape
    report = ParamValidator().validate(definition, shape)
    assert not report.has_errors(), report.generate_report()
    wrong = dict(definition, retryStrategy={"attempts": "ten"})
    assert ParamValidator().validate(wrong, shape).has_errors()
    retry = definition["retryStrategy"]
    assert retry["evaluateOnExit"][0] == {"onExitCode": str(TEMPORARY), "action": "RETRY"}
    assert retry["evaluateOnExit"][-1] == {"onReason": "*", "action": "EXIT"}, "nothing else is repeated"
    assert 1 <= retry["attempts"] <= 10, "what the service takes"


@pytest.mark.parametrize("path", BATCH, ids=ids)
def test_aws_batch_starts_what_the_tool_takes(path: pathlib.Path, tool: Tool, tmp_path: pathlib.Path) -> None:
    definition = json.loads(path.read_text())
    given = definition["parameters"] | {"snapshot": f"file://{tmp_path}/snap", "source": "http://127.0.0.1:1"}
    command = definition["containerProperties"]["command"]
    args = [given[arg.removeprefix("Ref::")] if arg.startswith("Ref::") else arg for arg in command]
    parses(tool, args, {"AWS_BATCH_JOB_ARRAY_INDEX": "3", "AWS_BATCH_JOB_ARRAY_SIZE": "4"})


def test_aws_batch_gets_three_jobs_in_a_row(tmp_path: pathlib.Path) -> None:
    """`submit.sh` with an `aws` that writes down what it is asked."""
    said = tmp_path / "said"
    (tmp_path / "aws").write_text(f'#!/bin/sh\nprintf "%s|" "$@" >>{said}; echo >>{said}; echo "job-$(wc -l <{said} | tr -d " ")"\n')
    (tmp_path / "aws").chmod(0o755)
    arguments = ["queue", "16", "s3://bucket/exports/name", "http://milvus:19530"]
    command = [str(DEPLOY / "aws-batch/submit.sh"), *arguments]
    done = subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "job-3\n", done
    asked = [line.split("|")[2:-1] for line in said.read_text().splitlines()]
    jobs = [dict(zip(words[::2], words[1::2])) for words in asked]
    where = "snapshot=s3://bucket/exports/name,source=http://milvus:19530"
    names = [json.loads(path.read_text())["jobDefinitionName"] for path in BATCH]
    assert {job["--job-definition"] for job in jobs} == set(names)
    assert [job["--parameters"] for job in jobs] == [f"{where},shard=plan/16", where, where]
    assert [job.get("--array-properties") for job in jobs] == [None, "size=16", None]
    assert [job.get("--depends-on") for job in jobs] == [None, "jobId=job-1", "jobId=job-2"]


# --- IAM --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", POLICIES, ids=ids)
def test_iam_takes_it(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    done = run(CHECKERS / "parliament", "--file", path)
    assert done.returncode == 0 and not done.stdout.strip(), done
    wrong = tmp_path / "wrong.json"
    wrong.write_text(path.read_text().replace("s3:", "s3:No"))
    assert "Unknown action" in run(CHECKERS / "parliament", "--file", wrong).stdout


def test_policies_are_those_of_the_docs() -> None:
    """docs/policies.md says what each is for; what stands there is what stands in the files."""
    told = re.findall(r"```json\n(.*?)```", (ROOT / "docs/policies.md").read_text(), re.DOTALL)
    assert sorted(told) == sorted(path.read_text() for path in POLICIES)
