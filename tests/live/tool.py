"""Runs the tool under test, and holds every run to what the command line promises whatever the command:
one JSON document on stdout and nothing else, exit codes that agree with it, `Successful` last and only on success,
`error[MH-...]:` on stderr on failure, and no secret anywhere."""

from __future__ import annotations

import base64
import json
import os
import pathlib
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Callable

TIMEOUT = 240

COMPARISONS = ("verify", "compare", "diff", "report", "doctor")  # what they find is a result, not an error
USAGE, DENIED, NOT_FOUND, EXISTS, INTEGRITY, UNSUPPORTED, CHANGED, TEMPORARY = 2, 3, 4, 5, 6, 7, 8, 75
KINDS = {
    1: "internal", 2: "usage", 3: "denied", 4: "not-found", 5: "exists", 6: "integrity", 7: "unsupported",
    8: "source-changed", 9: "outcome-unknown", 75: "temporary", 130: "interrupted", 143: "terminated",
}  # fmt: skip


@dataclass
class Result:
    """One run. `doc` is the JSON document, or None when it was not asked for."""

    argv: list[str]
    code: int
    stdout: str
    stderr: str
    doc: dict[str, Any] | None
    seconds: float

    @property
    def error(self) -> dict[str, Any]:
        assert self.doc is not None and self.doc["status"] == "failed", self.story()
        return self.doc["error"]

    def story(self) -> str:
        return (
            f"$ milvus-handoff {' '.join(self.argv)}\nexit code {self.code} after {self.seconds:.1f} s\n"
            f"--- stdout\n{self.stdout[-6000:]}\n--- stderr\n{self.stderr[-6000:]}"
        )

    def __str__(self) -> str:
        return self.story()


class Tool:
    def __init__(self, binary: pathlib.Path, home: pathlib.Path):
        self.binary = binary
        self.home = home
        # What a run that is killed leaves there goes with it.
        self.spool = home / "spool"
        self.spool.mkdir()

    def environment(self, env: dict[str, str] | None) -> dict[str, str]:
        """Ours, without what could make a run depend on the machine's own AWS settings."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MILVUS_HANDOFF_"))}
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            kept["AWS_CA_BUNDLE"] = bundle
        nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
        return {**kept, **nowhere, "HOME": str(self.home), "TMPDIR": str(self.spool), "NO_COLOR": "1", "RUST_BACKTRACE": "1", **(env or {})}

    def start(self, *args: str, env: dict[str, str] | None = None, cwd: pathlib.Path | None = None) -> subprocess.Popen:
        return subprocess.Popen(
            [str(self.binary), *args],
            env=self.environment(env),
            cwd=cwd or self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self,
        *args: str,
        env: dict[str, str] | None = None,
        code: int | None = 0,
        as_json: bool = True,
        cwd: pathlib.Path | None = None,
        timeout: float = TIMEOUT,
    ) -> Result:
        """Runs it to its end and checks the promises; `code` is the exit code wanted (None: any)."""
        argv = [*args, "--json"] if as_json else [*args]
        began = time.monotonic()
        process = self.start(*argv, env=env, cwd=cwd)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(
                f"no end after {timeout:.0f} s: milvus-handoff {' '.join(argv)}\n{err.decode(errors='replace')[-4000:]}"
            ) from None
        result = self.result(argv, process.returncode, out, err, time.monotonic() - began, as_json)
        self.check(result, env or {}, as_json)
        assert code is None or result.code == code, f"wanted exit code {code}\n{result.story()}"
        return result

    def result(self, argv: list[str], code: int, out: bytes, err: bytes, seconds: float, as_json: bool) -> Result:
        stdout, stderr = out.decode(), err.decode()
        result = Result(argv, code, stdout, stderr, None, seconds)
        if as_json:
            try:
                result.doc = json.loads(stdout)
            except ValueError as error:
                raise AssertionError(f"stdout is not one JSON document: {error}\n{result.story()}") from None
        return result

    def check(self, result: Result, env: dict[str, str], as_json: bool) -> None:
        why = result.story()
        assert "panicked at" not in result.stderr and result.code != 101, f"it panicked\n{why}"
        for name, value in env.items():
            if name.endswith("_TOKEN") and value:
                secrets = {value, base64.b64encode(value.encode()).decode(), value.split(":", 1)[-1]}
                for secret in secrets - {"Milvus"}:  # the default password is a word that everyone may say
                    assert secret not in result.stdout + result.stderr, f"the secret of {name} is printed\n{why}"
            if name.endswith("_SECRET_ACCESS_KEY"):
                assert value not in result.stdout + result.stderr, f"the secret of {name} is printed\n{why}"
        if result.code == 0:
            assert not any(line.startswith(("error:", "error[")) for line in result.stderr.splitlines()), why
        elif not (result.code == INTEGRITY and result.argv[0] in COMPARISONS or result.argv[0] == "doctor"):
            assert re.search(r"^error\[MH-[A-Z-]+\]: ", result.stderr, re.MULTILINE), f"no `error[MH-...]: ` on stderr\n{why}"
        if as_json:
            doc = result.doc
            assert doc is not None
            assert doc.get("version") == 1, why
            # a command line that cannot be understood may have no command
            assert doc.get("command") == result.argv[0] or result.code == USAGE, why
            if result.code == 0:
                assert doc["status"] in ("successful", "planned"), why
            else:
                assert doc["status"] == "failed", why
                if result.argv[0] not in COMPARISONS or "error" in doc:
                    assert doc["error"]["exit_code"] == result.code, why
                    assert doc["error"]["kind"] == KINDS.get(result.code), why
                    assert doc["error"]["message"], why
                    assert f"error[{doc['error']['code']}]: " in result.stderr, why
                else:
                    assert doc["code"].startswith("MH-"), why
        else:
            last = (result.stdout.rstrip().splitlines() or [""])[-1]
            if result.code == 0 and result.argv[0] != "inspect" and "--plan" not in result.argv:
                assert last.startswith("Successful"), f"the last line does not say Successful\n{why}"
            if result.code != 0:
                assert "Successful" not in result.stdout, why


def wait_for(what: str, condition: Callable[[], Any], timeout: float = 60, every: float = 0.01) -> Any:
    """Waits until `condition` gives something true and returns that."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:.0f} s for {what}"
        time.sleep(every)
    return value


def text_now(path: pathlib.Path) -> str:
    """A file's text; empty if it is not there yet, or no longer."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def end(process: subprocess.Popen, how: signal.Signals, timeout: float = 60) -> tuple[int, str, str]:
    """Sends a signal and returns exit code, stdout and stderr."""
    process.send_signal(how)
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out.decode(), err.decode()
