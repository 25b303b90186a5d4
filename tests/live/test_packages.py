"""What is given away: the Python wheel, the list of what the binary is made of, and its licences."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

from tool import Tool

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.timeout(900)
def test_the_wheel_installs_into_a_clean_environment(tool: Tool, tmp_path: pathlib.Path) -> None:
    """Made by maturin of the development build, so that nothing is compiled a second time: what a release would be
    but for the profile."""
    maturin = pathlib.Path(sys.executable).parent / "maturin"
    maturin = pathlib.Path(os.environ.get("MATURIN", maturin))
    assert maturin.exists(), f"{maturin} is missing; run tests/live/venvs.sh"
    command = [maturin, "build", "--profile", "dev", "--locked", "--out", tmp_path / "dist", "--compatibility", "linux"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    version = subprocess.run([tool.binary, "--version"], capture_output=True, text=True, check=True).stdout
    assert wheel.name.startswith(f"milvus_handoff-{version.split()[1]}-py3-none-"), wheel.name

    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    assert any(re.fullmatch(r".*\.data/scripts/milvus-handoff", name) for name in names), names
    assert not [name for name in names if name.endswith((".py", ".so"))], names
    assert any(name.endswith("/LICENSE") for name in names), names
    assert "\nLicense-Expression: Apache-2.0\n" in metadata and "Requires-Dist" not in metadata, metadata[:2000]

    clean = tmp_path / "clean"
    subprocess.run([sys.executable, "-m", "venv", clean], check=True, timeout=120)
    pip = [clean / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--isolated"]
    subprocess.run([*pip, "install", "--no-index", wheel], check=True, capture_output=True, timeout=120)
    binary = clean / "bin" / "milvus-handoff"
    nothing = {"PATH": "/nowhere", "HOME": str(tmp_path)}
    said = subprocess.run([binary, "--version"], env=nothing, capture_output=True, text=True, check=True)
    assert said.stdout == version
    subprocess.run([*pip, "uninstall", "--yes", "milvus-handoff"], check=True, capture_output=True, timeout=120)
    assert not binary.exists()


def sbom() -> bytes:
    return subprocess.run([sys.executable, ROOT / "packaging/sbom.py"], capture_output=True, check=True, timeout=120).stdout


def test_the_list_of_parts_is_complete_and_always_the_same() -> None:
    document = json.loads(first := sbom())
    assert sbom() == first
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    names = {part["name"] for part in document["components"]}
    assert {"tonic", "parquet", "aws-sdk-s3", "milvus-sdk-rust", "minisign"} <= names
    assert not {"insta", "proptest", "s3s", "divan"} & names, "tests are not in the binary"
    assert all(re.fullmatch(r"[0-9a-f]{64}", part["hashes"][0]["content"]) for part in document["components"])
    references = {part["bom-ref"] for part in document["components"]} | {document["metadata"]["component"]["bom-ref"]}
    assert {entry["ref"] for entry in document["dependencies"]} == references
    assert {used for entry in document["dependencies"] for used in entry["dependsOn"]} <= references


def allowed(expression: str, allow: set[str]) -> bool:
    """Whether an SPDX expression can be met with licences that are allowed."""
    terms = re.findall(r"\(|\)|[A-Za-z0-9.+-]+(?: WITH [A-Za-z0-9.+-]+)?", expression)
    words = [term if term in "()" else {"AND": "and", "OR": "or"}.get(term, str(term in allow)) for term in terms]
    return bool(eval(" ".join(words)))  # words of ours only


def test_every_licence_is_an_allowed_one() -> None:
    """What `make licences` checks with cargo-deny, by what the crates declare."""
    text = (ROOT / "deny.toml").read_text()
    allow = set(re.findall(r'^    "([^"]+)",$', text.split("allow = [", 1)[1].split("]", 1)[0], re.MULTILINE))
    assert allowed("(MIT OR GPL-3.0-only) AND Apache-2.0 WITH LLVM-exception", allow) and not allowed("MIT AND GPL-3.0-only", allow)
    parts = json.loads(sbom())["components"]
    undeclared = [part["name"] for part in parts if "expression" not in part["licenses"][0]]
    assert undeclared == ["milvus-sdk-rust"], "its LICENSE file is Apache-2.0's; look at new ones"
    wrong = {part["name"]: part["licenses"][0]["expression"] for part in parts if part["name"] not in undeclared and not allowed(part["licenses"][0]["expression"], allow)}
    assert not wrong, wrong
