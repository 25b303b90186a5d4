#!/usr/bin/env bash
# The demo: two organizations, one folder between them. Called by `make demo` after the build.
# Installs what it needs under .venvs/ (the first time takes a while), then runs demo.py.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tests/live/venvs.sh demo
exec .venvs/lite322/bin/python demo/demo.py "$@"
