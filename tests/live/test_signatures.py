"""The command `minisign` and this tool check each other's signatures and read each other's keys."""

from __future__ import annotations

import os
import pathlib
import pty
import shutil
import subprocess
import termios

import pytest

from tool import DENIED, INTEGRITY, Tool, wait_for

ROOT = pathlib.Path(__file__).parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "v1"
PASSWORD = "canary-of-the-key-2d81"


@pytest.fixture(scope="session")
def minisign() -> pathlib.Path:
    """The stock command: the system's, or the one that tests/live/venvs.sh unpacks from Debian's package."""
    unpacked = ROOT / ".venvs" / "minisign" / "minisign"
    found = shutil.which("minisign") or (str(unpacked) if os.access(unpacked, os.X_OK) else None)
    if not found:
        pytest.fail("there is no command minisign, and no package of it could be had: install it (apt install minisign)", pytrace=False)
    return pathlib.Path(found)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    shutil.copytree(FIXTURE, tmp_path / "snap")
    return tmp_path


def url(place: pathlib.Path) -> str:
    return f"file://{place / 'snap'}"


def minisign_run(minisign: pathlib.Path, place: pathlib.Path, *args: str, answers: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(minisign), *args], cwd=place, input=answers, capture_output=True, text=True, timeout=120)


def flip(file: pathlib.Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_minisign_checks_what_is_signed_here(tool: Tool, minisign: pathlib.Path, place: pathlib.Path, password: str | None) -> None:
    env = {"MILVUS_HANDOFF_KEY_PASSWORD": password} if password else {}
    made = tool.run("keygen", str(place / "k"), *([] if password else ["--no-password"]), env=env)
    signed = tool.run("sign", url(place), "--key", str(place / "k"), env=env)
    signature = f"snap/{signed.doc['signature']}"
    check = ["-V", "-m", "snap/COMMIT.json", "-x", signature]
    for key in (["-p", "k.pub"], ["-P", made.doc["public_key"]]):
        good = minisign_run(minisign, place, *check, *key)
        assert good.returncode == 0, good.stderr
        assert f"Trusted comment: snapshot {signed.doc['snapshot']['id']} signed 20" in good.stdout, good.stdout

    # It signs with the key that was made here, too.
    signed_there = minisign_run(minisign, place, "-S", "-m", "snap/COMMIT.json", "-s", "k", answers=f"{password or ''}\n")
    assert signed_there.returncode == 0, signed_there.stderr
    found = tool.run("verify", url(place), "--trusted-key", str(place / "k.pub")).doc["signatures"]
    assert [s["state"] for s in found] == ["valid", "valid"]
    flip(place / "snap" / "COMMIT.json")
    assert minisign_run(minisign, place, *check, "-p", "k.pub").returncode == 1
    tool.run("verify", url(place), "--trusted-key", str(place / "k.pub"), code=INTEGRITY)


@pytest.mark.parametrize("password", ["", PASSWORD])
def test_what_minisign_signs_is_checked_here(tool: Tool, minisign: pathlib.Path, place: pathlib.Path, password: str) -> None:
    # minisign asks for a password on standard input, twice, if it is no terminal; -W makes a key without one.
    made = minisign_run(minisign, place, "-G", "-p", "m.pub", "-s", "m.key", *([] if password else ["-W"]), answers=f"{password}\n" * 2)
    assert made.returncode == 0, made.stderr
    signed = minisign_run(minisign, place, "-S", "-m", "snap/COMMIT.json", "-s", "m.key", "-t", "by hand", answers=f"{password}\n")
    assert signed.returncode == 0, signed.stderr
    found = tool.run("verify", url(place), "--trusted-key", str(place / "m.pub")).doc["signatures"]
    assert [(s["key"], s["state"], s["trusted_comment"]) for s in found] == [("COMMIT.json.minisig", "valid", "by hand")]

    # Its secret key signs here, too.
    env = {"MILVUS_HANDOFF_KEY_PASSWORD": password} if password else {}
    if password:
        tool.run("sign", url(place), "--key", str(place / "m.key"), env={"MILVUS_HANDOFF_KEY_PASSWORD": "wrong"}, code=DENIED)
    tool.run("sign", url(place), "--key", str(place / "m.key"), env=env)
    found = tool.run("verify", url(place), "--trusted-key", str(place / "m.pub")).doc["signatures"]
    assert [s["state"] for s in found] == ["valid", "valid"]

    flip(place / "snap" / "COMMIT.json")
    tool.run("verify", url(place), "--trusted-key", str(place / "m.pub"), code=INTEGRITY)


def test_a_terminal_is_asked_for_the_password(tool: Tool, place: pathlib.Path) -> None:
    """Twice for a new key, and nothing that is typed is shown."""
    shown = on_a_terminal(tool, place, ["keygen", "k"], ["Password for the new key: ", "The same again: "])
    assert "Successful" in shown and PASSWORD not in shown, shown
    shown = on_a_terminal(tool, place, ["sign", url(place), "--key", "k"], ["Password of k: "])
    assert "Successful" in shown and PASSWORD not in shown, shown
    tool.run("verify", url(place), "--trusted-key", str(place / "k.pub"))


def on_a_terminal(tool: Tool, place: pathlib.Path, args: list[str], questions: list[str]) -> str:
    """Runs the tool on a terminal of its own, answers each question with the password, and returns what was shown."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(place)
        os.execve(tool.binary, [str(tool.binary), *args], tool.environment(None))
    shown = ""
    while True:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        shown += more.decode()
        if questions and shown.endswith(questions[0]):
            questions = questions[1:]
            wait_for("an end of echoing", lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
            os.write(terminal, f"{PASSWORD}\n".encode())
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0 and not questions, shown
    return shown
