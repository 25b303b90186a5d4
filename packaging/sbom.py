#!/usr/bin/env python3
"""Prints what the binary is made of, as a CycloneDX 1.6 document: every crate with its version, SHA-256 and licence.

    packaging/sbom.py > milvus-handoff.cdx.json

Needs cargo and nothing else. The same Cargo.lock gives the same bytes: there is no time and no random number in it.
Tests, benchmarks and what only runs during the build are left out: they are not in the binary.
"""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def host() -> str:
    told = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    return re.search(r"^host: (.+)$", told, re.MULTILINE)[1]


def metadata(platform: str) -> dict:
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", platform]
    return json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def checksums() -> dict[tuple[str, str], str]:
    """SHA-256 of each crate's archive, as Cargo.lock pins it."""
    found = {}
    for block in (ROOT / "Cargo.lock").read_text().split("[[package]]")[1:]:
        fields = dict(re.findall(r'^(\w+) = "([^"]+)"$', block, re.MULTILINE))
        if "checksum" in fields:
            found[fields["name"], fields["version"]] = fields["checksum"]
    return found


def shipped(about: dict) -> tuple[str, dict[str, list[str]]]:
    """The crate itself, and by its id each crate that is linked, with those that it uses."""
    nodes = {node["id"]: node for node in about["resolve"]["nodes"]}
    root = about["resolve"]["root"]
    uses: dict[str, list[str]] = {}
    waiting = [root]
    while waiting:
        crate = waiting.pop()
        if crate in uses:
            continue
        deps = nodes[crate]["deps"]
        uses[crate] = sorted(dep["pkg"] for dep in deps if any(kind["kind"] is None for kind in dep["dep_kinds"]))
        waiting += uses[crate]
    return root, uses


def licence(package: dict) -> dict:
    if package["license"]:
        # Before SPDX expressions, a slash meant "or".
        return {"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}
    return {"license": {"name": f"see {package['license_file'] or 'the crate'}"}}


def document(platform: str) -> dict:
    about = metadata(platform)
    packages = {package["id"]: package for package in about["packages"]}
    root, uses = shipped(about)
    known = checksums()

    def reference(crate: str) -> str:
        return f"pkg:cargo/{packages[crate]['name']}@{packages[crate]['version']}"

    def component(crate: str) -> dict:
        package = packages[crate]
        one = {
            "type": "application" if crate == root else "library",
            "bom-ref": reference(crate),
            "name": package["name"],
            "version": package["version"],
            "purl": reference(crate),
            "licenses": [licence(package)],
        }
        if checksum := known.get((package["name"], package["version"])):
            one["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        return one

    crates = sorted(uses, key=reference)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(root), "properties": [{"name": "cargo:platform", "value": platform}]},
        "components": [component(crate) for crate in crates if crate != root],
        "dependencies": [{"ref": reference(crate), "dependsOn": sorted(map(reference, uses[crate]))} for crate in crates],
    }


if __name__ == "__main__":
    json.dump(document(sys.argv[1] if len(sys.argv) > 1 else host()), sys.stdout, indent=2)
    print()
